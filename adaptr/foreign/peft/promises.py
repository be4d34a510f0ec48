"""Whether a file has what its configuration promises: held against the base where it is known.

PEFT stops at a whole module that is absent, and warns of factors that are; both make another model than the one that
was trained. With a base, exactly what PEFT would adapt and save must be in the file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.errors import AdaptrError, CheckpointError, TensorAbsent
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import promised, selecting
from adaptr.foreign.placing import ordered
from adaptr.foreign.weights import Weights

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel


def require(found: promised.Promised, base: BaseModel | None) -> None:
    """Raises `TensorAbsent` where `found` lacks what its configuration promises. `base`: a folder, a model or None."""
    if base is None:
        _refuse(promised.alone(found), ", unless the base has nothing of that name: give it (`--base`)")
        return
    known = Known.of(base)
    absent = _absent(found, known) if known is not None and _comparable_by_name(found, known) else None
    if absent == [] and not (promised.unmet(found) or promised.unsaved(found)):
        return
    # a checkpoint may hold layers that its model doesn't use, and lacks a tied head: the model's class decides
    model = known if known is not None and known.live is not None else Known.of(_built(base))
    if model is not None:
        absent = _absent(found, model)
    _refuse(promised.alone(found) if absent is None else absent, "")


def of(adapter: Adapter) -> promised.Promised | None:
    """What an adapter that came from PEFT, and is as it came, was promised to be; else None."""
    from adaptr.foreign.peft.writing import derived

    kept = adapter.foreign.get("peft")
    if not isinstance(kept, Mapping) or not isinstance(kept.get("config"), Mapping):
        return None
    try:
        same = kept.get("derived") == derived(adapter)
    except AdaptrError:
        return None
    return promised.Promised.of(kept["config"], adapter) if same else None


def _refuse(absent: Collection[str], unless: str) -> None:
    if not absent:
        return
    first, *more = ordered(set(absent))
    others = f" and {len(more)} more" if more else ""
    raise TensorAbsent(
        f"`adapter_config.json` promises {first}{others}, and the file has no tensor of it{unless}: without it "
        "this is not what was trained",
        hint="save the adapter again, correct the configuration, or give the base it was trained on",
    )


def _built(base: BaseModel) -> nn.Module | None:
    from adaptr.checkpoint.skeleton import skeleton

    try:
        return skeleton(base)
    except AdaptrError:
        return None


@dataclass(frozen=True)
class Known:
    """A base: shapes of its parameters by name, its class, and the modules of a live one (`named_modules`)."""

    shapes: Mapping[str, tuple[int, ...]]
    architecture: str
    live: nn.Module | None

    @classmethod
    def of(cls, base: BaseModel | None) -> Known | None:
        """None where nothing is known: no base, or a folder without weights that can be listed."""
        if base is None:
            return None
        from torch import nn

        from adaptr.checkpoint.skeleton import described

        shapes = Weights(base).shapes
        if isinstance(base, nn.Module):
            once = {path for path, _ in base.named_modules()}  # a module that is shared is adapted under one name
            own = {name: shape for name, shape in shapes.items() if _owner(name) in once}
            return cls(own, type(base).__name__.removeprefix("Adapted"), base)
        try:
            architecture = str((described(base).get("architectures") or [""])[0])
        except CheckpointError:
            architecture = ""
        return cls(shapes, architecture, None) if shapes else None

    def has(self, word: str) -> bool:
        """Whether a module's path ends so."""
        paths = (path for path, _ in self.live.named_modules()) if self.live is not None else map(_owner, self.shapes)
        return any(path.endswith(word) for path in paths)


def _absent(found: promised.Promised, base: Known) -> list[str]:
    """What PEFT would adapt and save in this base and the file has not."""
    heads, _ = promised.HEADS.get(str(found.config.get("task_type")), ((), ()))
    missing = promised.unsaved(found, base.architecture)
    saved = [f"`{word}` in `modules_to_save`" for word in missing if word in heads or base.has(word)]
    names = _aligned(base.shapes, found.targets)
    if names is None:  # the base calls its layers otherwise: only whether a name is used at all can be said
        return saved + [f"`{word}`" for word in promised.unmet(found) if base.has(f".{word}")]
    layers = [_owner(name) for name, shape in names.items() if name.endswith(".weight") and shape[1:]]
    lacking = [path for path in selecting.targets(found.config, layers, base.live) if path not in found.targets]
    raw = fields_of.words(found.config, "target_parameters")
    stacks = [name for name in names if fields_of.named(raw, name) and not {name, _owner(name)} & found.targets]
    whole = [name for name in _trained(found, names) if name not in found.whole]
    return [*saved, *(f"`{name}`" for name in (*_of_one_class(found, base, lacking), *stacks, *whole))]


def _comparable_by_name(found: promised.Promised, base: Known) -> bool:
    """Whether a checkpoint's names are enough: they are the adapter's, and its targets don't depend on classes."""
    return not selecting.all_linear(found.config) and _aligned(base.shapes, found.targets) is not None


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _aligned(shapes: Mapping[str, tuple[int, ...]], targets: Collection[str]) -> Mapping[str, tuple[int, ...]] | None:
    """The base's parameters by the names that the adapter has for them, None where it has others.

    An adapter of a part of the base leaves the part's name out; one of a larger model has a name before.
    """
    wanted = {f"{path}.weight" for path in targets if path not in shapes}  # a stack is a parameter itself
    if wanted <= shapes.keys():
        return shapes
    strange = min(wanted - shapes.keys())
    for name in shapes:
        if name.endswith(f".{strange}"):
            cut = name[: -len(strange)]
            made = {n.removeprefix(cut): shape for n, shape in shapes.items() if n.startswith(cut)}
        elif strange.endswith(f".{name}"):
            made = {strange[: -len(name)] + n: shape for n, shape in shapes.items()}
        else:
            continue
        if wanted <= made.keys():
            return made
    return None


def _of_one_class(found: promised.Promised, base: Known, lacking: Collection[str]) -> list[str]:
    """Of another class than the base's the adapter may be of a part: only layers between its own are missed.

    An expert that the checkpoint stores apart is one of a stack in the model: it is adapted as such, or not at all.
    """
    if not any(".experts." in path for path in found.targets):
        lacking = [path for path in lacking if re.search(r"\.experts\.\d+\.", path) is None]
    mapping = found.config.get("auto_mapping")
    said = str(mapping.get("base_model_class") or "") if isinstance(mapping, Mapping) else ""
    if found.config.get("task_type") != "FEATURE_EXTRACTION" and said in {"", base.architecture}:
        return list(lacking)
    own = {_template(path) for path in found.targets}
    return [path for path in lacking if _template(path) in own]


def _template(path: str) -> str:
    return re.sub(r"\d+", "#", path)


def _trained(found: promised.Promised, names: Collection[str]) -> list[str]:
    """The parameters that are trained beside the factors: of modules to save, and biases."""
    words = fields_of.words(found.config, "modules_to_save")
    saved = [name for name in names if any(promised.inside(name, word) for word in words)]
    bias = found.config.get("bias")
    biases = [name for name in names if name.endswith(".bias") and bias in ("all", "lora_only")]
    return [*saved, *(name for name in biases if bias == "all" or _owner(name) in found.targets)]
