"""A merge that is written in another dtype than its base's: all floats of the checkpoint, rounded once.

A wider dtype holds all that the base holds, and so the merge can be undone: what lies below a merged weight is computed
as ever and rounded to the base's dtype, which gives its bits but for a few. From a narrower one nothing brings the
base's last digits back, and a receipt with them would be as large as the base: it has none, and says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptr.bulk.change import FLOATS, Change, Plan
from adaptr.checkpoint.open import Checkpoint
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.stored import Stored
from adaptr.errors import Unsupported
from adaptr.format.io import SAFETENSORS_NAMES, TORCH_NAMES
from adaptr.models.sizes import Config
from adaptr.precision import NAMES, named

if TYPE_CHECKING:
    import torch

#: Merges are computed in fp32, so that nothing wider is written.
WRITTEN = {short: name for short, name in NAMES.items() if short != "fp64"}
#: What holds all that a dtype holds.
WIDER = {"BF16": "F32", "F16": "F32"}
#: How a configuration calls the dtype of its weights, now and in older files.
FIELDS = ("dtype", "torch_dtype")


def asked(dtype: str | torch.dtype | None) -> str:
    """What safetensors calls the dtype, "" for none. Raises `UsageError` for one that no merge is written in."""
    found = named(dtype, WRITTEN)
    return "" if found is None else SAFETENSORS_NAMES[str(found)]


def called(name: str) -> str:
    """What torch calls the dtype that safetensors calls `name`."""
    return TORCH_NAMES[name]


def narrowed(checkpoint: Checkpoint, dtype: str) -> list[str]:
    """The dtypes of the base of which `dtype` does not hold everything. Raises `Unsupported` for weights that are no
    plain floats.
    """
    if not dtype:
        return []
    for name, stored in checkpoint.tensors.items():
        kind = stored.codec.scheme if isinstance(stored, Packed) else stored.entry.dtype
        if isinstance(stored, Packed) or checkpoint.in_gguf or (kind.startswith("F") and kind not in FLOATS):
            raise Unsupported(
                f"`{name}` lies packed in this base ({kind}), and `--dtype` is for bases of plain floats",
                hint="leave it out, or merge into the unquantised base",
            )
    there = {stored.entry.dtype for stored in checkpoint.tensors.values()} & FLOATS
    return sorted(one for one in there if one != dtype and WIDER.get(one) != dtype)


def everywhere(todo: Plan, checkpoint: Checkpoint, dtype: str, names: Collection[str] | None = None) -> Plan:
    """`todo` with the tensors that are only written in another dtype, as changes without layers. `names`: those that a
    merge has written so, where `checkpoint` is what it made.
    """
    if not dtype:
        return todo
    found = [one for one in checkpoint.tensors.values() if (_other(one, dtype) if names is None else one.name in names)]
    more = {stored.name: Change(stored.name, stored, "weight") for stored in found if stored.name not in todo.changes}
    return replace(todo, changes=dict(sorted({**more, **todo.changes}.items())))


def _other(stored: Stored, dtype: str) -> bool:
    return stored.entry.dtype in FLOATS and stored.entry.dtype != dtype


def written(kind: str, dtype: str) -> str:
    """The dtype of a tensor in the output that is `kind` without being asked: integers stay what they are."""
    return dtype if dtype and kind in FLOATS else kind


def configured(config: Config, dtype: str) -> Config:
    """What the configuration says of the dtype, where it says one."""
    if not dtype:
        return config
    found: dict[str, Any] = dict(config)
    for key, value in config.items():
        if key in FIELDS and isinstance(value, str):
            found[key] = called(dtype)
        elif isinstance(value, dict):
            found[key] = configured(value, dtype)
    return found


def said(lossy: Iterable[str], dtype: str, exact: bool) -> list[str]:
    """Why a receipt does not give the base back, though it was asked for one that does."""
    kinds = " and ".join(map(called, lossy))
    if not kinds or not exact:
        return []
    return [f"the merge can't be undone: {called(dtype)} does not hold all of the base's {kinds}; keep the base"]
