"""The configuration of a model in a GGUF file, as transformers reads it out of the header; none of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptr.errors import CheckpointError, phrases, shown
from adaptr.format.gguf import open_header

#: What every model's header says, behind its architecture.
SIZES = ("block_count", "embedding_length", "attention.head_count")


def configuration(file: Path) -> Mapping[str, Any]:
    """What a `config.json` of the model would say.

    Raises a `HeaderError` for a file that is damaged, `CheckpointError` for one of no model that transformers knows,
    `MissingExtra` without transformers or gguf.
    """
    _require_sizes(file)
    try:
        from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CLASSES
    except ImportError:
        raise phrases.extra("knowing a base's modules", "transformers", "train") from None
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise phrases.extra("a base in a GGUF file", "gguf", "gguf") from None
    try:
        found: dict[str, Any] = load_gguf_checkpoint(str(file), return_tensors=False)["config"]
        heads = {"num_key_value_heads": found["num_attention_heads"]} if "num_attention_heads" in found else {}
        return {**heads, **found, "architectures": [CLASSES[found["model_type"]]]}
    except Exception as error:  # transformers raises whatever the header leads it to
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"`{file}` holds no model that transformers knows: {shown(reason, 200)}",
            hint="give the folder with the model's `config.json`",
        ) from None


def _require_sizes(file: Path) -> None:
    """Raises as `configuration` does where sizes are not there: transformers would put in those of some other model.

    The header is read here first, as the library that transformers asks believes what a file says of its lengths.
    """
    header = open_header(file)
    wanted = [f"{header.text('general.architecture')}.{name}" for name in SIZES]
    missing = [name for name in wanted if not header.count(name)]
    if missing:
        raise CheckpointError(
            f"`{file}` says nothing of {phrases.listed(missing)}, so it doesn't say what the base is",
            hint="give the folder with the model's `config.json`",
        )
