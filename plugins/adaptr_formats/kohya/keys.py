"""kohya's names of tensors, by module."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from adaptr.errors import NoAdapterTensors, TargetAmbiguous, TargetNotFound, TensorUnknown, phrases, shown
from adaptr.foreign.pieces import image_models
from adaptr.foreign.pieces.image_models import FAMILIES, TEXT
from adaptr.foreign.pieces.low_rank import PEFT_MAGNITUDE

if TYPE_CHECKING:
    from torch import nn

_KEY = re.compile(r"(?P<prefix>lora_(?:unet|te\d?|transformer|prior_unet)|lycoris)_(?P<flat>[^.]+)\.(?P<slot>[^:]+)")
#: The text encoders by prefix.
ENCODERS = {
    "lora_te": "text_encoder",
    "lora_te1": "text_encoder",
    "lora_te2": "text_encoder_2",
    "lora_te3": "text_encoder_3",
}
_NETWORKS = frozenset({"lora_unet", "lora_transformer", "lycoris"})


def grouped(keys: Iterable[str]) -> dict[tuple[str, str], dict[str, str]]:
    """{(prefix, flat name): {slot: key}}. Raises `TensorUnknown` for what kohya has no such name for."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for key in keys:
        match = _KEY.fullmatch(key)
        if match is None:
            raise TensorUnknown(f"`{shown(key)}` is no tensor of a kohya or LyCORIS adapter", hint=phrases.AGAIN)
        _require_apart(key, match["flat"])
        flat, slot = _apart(match["flat"], match["slot"])
        found.setdefault((match["prefix"], flat), {})[slot] = key
    if not found:
        raise NoAdapterTensors("the file holds no tensors", hint=phrases.AGAIN)
    return found


def _apart(flat: str, slot: str) -> tuple[str, str]:
    """diffusers' own export leaves the last `.` in the names of magnitudes."""
    if not slot.endswith(f".{PEFT_MAGNITUDE}"):
        return flat, slot
    rest = slot.removesuffix(f".{PEFT_MAGNITUDE}").replace(".", "_")
    return f"{flat}_{rest}", PEFT_MAGNITUDE


def _require_apart(key: str, flat: str) -> None:
    """Raises `TensorUnknown` for names made by hand, where `_` stands before the tensor too: no tool reads them."""
    if flat.endswith(("_lora_down", "_lora_up", "_lora_A", "_lora_B")):
        raise TensorUnknown(
            f"`{shown(key)}` has `_` where kohya's names have `.` before the tensor: no tool reads it",
            hint="convert it anew from the file that it was made of",
        )


def paths(names: Iterable[tuple[str, str]], model: nn.Module | None) -> dict[tuple[str, str], str]:
    """The path of each (prefix, flat name), by the base where it is given, else by the words of known models.

    Raises `TargetNotFound` for a name that neither has, `TargetAmbiguous` for two that are one place.
    """
    own = {} if model is None else _flattened(model)
    found = {name: _in_base(name, own) or _by_words(name) for name in names}
    if "transformer" in {path.partition(".")[0] for path in found.values()}:
        found = {name: _of_flux(path, found.values()) for name, path in found.items()}
    seen: dict[str, tuple[str, str]] = {}
    for name, path in found.items():
        other = seen.setdefault(path, name)
        if other != name:
            raise TargetAmbiguous(f"`{'_'.join(other)}` and `{'_'.join(name)}` are both `{path}`", hint=phrases.AGAIN)
    return found


def _flattened(model: nn.Module) -> dict[str, list[str]]:
    """The modules of a base by their names with `_` for `.`."""
    found: dict[str, list[str]] = {}
    for path, _ in model.named_modules():
        if path:
            found.setdefault(path.replace(".", "_"), []).append(path)
    return found


def _in_base(name: tuple[str, str], own: Mapping[str, list[str]]) -> str:
    """The path in the base, "" where it has none. Raises `TargetAmbiguous` for several."""
    prefix, flat = name
    component = ENCODERS.get(prefix, "")
    starts = [component] if component else ["unet", "transformer"] if prefix in _NETWORKS else []
    for whole in (*(f"{start}_{flat}" for start in starts), flat):
        places = own.get(whole, [])
        if len(places) > 1:
            raise TargetAmbiguous(
                f"`{prefix}_{flat}` is {' and '.join(f'`{place}`' for place in places)} in the base", hint=phrases.BASE
            )
        if places:
            return places[0]
    return ""


def _by_words(name: tuple[str, str]) -> str:
    prefix, flat = name
    families = [TEXT] if prefix in ENCODERS else [*FAMILIES] if prefix in _NETWORKS else []
    for family in families:
        path = image_models.path_of(flat, family)
        if path:
            return f"{ENCODERS.get(prefix, family.component)}.{path}"
    near = image_models.nearest(flat, families)
    raise TargetNotFound(
        f"`{prefix}_{shown(flat)}` is no module of the models that adaptr has names of"
        + (f" (it knows `{near}` of them)" if near else ""),
        hint="give the base that it was trained on (a live model), whose modules say what the name stands for",
    )


def _of_flux(path: str, others: Iterable[str]) -> str:
    """Flux has two text encoders, of which sd-scripts calls the second its third: CLIP's second is SD3's alone."""
    third, second = "text_encoder_3.", "text_encoder_2."
    if not path.startswith(third) or any(other.startswith(second) for other in others):
        return path
    flux = any(other.startswith(("transformer.double_blocks.", "transformer.single_")) for other in others)
    return second + path.removeprefix(third) if flux else path
