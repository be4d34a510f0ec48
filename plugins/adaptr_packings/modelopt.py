"""ModelOpt, as NVIDIA publishes checkpoints: NVFP4, whose `weight_scale_2` multiplies, FP8, MXFP8 and MXFP4.

A weight is what its parts say it is; the configuration's `quant_algo` says whether there may be more to it. The library
multiplies FP8 in the model's own type, with the scale rounded to it, and all others in fp32; its NVFP4 has no -0.0.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from adaptr.errors import CheckpointError, Unsupported, shown
from adaptr.format.header import Entry
from adaptr.packings import Codec, Files, Packing, Weight
from adaptr_packings._pieces import tiles
from adaptr_packings._pieces.floats4 import Float4
from adaptr_packings._pieces.floats8 import Float8

Leaves = Mapping[str, Entry]
#: What `quant_algo` may be; others scale activations, or have a second matrix beside the weight.
KNOWN = frozenset({
    "FP8", "FP8_PER_CHANNEL_PER_TOKEN", "NVFP4", "W4A16_NVFP4", "W4A8_NVFP4_FP8", "MXFP8", "W4A8_MXFP4_FP8",
    "MIXED_PRECISION",
})  # fmt: skip
SCALE, OVERALL = "weight_scale", "weight_scale_2"
#: Values that share a power of two.
GROUP = 32


class ModelOpt(Packing):
    name = "modelopt"

    def weights(self, files: Files) -> Iterator[Weight]:
        _require_known(files.said)
        for path, there in files.modules.items():
            if SCALE in there or OVERALL in there:
                yield _weight(files, path, there)

    def floated(
        self, said: Mapping[str, Any], floats: Collection[str], packed: Collection[str] = ()
    ) -> Mapping[str, Any]:
        """`ignore`, whose names may have stars."""
        listed, layers = said.get("ignore"), said.get("quantized_layers")
        known = [str(one) for one in listed] if isinstance(listed, list) else []
        added = [path for path in sorted(floats) if not any(fnmatch.fnmatchcase(path, one) for one in known)]
        found = {**said, "ignore": [*known, *added]}
        if not isinstance(layers, dict):
            return found
        return {**found, "quantized_layers": {path: how for path, how in layers.items() if path not in floats}}


def _require_known(said: Mapping[str, Any]) -> None:
    layers = said.get("quantized_layers")
    each = layers.values() if isinstance(layers, dict) else ()
    for algorithm in [said.get("quant_algo"), *(one.get("quant_algo") for one in each if isinstance(one, dict))]:
        if str(algorithm) not in KNOWN:
            raise Unsupported(
                f"weights are packed by ModelOpt as `{shown(str(algorithm))}`, and how that is read is not known",
                hint="use the unquantised base, or keep the adapter attached",
            )


def _weight(files: Files, path: str, there: Leaves) -> Weight:
    name, main = f"{path}.weight", there.get("weight")
    if main is None:
        raise CheckpointError(f"`{path}` has scales, and its `weight` is not there", hint="get the missing tensors")
    if len(main.shape) != 2 or 0 in main.shape:
        raise Unsupported(f"`{name}`", got=f"of shape {list(main.shape)}", want="a matrix")
    if "pre_quant_scale" in there:
        raise Unsupported(
            f"`{path}` scales its activations (`pre_quant_scale`), and adapters of the model itself don't fit it",
            hint="use the unquantised base",
        )
    dtype = files.dtype or "BF16"
    codec = _four(name, main, there, dtype) if main.dtype == "U8" else _eight(name, main, there, dtype)
    roles = {"weight": "weight", "scale": SCALE, "overall": OVERALL, "input_scale": "input_scale"}
    return Weight(name, {role: f"{path}.{leaf}" for role, leaf in roles.items() if leaf in there}, codec, dtype)


def _four(name: str, main: Entry, there: Leaves, dtype: str) -> Codec:
    """NVFP4, by the scale of the tensor that it has; the scales say how large a group is."""
    shape, scale, overall = (main.shape[0], 2 * main.shape[1]), there.get(SCALE), there.get(OVERALL)
    scaled, given = (scale.dtype, scale.shape) if scale is not None else ("F8_E4M3", ())
    if overall is None and scaled == "U8":
        tiles.require_whole(name, shape[1], GROUP)
        return Float4("modelopt-mxfp4", shape, dtype, GROUP, scaled)
    groups = given[1] if len(given) == 2 and given[1] else max(shape[1] // 16, 1)
    size = shape[1] // groups
    tiles.require_whole(name, shape[1], size)
    given = overall.shape if overall is not None else ()
    return Float4("modelopt-nvfp4", shape, dtype, size, scaled, given, one_zero=True)


def _eight(name: str, main: Entry, there: Leaves, dtype: str) -> Codec:
    """A scale of the tensor, of each row, or, as a power of two, of 32 columns."""
    scale = there.get(SCALE)
    scaled, given = (scale.dtype, scale.shape) if scale is not None else ("F32", ())
    if scaled != "U8":
        return Float8("modelopt-fp8", main.shape, dtype, scaled, None, given, product=dtype)
    tiles.require_whole(name, main.shape[1], GROUP)
    return Float8("modelopt-mxfp8", main.shape, dtype, scaled, (1, GROUP))
