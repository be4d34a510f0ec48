"""compressed-tensors, as llm-compressor writes it: whole numbers packed or in bytes, FP8, NVFP4 and MXFP4.

The configuration has groups of modules, each with a scheme; the layout is the group's `format`, or the one of all.
Every layout multiplies in the scales' own type.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from adaptr.errors import CheckpointError, Unsupported, shown
from adaptr.format.header import Entry
from adaptr.packings import Codec, Files, Packing, Weight
from adaptr_packings._pieces import tiles
from adaptr_packings._pieces.floats4 import Float4
from adaptr_packings._pieces.floats8 import Float8
from adaptr_packings._pieces.named import Named
from adaptr_packings._pieces.schemes import Scheme, schemes
from adaptr_packings._pieces.whole import Integers

Leaves = Mapping[str, Entry]
#: Role to the last part of a stored name; the codes are `weight_packed`, or `weight`.
ROLES = {
    "scale": "weight_scale", "zero": "weight_zero_point", "overall": "weight_global_scale", "order": "weight_g_idx",
    "shape": "weight_shape",
}  # fmt: skip


class CompressedTensors(Packing):
    name = "compressed-tensors"

    def weights(self, files: Files) -> Iterator[Weight]:
        _require_known(files.said)
        known = Schemes(files.said)
        for path, there in files.modules.items():
            if "weight_packed" in there or "weight_scale" in there:
                yield _weight(files, path, there, known.of(path))

    def floated(
        self, said: Mapping[str, Any], floats: Collection[str], packed: Collection[str] = ()
    ) -> Mapping[str, Any]:
        listed = _ignored(said)
        known = Named.of(dict.fromkeys(listed, True))
        return {**said, "ignore": [*listed, *(path for path in sorted(floats) if not known.named(path))]}


@dataclass(frozen=True)
class Schemes:
    """The scheme of each module, as a configuration says it."""

    said: Mapping[str, Any]

    @cached_property
    def _ignored(self) -> Named[bool]:
        return Named.of(dict.fromkeys(_ignored(self.said), True))

    @cached_property
    def _targets(self) -> Named[Scheme]:
        return Named.of(schemes(self.said))

    def of(self, path: str) -> Scheme:
        """Raises `CheckpointError` for a module that the configuration doesn't have packed."""
        found = None if self._ignored.named(path) else self._targets.of_class(path)
        if found is None:
            raise CheckpointError(
                f"`{path}` lies packed, and the configuration has no scheme for it",
                hint="the configuration is of another checkpoint, or `ignore` names too much",
            )
        return found


def _ignored(said: Mapping[str, Any]) -> list[str]:
    found = said.get("ignore") or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise CheckpointError("`quantization_config.ignore`", got=shown(repr(found)), want="a list of names")
    return found


def _require_known(said: Mapping[str, Any]) -> None:
    """Raises `Unsupported` for what would make other weights of the same tensors."""
    version = said.get("version")
    if version is not None and not str(version).startswith("0."):
        raise Unsupported(
            "the weights are packed by compressed-tensors", verb="of", got=shown(str(version)), want="a version 0"
        )
    sparse = said.get("sparsity_config")
    if isinstance(sparse, dict) and sparse.get("format", "dense") != "dense":
        raise Unsupported(
            f"the weights are sparse (`{shown(str(sparse['format']))}`), and how that is read is not known",
            hint="use the dense base",
        )
    if said.get("transform_config"):
        raise Unsupported(
            "the weights are rotated (`transform_config`), and adapters of the model itself don't fit them",
            hint="use the base that is not rotated",
        )


def _weight(files: Files, path: str, there: Leaves, scheme: Scheme) -> Weight:
    name, main = f"{path}.weight", "weight_packed" if scheme.packed else "weight"
    if main not in there:
        raise CheckpointError(
            f"`{path}` is packed as {scheme.format}, and its `{main}` is not there",
            hint="get the missing tensors, or the configuration that they are of",
        )
    if len(there[main].shape) != 2 or 0 in there[main].shape:
        raise Unsupported(f"`{path}.{main}`", got=f"of shape {list(there[main].shape)}", want="a matrix")
    roles = {"weight": main} | {role: leaf for role, leaf in ROLES.items() if leaf in there}
    roles |= {leaf: leaf for leaf in there if leaf.startswith("input_")}
    codec = LAYOUTS[scheme.format](files, path, there, scheme)
    return Weight(name, {role: f"{path}.{leaf}" for role, leaf in roles.items()}, codec, files.dtype or "BF16")


def _stream(files: Files, path: str, there: Leaves, scheme: Scheme) -> Codec:
    shape = _shape(files, f"{path}.weight_shape")
    return _integers(path, there, scheme, shape, "packed" if scheme.along_rows else "plain")


def _bytes(files: Files, path: str, there: Leaves, scheme: Scheme) -> Codec:
    shape = there["weight"].shape
    if scheme.kind == "int":
        return _integers(path, there, scheme, shape, "plain")
    if scheme.bits != 8 or not scheme.symmetric:
        raise _unknown(path, scheme)
    scaled, given = _scale(there)
    tile = scheme.tile(shape) if scheme.strategy not in {"tensor", "channel"} else None
    dtype = scaled if scaled in {"F32", "F16"} else "BF16"
    return Float8("ct-fp8", shape, dtype, scaled, tile, given if tile is None else (), product=dtype)


def _integers(path: str, there: Leaves, scheme: Scheme, shape: tuple[int, ...], zero: str) -> Codec:
    if scheme.kind != "int" or not 1 <= scheme.bits <= 8:
        raise _unknown(path, scheme)
    scaled, given = _scale(there)
    tile = scheme.tile(shape)
    if scheme.strategy != "block":
        tiles.require_whole(f"{path}.weight", shape[1], tile[1])
    # zero points that a symmetric scheme has are subtracted where they are there
    zeros = zero if not scheme.symmetric else "plain" if not scheme.packed and "weight_zero_point" in there else ""
    ordered = "weight_g_idx" in there or scheme.ordered
    dtype = scaled if scaled in {"F32", "F16"} else "BF16"
    name = f"ct-int{scheme.bits}"
    return Integers(name, shape, dtype, scheme.bits, tile, scaled, given, scheme.packed, zeros, ordered)


def _fours(files: Files, path: str, there: Leaves, scheme: Scheme) -> Codec:
    if scheme.kind != "float" or scheme.bits != 4 or not scheme.symmetric:
        raise _unknown(path, scheme)
    rows, half = there["weight_packed"].shape
    shape, (scaled, _) = (rows, 2 * half), _scale(there)
    size = scheme.tile(shape)[1]
    tiles.require_whole(f"{path}.weight", shape[1], size)
    if scheme.format.startswith("mx"):
        return Float4("ct-mxfp4", shape, "BF16", size, scaled)
    overall = there.get("weight_global_scale")
    return Float4("ct-nvfp4", shape, "BF16", size, scaled, overall.shape if overall else (1,), divides=True)


def _unknown(path: str, scheme: Scheme) -> Unsupported:
    return Unsupported(
        f"`{path}` is packed as {scheme}, and how that is read is not known",
        hint="use the unquantised base, or keep the adapter attached",
    )


def _scale(there: Leaves) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape of the scales; what is missing is refused with the other parts."""
    found = there.get("weight_scale")
    return ("BF16", ()) if found is None else (found.dtype, found.shape)


def _shape(files: Files, name: str) -> tuple[int, int]:
    """Of the weight, as a tensor says it."""
    entry = files.entries.get(name)
    if entry is None:
        raise CheckpointError(
            f"`{name}`, which says how large the weight is, is not there", hint="get the missing tensors"
        )
    size = {"I64": 8, "I32": 4}.get(entry.dtype, 0)
    raw = files.read(name) if entry.shape == (2,) and size else b""
    rows, columns = (int.from_bytes(raw[i : i + size], "little", signed=True) for i in (0, size))
    if rows < 1 or columns < 1:
        raise CheckpointError(f"`{name}`", got=f"{entry.dtype} {list(entry.shape)}", want="two whole numbers above 0")
    return rows, columns


#: Format to what makes the codec of a weight.
LAYOUTS = {
    "pack-quantized": _stream,
    "int-quantized": _bytes,
    "float-quantized": _bytes,
    "naive-quantized": _bytes,
    "mxfp8-quantized": _bytes,
    "nvfp4-pack-quantized": _fours,
    "mxfp4-pack-quantized": _fours,
}
