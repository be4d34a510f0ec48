"""Adapters of image models whose tensors have the modules' own paths, in the ways that tools name what is at a module.

A path begins with a component, or with nothing, or with what one program calls its network: then its first part says
which component it is of. See decision record 25.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from adaptr.errors import (
    ConfigConflict,
    NoAdapterTensors,
    TargetNotFound,
    TensorUnknown,
    TrainedOtherwise,
    phrases,
    shown,
)
from adaptr.foreign import placing, saving, words
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import alphas, assembling, lycoris
from adaptr.foreign.pieces.image_models import FAMILIES, TEXT
from adaptr.foreign.pieces.low_rank import DOWN, PEFT_MAGNITUDE, UP
from adaptr.foreign.pieces.module import ALPHA, Module, Whole
from adaptr.foreign.stored import contents
from adaptr.foreign.supplied import NOTHING, Supplied

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel

#: What pipelines call their networks.
COMPONENTS = frozenset({
    "unet", "transformer", "transformer_2", "prior", "text_encoder", "text_encoder_2", "text_encoder_3",
})  # fmt: skip
_PAIR = {"A": DOWN, "B": UP, "down": DOWN, "up": UP}
#: `to_q_lora.down`, of attention processors: what the layer is called there, and in a text encoder.
_PROCESSOR = re.compile(
    r"(?P<path>.+?)(?:\.processor)?\.(?P<layer>to_q|to_k|to_v|to_out)_lora\.(?P<side>down|up)\.weight"
)
#: XLabs' of Flux: pair 1 is of the image's stream, 2 of the text's.
_STREAM = re.compile(
    r"(?P<block>double_blocks\.\d+)\.processor\.(?P<layer>qkv|proj)_lora(?P<stream>[12])\.(?P<side>down|up)\.weight"
)
_STREAMS = {"1": "img_attn", "2": "txt_attn"}
_LAYERS = {"to_out": "to_out.0"}
_TEXT_LAYERS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_FACTOR = re.compile(
    r"(?P<path>.+)\.(?:lora_(?P<letter>[AB])\.(?:[^.]+\.)?weight|(?:lora|lora_linear_layer)\.(?P<side>down|up)\.weight)"
)
_OTHER = re.compile(
    r"(?P<path>.+)\.(?P<slot>lora_(?:down|up|mid)\.weight|lora_B\.bias|lora_magnitude_vector(?:\.weight)?|alpha|"
    r"dora_scale|hada_\w+|lokr_\w+|oft_\w+|rescale|diff|diff_b|w_norm|b_norm|on_input|[ab][12]\.weight|[qp]_layer\.weight)"
)
#: Norms of queries and keys that are trained with a control LoRA of Flux, whole.
_NORM = re.compile(r"(?P<path>.+\.norm\.(?:query|key)_norm)\.(?P<name>scale)")
#: What is scaled by an alpha; LoKr's full factors are not.
_SCALED = (DOWN, "hada_w1_a", "lokr_w1_a", "lokr_w2_a")
_NETWORK = re.compile(r"(?:model\.)?diffusion_model\.")
#: What a module's scale is where its alpha is not a tensor of the file, by its path and rank.
Unsaid = Callable[[str, int], Mapping[str, Any]]
#: Makes it of a file's metadata.
Making = Callable[[Mapping[str, str]], Unsaid]


@dataclass(frozen=True)
class Found:
    """The tensors of a file: {path: {slot: key}} of modules, and {path: key} of whole parameters."""

    modules: Mapping[str, Mapping[str, str]]
    whole: Mapping[str, str]


def unscaled(path: str, rank: int) -> Mapping[str, Any]:
    """The scale 1, of tools that know no alphas."""
    return {"alpha": float(rank)}


def read(
    weights: Path, base: BaseModel | None, tool: str, unsaid: Making | None, supplied: Supplied = NOTHING
) -> Adapter:
    """The adapter in a file of `tool`. `unsaid`: None where the tool always writes alphas. `supplied`: alpha or scale
    of modules that have none.
    """
    tensors, shapes, metadata = contents(weights)
    shapes, scale = words.without(weights, shapes), unsaid(metadata) if unsaid else None
    return _made(File(weights, tensors, shapes, metadata), grouped(shapes), base, tool, scale, supplied)


def named(
    weights: Path,
    base: BaseModel | None,
    tool: str,
    names: Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, str]],
    supplied: Supplied = NOTHING,
    unsaid: Unsaid | None = unscaled,
) -> Adapter:
    """The same of a tool whose names are no paths. `names`: from shapes by key to {key: a name with its module's
    path}; keys that it leaves out are no part of the adapter. `unsaid`: the scale 1, or None where there are alphas.
    """
    tensors, shapes, metadata = contents(weights, numbered=True)
    shapes = words.without(weights, shapes)
    called = names(shapes)
    keys = {name: key for key, name in called.items()}
    found = grouped(called.values())
    modules = {path: {slot: keys[name] for slot, name in slots.items()} for path, slots in found.modules.items()}
    file = File(weights, tensors, {key: shapes[key] for key in called}, metadata)
    return _made(file, Found(modules, {}), base, tool, unsaid, supplied)


@dataclass(frozen=True)
class File:
    """What is in a file: tensors, nothing of them loaded, their shapes, and metadata."""

    path: Path
    tensors: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def _made(
    file: File, grouping: Found, base: BaseModel | None, tool: str, scale: Unsaid | None, supplied: Supplied
) -> Adapter:
    from adaptr.checkpoint.skeleton import skeleton

    model = None if base is None else skeleton(base)
    found, shapes = _placed(grouping, model), file.shapes
    modules = [
        Module(
            path, slots, {slot: shapes[key] for slot, key in slots.items()}, file.tensors, model,
            partial(scale, path) if scale else None, supplied,
        )
        for path in placing.ordered(found.modules) for slots in [found.modules[path]]
    ]  # fmt: skip
    alphas.refuse_held(modules, supplied)
    if scale is by_rank and not supplied:
        _warn_of_scale(modules, tool)
    layers: list[Any] = [layer for module in modules for layer in lycoris.read(module)]
    layers += [Whole(path, Piece(key, shapes[key])) for path, key in found.whole.items()]
    made = assembling.adapter(layers, file.tensors, str(file.path), saving.told(file.metadata))
    kept = {name: said for name, said in file.metadata.items() if name != saving.ABOUT}
    return made.replace(foreign={tool: {"metadata": kept} if kept else {}})


def _warn_of_scale(modules: Iterable[Module], tool: str) -> None:
    """Say so where the rank stands for an alpha that may be lost."""
    bare = [module.path for module in modules if not module.has(ALPHA) and module.has(*_SCALED)]
    if bare:
        warnings.warn(
            f"the file has no alpha of {len(bare)} modules (such as `{bare[0]}`): they are read at the scale 1, as "
            f"{tool} reads them, and the alpha that they were trained with is not known; `--alpha` says it",
            TrainedOtherwise,
            stacklevel=3,
        )


def grouped(keys: Iterable[str]) -> Found:
    """The tensors of a file by module. Raises `TensorUnknown` for a name of none of these kinds, or two of one."""
    modules: dict[str, dict[str, str]] = {}
    whole: dict[str, str] = {}
    for key in keys:
        norm = _NORM.fullmatch(key)
        if norm is not None:
            whole[f"{norm['path']}.{norm['name']}"] = key
            continue
        path, slot = _parsed(key)
        other = modules.setdefault(path, {}).setdefault(slot, key)
        if other != key:
            raise ConfigConflict(f"`{shown(other)}` and `{shown(key)}` are one tensor", hint=phrases.AGAIN)
    if not modules:
        raise NoAdapterTensors("the file holds no tensors of an adapter", hint=phrases.AGAIN)
    return Found(modules, whole)


def _parsed(key: str) -> tuple[str, str]:
    """The path and the slot, as LyCORIS calls it."""
    found = _PROCESSOR.fullmatch(key)
    if found is not None:
        names = _TEXT_LAYERS if "self_attn" in found["path"] else _LAYERS
        return f"{found['path']}.{names.get(found['layer'], found['layer'])}", _PAIR[found["side"]]
    found = _STREAM.fullmatch(key)
    if found is not None:
        return f"{found['block']}.{_STREAMS[found['stream']]}.{found['layer']}", _PAIR[found["side"]]
    found = _FACTOR.fullmatch(key)
    if found is not None:
        return found["path"], _PAIR[found["letter"] or found["side"]]
    found = _OTHER.fullmatch(key)
    if found is None:
        raise TensorUnknown(f"`{shown(key)}` is no tensor of an adapter that is known", hint=phrases.AGAIN)
    slot = found["slot"]
    return found["path"], PEFT_MAGNITUDE if slot.startswith(PEFT_MAGNITUDE) else slot


def _placed(found: Found, model: nn.Module | None) -> Found:
    """With paths that begin with a component. Raises `ConfigConflict` where two are one place."""
    own = frozenset() if model is None else frozenset(path for path, _ in model.named_modules())
    modules: dict[str, Mapping[str, str]] = {}
    for path, slots in found.modules.items():
        new = _whole(path, own)
        if new in modules:
            raise ConfigConflict(f"`{new}` is there under two names", hint=phrases.AGAIN)
        modules[new] = slots
    parts = {new: key for path, key in found.whole.items() for new in [_whole(path, own)]}
    return Found(modules, parts)


def _whole(path: str, own: frozenset[str]) -> str:
    """A path with its component. Raises `TargetNotFound` for one whose first part is of no known model."""
    bare = _NETWORK.sub("", path, count=1) if _NETWORK.match(path) else path
    for known in (path, bare):
        if known in own:
            return known
    component, _, rest = bare.partition(".")
    families = list(_of(component))
    if families and any(rest.partition(".")[0] in family.roots for family in families):
        return bare
    root = next((family.component for family in FAMILIES if component in family.roots), "")
    if root and component not in COMPONENTS:
        return f"{root}.{bare}"
    raise TargetNotFound(
        f"`{shown(path)}` is no module of an image model that adaptr has names of",
        hint="give the base that it was trained on (a live model)",
    )


def _of(component: str) -> Iterator[Any]:
    """The families of networks that a pipeline may call so."""
    if component.startswith("text_encoder") and component in COMPONENTS:
        yield TEXT
    elif component in COMPONENTS:
        yield from FAMILIES


def by_rank(path: str, rank: int) -> Mapping[str, Any]:
    """The scale 1, as tools have it whose files have no alphas though training had: said in a warning."""
    return {"alpha": float(rank)}
