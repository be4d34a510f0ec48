"""AdapterHub's fusions: y = r + Σₙ sₙ V aₙ, s = softmaxₙ((Q z + b_q)ᵀ (K aₙ + b_k)), aₙ what adapter n would add.

What a configuration leaves out of Q, K and V is 1 there. All of its adapters read what the last one reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Adapter, Target, kinds
from adaptr.errors import ForeignError, TensorAbsent, TensorUnknown, Unsupported, phrases, shown
from adaptr.foreign import placing
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.pieces.module import Module, complete
from adaptr.foreign.stored import contents
from adaptr.untrusted import json_file
from adaptr_formats.adapterhub import places, setups

if TYPE_CHECKING:
    from torch import Tensor, nn

METHOD = "adapter-fusion"
_AT = ".adapter_fusion_layer."
#: By adaptr's names, with the fields by which a file has them.
SLOTS = {"Q": "query.weight", "b_q": "query.bias", "K": "key.weight", "b_k": "key.bias", "V": "value.weight"}
READ = ("residual", "calls", "reads")
#: What can be a part, as a branch that is added to the output.
_PARTS = frozenset({"houlsby", "pfeiffer", "compacter", "compacter-pp", "phm"})


def read(file: Path, members: Mapping[str, Adapter], model: nn.Module | None) -> Adapter:
    """Raises a `ForeignError` or `Unsupported`."""
    told = json_file(file.parent / setups.FUSION, ForeignError)
    said = told.get("config")
    if not isinstance(said, dict):
        raise fields_of.misread("config", said, "the configuration of a fusion")
    _require_known(said)
    children = {setups.part(name): member for name, member in members.items()}
    for name, child in children.items():
        _require_part(name, child)
    values = complete(METHOD, {
        "experts": list(children),
        "regularise": 0.01 if said.get("regularization") else 0.0,
        "dropout": fields_of.number(said, "dropout_prob", 0.0) if said.get("dropout_prob") else 0.0,
    })  # fmt: skip
    whole = setups.made(METHOD, values, children)
    targets, tensors = {}, dict(whole.tensors)
    reads_h = fields_of.flag({"query_before_ln": False, **said}, "query_before_ln")
    for module in _modules(file, ",".join(members), fields_of.text(told, "model_type")):
        here = {name: child.targets[module.path] for name, child in children.items() if module.path in child.targets}
        if not here:
            continue
        own = {**values, **({} if reads_h else _read(here, children, module.path))}
        target = placing.output(model, Target(module.path, kinds.PLACE, next(iter(here.values())).shape, own))
        targets[module.path] = target
        tensors |= {f"{module.path}:{name}": value for name, value in _tensors(module, target).items()}
    bare = sorted({path for child in children.values() for path in child.targets} - set(targets))
    if bare:
        raise TensorAbsent(f"the fusion has nothing for `{bare[0]}`, where adapters are", hint=phrases.AGAIN)
    return whole.replace(
        targets=targets, tensors=tensors, source=str(file), foreign=next(iter(members.values())).foreign
    )


def _require_known(said: Mapping[str, Any]) -> None:
    why = {
        "temperature": "divides its scores by a temperature that each forward lowers, and which is not in the file",
        "residual_before": "adds what goes around it to each adapter before they are weighed",
    }
    found = next((field for field in why if said.get(field)), None)
    if found is not None:
        raise Unsupported(f"the fusion {why[found]} (`{found}`)", hint="train it without")


def _require_part(name: str, child: Adapter) -> None:
    if child.method not in _PARTS or any(t.config.get("keeps", "output") != "output" for t in child.targets.values()):
        raise Unsupported(
            f"`{name}` is `{child.method}`, and of a fusion's adapters each is a bottleneck behind a block, added to "
            "its output",
            hint="load it alone",
        )


def _read(here: Mapping[str, Target], children: Mapping[str, Adapter], path: str) -> dict[str, Any]:
    """What is read there, as all adapters read it."""
    said = [{field: target.config[field] for field in READ if field in target.config} for target in here.values()]
    if len(here) < len(children) or any(one != said[0] for one in said):
        raise Unsupported(
            f"not all of its adapters are at `{path}`, or read the same there, and AdapterHub has them read what the "
            "last of them does",
            hint="load each alone",
        )
    return said[0]


def _modules(file: Path, name: str, model_type: str) -> list[Module]:
    """By the paths whose outputs they change."""
    tensors, shapes, _ = contents(file)
    found: dict[str, dict[str, str]] = {}
    for key in shapes:
        path, there, rest = key.partition(_AT)
        slot = rest.removeprefix(f"{name}.")
        if not there or slot == rest or slot not in SLOTS.values():
            raise TensorUnknown(f"`{shown(key)}` is no tensor of a fusion of {shown(name)}", hint=phrases.AGAIN)
        layer, place = places.place(path, model_type)
        found.setdefault(places.joined(layer, place.at), {})[slot] = key
    return [
        Module(path, slots, {slot: shapes[key] for slot, key in slots.items()}, tensors)
        for path, slots in ((path, found[path]) for path in placing.ordered(found))
    ]


def _tensors(module: Module, target: Target) -> dict[str, Tensor]:
    import torch

    (d,) = target.shape
    found = {}
    for name, slot in SLOTS.items():
        want = (d, d) if name in "QKV" else (d,)
        if module.has(slot):
            module.require(slot, module.shape(slot, (len(want),)) == want, f"{want}, as its adapters have it")
            found[name] = module.file[module.keys[slot]]
        elif name in "QKV":
            found[name] = torch.eye(d)
        elif module.has(slot.replace("bias", "weight")):
            raise TensorAbsent(f"`{module.path}` has no `{slot}`", hint=phrases.AGAIN)
        else:
            found[name] = torch.zeros(d)
    return found
