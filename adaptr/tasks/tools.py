"""Tokenizer and processor of a base, and whether they belong to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import CheckpointError, shown
from adaptr.format import digest
from adaptr.models.load import explained, quiet_transformers
from adaptr.tasks.base import Tools

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

PROCESSORS = ("preprocessor_config.json", "processor_config.json")
VOCABULARIES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
#: What changes ids and is beside a vocabulary.
BESIDE = ("merges.txt", "added_tokens.json", "special_tokens_map.json", "chat_template.jinja", "chat_template.json")


def tools(base: Path) -> Tools:
    """What a base's folder has of both. Raises `CheckpointError`."""
    transformers = quiet_transformers()
    config = explained(base, transformers.AutoConfig.from_pretrained)
    tokenizer = explained(base, transformers.AutoTokenizer.from_pretrained) if _has_tokenizer(base) else None
    processor = None
    if any((base / name).exists() for name in PROCESSORS):
        processor = explained(base, transformers.AutoProcessor.from_pretrained)
    if tokenizer is None:
        return Tools(None, processor)
    rows = getattr(config.get_text_config(), "vocab_size", None) or len(tokenizer)
    pad, said = fill(tokenizer, rows)
    return Tools(tokenizer, processor, pad, _places(config, tokenizer), said)


def _places(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Some models have more positions than tokens may have: their tokenizer knows."""
    places: int = getattr(config.get_text_config(), "max_position_embeddings", None) or 0
    return int(min(places, tokenizer.model_max_length))


def _has_tokenizer(base: Path) -> bool:
    return any((base / name).exists() for name in VOCABULARIES)


def of_tools(base: Path) -> str:
    """`sha256:` of the files of tokenizer and processor, by which the same data is the same ids; "" without any."""
    files = [base / name for name in (*VOCABULARIES, *BESIDE, *PROCESSORS) if (base / name).is_file()]
    return digest.of_files(files) if files else ""


def fill(tokenizer: PreTrainedTokenizerBase, rows: int) -> tuple[int, tuple[str, ...]]:
    """The id that short rows are filled with, and what there is to say of it. `rows`: of the base's embedding.

    Raises `CheckpointError` where the tokenizer has tokens, other than one for filling, that the base has no row for.
    """
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    beyond = sorted(name for name, one in tokenizer.get_added_vocab().items() if one >= rows and one != pad)
    if beyond:
        raise CheckpointError(
            f"the tokenizer has tokens that the base has no row for: `{shown(beyond[0])}`"
            + (f" and {len(beyond) - 1} more" if len(beyond) > 1 else ""),
            got=f"{tokenizer.convert_tokens_to_ids(beyond[0])}",
            want=f"an id below {rows}",
            hint="use the base's own tokenizer; adaptr does not resize an embedding",
        )
    if pad is not None and pad < rows:
        return pad, ()
    spare = end if end is not None and end < rows else 0
    why = "the tokenizer has no token to fill rows with"
    if pad is not None:
        why = f"the tokenizer's `{shown(str(tokenizer.pad_token))}` ({pad}) has no row in the base's embedding ({rows})"
    return spare, (f"{why}: rows are filled with {spare}, masked, and nothing is resized",)
