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
#: What configurations call the number of places that there are.
PLACES = ("max_position_embeddings", "max_seq_len", "max_seq_length")
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
    """The least of what configuration, table of positions and tokenizer say; 0 where the model says none: then the
    tokenizer's is a habit.
    """
    said = [getattr(config.get_text_config(), name, None) for name in PLACES]
    found = [n for n in said if isinstance(n, int) and n > 0]
    return min(*found, *_tables(config), int(tokenizer.model_max_length)) if found else 0


def _tables(config: PretrainedConfig) -> list[int]:
    """Places of tables whose first rows are for what is filled, as RoBERTa's: positions are counted from behind them.
    None of these goes on with texts.
    """
    import torch
    from transformers import AutoModel

    if str(config.architectures or "").endswith(("ForCausalLM']", "LMHeadModel']")):
        return []
    try:
        with torch.device("meta"):
            model = AutoModel.from_config(config)
    except ValueError:  # none of those that transformers builds by a configuration alone
        return []
    tables = [one for name, one in model.named_modules() if name.endswith("position_embeddings")]
    return [one.num_embeddings - one.padding_idx - 1 for one in tables if getattr(one, "padding_idx", None) is not None]


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
