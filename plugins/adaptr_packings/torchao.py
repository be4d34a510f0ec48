"""torchao: whole numbers and FP8, as safetensors have them. What lies in a file is said in the file's metadata: for
each weight its class, the tensors that it is made of, and how large its tiles are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adaptr.errors import CheckpointError, Unsupported, shown
from adaptr.packings import Codec, Files, Packing, Weight
from adaptr.untrusted import json_object
from adaptr_packings._pieces import tiles
from adaptr_packings._pieces.floats8 import Float8
from adaptr_packings._pieces.modules import skipped
from adaptr_packings._pieces.whole import FLOATS, Integers

PLAIN = "Tensor"
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
#: Tensor of a class to its role.
ROLES = {"qdata": "weight", "zero_point": "zero"}


class TorchAo(Packing):
    name = "torchao"

    def weights(self, files: Files) -> Iterator[Weight]:
        for name, text in files.metadata.items():
            if text.startswith('{"_type"'):
                said = json_object(text.encode(), f"the metadata of `{name}`", CheckpointError)
                if said.get("_type") != PLAIN:
                    yield _weight(files, name, said)

    def floated(
        self, said: Mapping[str, Any], floats: Collection[str], packed: Collection[str] = ()
    ) -> Mapping[str, Any]:
        return {**said, "modules_to_not_convert": skipped(said.get("modules_to_not_convert"), floats)}

    def metadata(self, metadata: Mapping[str, str], floats: Collection[str]) -> Mapping[str, str]:
        return {**metadata, **{name: json.dumps({"_type": PLAIN}) for name in sorted(floats) if name in metadata}}


@dataclass(frozen=True)
class Said:
    """What the metadata says of a weight. `parts`: role to stored tensor."""

    files: Files
    name: str
    how: Mapping[str, Any]
    parts: Mapping[str, str]
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """Of what the weight decodes to."""
        found = DTYPES.get(_named(self.how.get("dtype")))
        if found is None:
            raise _wrong(self.name, self.how)
        return found

    @property
    def tile(self) -> tiles.Tile:
        found = self.how.get("block_size")
        if not isinstance(found, list) or len(found) != 2 or not all(type(n) is int and n > 0 for n in found):
            raise _wrong(self.name, self.how)
        for size, one in zip(self.shape, found, strict=True):
            tiles.require_whole(self.name, size, one)
        return found[0], found[1]

    @property
    def scale(self) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape; what is missing is refused with the other parts."""
        found = self.files.entries.get(self.parts.get("scale", ""))
        return ("F32", ()) if found is None else (found.dtype, found.shape)


def _weight(files: Files, name: str, said: Mapping[str, Any]) -> Weight:
    how, kind, names = said.get("_data"), str(said.get("_type")), _texts(said.get("_tensor_data_names"))
    if kind not in CODECS:
        raise Unsupported(
            f"`{name}` is packed by torchao as `{shown(kind)}`, and how that is read is not known",
            hint="use the unquantised base, or keep the adapter attached",
        )
    if not isinstance(how, dict) or not names:
        raise _wrong(name, said)
    if "act_pre_scale" in names:
        raise Unsupported(
            f"`{name}` scales its activations (`act_pre_scale`), and adapters of the model itself don't fit it",
            hint="use the unquantised base",
        )
    path, _, leaf = name.rpartition(".")
    parts = {ROLES.get(one, one): f"{path}._{leaf}_{one}".removeprefix(".") for one in names}
    missing = [part for part in parts.values() if part not in files.entries]
    if missing or "weight" not in parts:
        raise CheckpointError(
            f"the metadata describes `{name}`, and `{shown((missing or ['qdata'])[0])}` is not there",
            hint="get the missing tensors",
        )
    shape = files.entries[parts["weight"]].shape
    if len(shape) != 2 or 0 in shape:
        raise Unsupported(f"`{name}`", got=f"of shape {list(shape)}", want="a matrix")
    found = Said(files, name, how, parts, shape)
    return Weight(name, parts, CODECS[kind](found), found.dtype)


def _eight(said: Said) -> Codec:
    """A reduced range leaves out the last bit, so that sums don't overflow."""
    bits = 7 if said.how.get("reduce_range") is True else 8
    return _integers(said, "torchao-int8", bits)


def _narrow(said: Said) -> Codec:
    target = _named(said.how.get("target_dtype"))
    if target not in {f"int{bits}" for bits in range(1, 9)}:
        raise _wrong(said.name, said.how)
    return _integers(said, f"torchao-{target}", int(target[3:]))


def _integers(said: Said, scheme: str, bits: int) -> Codec:
    zero = said.files.entries.get(said.parts.get("zero", ""))
    if zero is not None and zero.dtype in FLOATS:
        raise Unsupported(f"`{said.parts['zero']}`", got=zero.dtype, want="I8, as zero points are that are known")
    scaled, given = said.scale
    zeros = "plain" if "zero" in said.parts else ""
    return Integers(scheme, said.shape, said.dtype, bits, said.tile, scaled, given, zero=zeros)


def _floats(said: Said) -> Codec:
    scaled, given = said.scale
    whole = tiles.grid(said.shape, said.tile) in {(1, 1), (said.shape[0], 1)}
    tile, given = (None, given) if whole else (said.tile, ())
    return Float8("torchao-float8", said.shape, said.dtype, scaled, tile, given)


def _texts(said: object) -> list[str]:
    """A list of texts, empty for what is none."""
    return [one for one in said if isinstance(one, str)] if isinstance(said, list) else []


def _named(said: object) -> str:
    """A dtype, as the metadata says it."""
    return str(said.get("_data")) if isinstance(said, dict) else str(said)


def _wrong(name: str, said: object) -> CheckpointError:
    return CheckpointError(
        f"the metadata of `{name}`", verb="says", got=shown(str(said), 200), want="how a weight is packed"
    )


CODECS = {"Int8Tensor": _eight, "IntxUnpackedToInt8Tensor": _narrow, "Float8Tensor": _floats}
