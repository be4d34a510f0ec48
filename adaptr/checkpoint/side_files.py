"""Files beside the weights that a merge may change, and an unmerge give back: never weights, code or pickles."""

from __future__ import annotations

from adaptr.checkpoint.parts import INDEX

CONFIG = "config.json"
#: What tokenizers are saved as: vocabularies, rules and templates.
TOKENIZER = frozenset({
    "added_tokens.json", "bpe.codes", "chat_template.jinja", "chat_template.json", "dict.txt", "emoji.json",
    "merges.txt", "normalizer.json", "sentencepiece.bpe.model", "sentencepiece.model", "source.spm",
    "special_tokens_map.json", "spiece.model", "spm.model", "target.spm", "tekken.json", "tiktoken.model",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt",
})  # fmt: skip
CHANGEABLE = TOKENIZER | {CONFIG, INDEX}
