"""The configuration of a model in a GGUF file, as transformers reads it out of the header; none of its weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adaptr.errors import CheckpointError, phrases, shown
from adaptr.format.gguf import GgufHeader, open_header, shortened
from adaptr.untrusted import opened

#: The vocabulary.
WORDS = "tokenizer.ggml.tokens"
#: What every model's header says, behind its architecture.
SIZES = ("block_count", "embedding_length", "attention.head_count")


def configuration(file: Path) -> Mapping[str, Any]:
    """What a `config.json` of the model would say.

    Raises a `HeaderError` for a file that is damaged, `CheckpointError` for one of no model that transformers knows,
    `MissingExtra` without transformers or gguf.
    """
    header = _require_sizes(file)
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
        with _short(file, header) as short:
            found: dict[str, Any] = load_gguf_checkpoint(short, return_tensors=False)["config"]
        found = {**({"vocab_size": words} if (words := header.length(WORDS)) else {}), **found}
        heads = {"num_key_value_heads": found["num_attention_heads"]} if "num_attention_heads" in found else {}
        return {**heads, **found, "architectures": [CLASSES[found["model_type"]]]}
    except Exception as error:  # transformers raises whatever the header leads it to
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"`{file}` holds no model that transformers knows: {shown(reason, 200)}",
            hint="give the folder with the model's `config.json`",
        ) from None


@contextmanager
def _short(file: Path, header: GgufHeader) -> Iterator[str]:
    """A file with the same header but for its vocabulary, of which transformers and gguf would make many times as many
    bytes; the tensors in it take no room.
    """
    with tempfile.NamedTemporaryFile(suffix=".gguf") as made, opened(file) as whole:
        made.write(shortened(header, whole.read(header.data)))
        made.truncate(made.tell() + header.end - header.data)
        made.flush()
        yield made.name


def _require_sizes(file: Path) -> GgufHeader:
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
    return header
