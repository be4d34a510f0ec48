"""Base models as transformers loads them, from this machine only."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from adaptr.errors import AdaptrError, CheckpointError, phrases, shown

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Folder = str | os.PathLike[str]
T = TypeVar("T")


def loaded(base: Folder | PreTrainedModel) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """(model, tokenizer) of a folder, or of a live model that says where its tokenizer is."""
    from adaptr.host.packed import require_sound

    transformers = quiet_transformers()
    folder = base if isinstance(base, str | os.PathLike) else base.config._name_or_path
    tokenizer = explained(folder, transformers.AutoTokenizer.from_pretrained)
    if not isinstance(base, str | os.PathLike):
        return base, tokenizer
    model = model_at(folder, transformers.AutoModelForCausalLM.from_pretrained).eval()
    require_sound(model)
    return model, tokenizer


def quiet_transformers() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise phrases.extra("running a model", "transformers", "train") from error
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    found: ModuleType = transformers
    return found


def explained(base: Folder, load: Callable[..., T], **options: object) -> T:
    """What `load` gives for the base, from this machine only."""
    try:
        return load(base, local_files_only=True, **options)
    except (OSError, ValueError) as error:
        if not os.path.exists(base):
            raise CheckpointError(
                f"there is nothing at `{base}`, and the Hub's cache has no model of that name",
                hint=phrases.near(str(base)) or "give a folder with a `config.json`, or fetch it (`hf download`)",
            ) from error
        first, *more = str(error).strip().split("\n")
        reason = " ".join([first, *map(str.strip, more)]) if first.rstrip().endswith(":") else first
        raise CheckpointError(
            f"`{base}` can't be loaded by transformers: {reason}",
            hint="load it in Python by what it was made with, and give the model",
        ) from error
    except (MemoryError, AdaptrError):
        raise
    except Exception as error:  # transformers raises whatever the files lead it to
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"`{base}` can't be loaded by transformers: {shown(reason, 200)}",
            hint="load it in Python by what it was made with, and give the model",
        ) from error


def model_at(base: Folder, load: Callable[..., T], **options: object) -> T:
    """The same of an `AutoModel...`, which looks for a PEFT adapter at the base, and asks the Hub unless it is told not
    to.
    """
    return explained(base, load, adapter_kwargs={"local_files_only": True}, **options)
