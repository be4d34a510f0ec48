"""Adapters from and to live models of PEFT."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.converting.convert import convert
from adaptr.errors import UsageError, shown
from adaptr.host.live import model_of
from adaptr.sources.disk import load
from adaptr.sources.given import Given

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn

    from adaptr.adapter import Adapter

#: What PEFT calls an adapter of which nobody says what it is called.
DEFAULT = "default"


def from_peft(model: PeftModel, name: str = DEFAULT) -> Adapter:
    """The adapter `name` of a live `PeftModel`, in memory, as its file would be read. The model stays as it is.

    Raises `UsageError` for what is no `PeftModel` or has no adapter of that name.
    """
    there = getattr(model, "peft_config", None)
    if there is None or not hasattr(model, "save_pretrained"):
        raise UsageError("the model", got=f"`{shown(type(model).__name__)}`", want="a `PeftModel`")
    if name not in there:
        raise UsageError(f"the model has no adapter `{shown(name)}`", hint=f"it has {', '.join(there)}")
    with tempfile.TemporaryDirectory(prefix="adaptr-") as folder:
        model.save_pretrained(folder, selected_adapters=[name])
        place = Path(folder) if name == DEFAULT else Path(folder) / name
        found = load(place)
        called = "" if name == DEFAULT else name
        return found.replace(tensors={key: found.tensors[key] for key in found.tensors}, source="", name=called)


def to_peft(adapter: Given, model: nn.Module, name: str = DEFAULT) -> PeftModel:
    """`model` with the adapter on it as PEFT has it, which must be installed, under `name`.

    Raises what `convert` to PEFT raises.
    """
    from peft import PeftModel

    model = model_of(model)
    with tempfile.TemporaryDirectory(prefix="adaptr-") as folder:
        convert(adapter, Path(folder) / "peft", "peft", base=model)
        made: PeftModel = PeftModel.from_pretrained(model, str(Path(folder) / "peft"), adapter_name=name)
    return made
