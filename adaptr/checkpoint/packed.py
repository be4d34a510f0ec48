"""Weights of a checkpoint that lie packed: each as one tensor of the name, shape and dtype that it decodes to."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adaptr import packings
from adaptr.adapter import Target
from adaptr.checkpoint.laid import Laid
from adaptr.checkpoint.stored import Shard, Stored
from adaptr.errors import CheckpointError, Unsupported, shown
from adaptr.format.header import Entry
from adaptr.packings import Codec, Encoded, Files, Packing, Weight
from adaptr.packings.turned import Turned
from adaptr.roles import CONV1D_MODELS

#: The layers of such models that have their weight as (in, out).
_CONV1D = re.compile(r"(.+\.)?(c_attn|c_proj|c_fc|q_attn)\.weight", re.DOTALL)


@dataclass(frozen=True)
class Packed(Stored):
    """A weight in several stored tensors, by their roles. `entry` is of what `codec` decodes them to, and `floats` the
    dtype that it is written in where it is no longer packed.
    """

    parts: Mapping[str, Stored]
    codec: Codec
    floats: str

    @property
    def main(self) -> Stored:
        """The part with the codes."""
        return self.parts[self.codec.main]

    @property
    def nbytes(self) -> int:
        """Bytes of the parts."""
        return sum(part.entry.nbytes for part in self.parts.values())


def packing_of(config: Mapping[str, Any], root: object) -> Packing | None:
    """The packing of a checkpoint's weights, by its `config.json`. Raises `Unsupported` for one that is not known."""
    said = _said(config)
    if not said:
        return None
    found = packings.claimed(said)
    if found is None:
        method = shown(str(said.get("quant_method", "unknown")))
        raise Unsupported(
            f"`{root}` is quantised ({method}), and how that is read is not known",
            hint="use the unquantised base, or keep the adapter attached",
        )
    return found


def weights(
    packing: Packing, config: Mapping[str, Any], shards: Sequence[Shard], lying: Mapping[str, Stored]
) -> dict[str, Stored]:
    """The tensors of a packed checkpoint as its model has them. Raises `CheckpointError` where they are no weights."""
    entries = {name: stored.entry for name, stored in lying.items()}
    metadata = [shard.header.metadata for shard in shards]
    found = described(packing, config, entries, metadata, lambda name: _raw(lying[name]))
    made: dict[str, Stored] = dict(lying)
    for weight in found:
        for name in weight.parts.values():
            made.pop(name, None)
    return made | {weight.name: _packed(weight, lying) for weight in found}


def described(
    packing: Packing,
    config: Mapping[str, Any],
    entries: Mapping[str, Entry],
    metadata: Iterable[Mapping[str, str]],
    read: Callable[[str], bytes],
) -> list[Weight]:
    """The packed weights of a checkpoint, by the headers of its files. Raises `CheckpointError` where there are none,
    or they lack a part.
    """
    together = {key: value for one in metadata for key, value in one.items()}
    found = list(packing.weights(Files(_said(config), _dtype(config), entries, together, read)))
    if not found:
        raise CheckpointError(
            f"the configuration says that the weights are packed ({packing.name}), and none is",
            hint="take `quantization_config` out of it if they are floats, or get the files that it is of",
        )
    for weight in found:
        packings.require_parts(weight, entries)
    return [_turned(weight) for weight in found] if packing.turns and _has_turned(config) else found


def _has_turned(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") in CONV1D_MODELS


def _turned(weight: Weight) -> Weight:
    """A weight as its model has it, where that is (in, out) and it lies as (out, in)."""
    codec = weight.codec
    if not isinstance(codec, Encoded) or not _CONV1D.fullmatch(weight.name):
        return weight
    return replace(weight, codec=Turned.of(codec))


def require_upright(stored: Stored, target: Target) -> None:
    """Raises `Unsupported` for a packed weight of a layer that has it as (in, out), of a library that may turn it or
    not. What lies in a GGUF file, or is known to be turned, is decoded as the model has it.
    """
    unsure = isinstance(stored, Packed) and not isinstance(stored.codec, Laid | Turned)
    if unsure and target.transposed and not target.stacked:
        raise Unsupported(
            f"`{stored.name}` lies packed, and whether as (in, out) or turned is not certain",
            hint="use the unquantised base",
        )


def _packed(weight: Weight, lying: Mapping[str, Stored]) -> Packed:
    parts = {role: lying[name] for role, name in weight.parts.items()}
    shard = parts[weight.codec.main].shard
    return Packed(weight.name, shard, weight.codec.entry, parts, weight.codec, weight.dtype)


def _said(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `quantization_config`, of a model of several also where only that of its texts has one."""
    for place in (config, config.get("text_config")):
        said = place.get("quantization_config") if isinstance(place, dict | Mapping) else None
        if isinstance(said, dict) and said:
            return said
    return {}


def _dtype(config: Mapping[str, Any]) -> str:
    """The model's own float type as safetensors calls it, "" where none is said."""
    names = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
    places = [config, *(one for one in (config.get("text_config"),) if isinstance(one, dict))]
    said = (place.get(field) for place in places for field in ("dtype", "torch_dtype"))
    return next((names[one] for one in said if isinstance(one, str) and one in names), "")


def _raw(stored: Stored) -> bytes:
    with open(stored.shard.path, "rb") as file:
        return os.pread(file.fileno(), stored.entry.nbytes, stored.offset)
