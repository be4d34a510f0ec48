"""The schemes of compressed-tensors: how the modules of a group are packed, as `config_groups` says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adaptr.errors import CheckpointError, Unsupported, shown
from adaptr_packings._pieces.tiles import Tile

KNOWN = frozenset({
    "pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mxfp8-quantized",
    "nvfp4-pack-quantized", "mxfp4-pack-quantized",
})  # fmt: skip
STRATEGIES = frozenset({"tensor", "channel", "group", "tensor_group", "block"})


@dataclass(frozen=True)
class Scheme:
    """`strategy`: what shares a scale; `group`: columns of a group, `block`: rows and columns of a block; `ordered`:
    whether columns say which group they are of.
    """

    format: str
    kind: str
    bits: int
    strategy: str
    group: int = 0
    block: tuple[int, int] = (0, 0)
    symmetric: bool = True
    ordered: bool = False

    def __str__(self) -> str:
        how = "" if self.symmetric else " with zero points"
        return f"{self.format} of {self.kind}{self.bits} by {self.strategy}{how}"

    @property
    def packed(self) -> bool:
        """Whether several codes share a byte or a word, in a tensor of another name."""
        return "pack" in self.format

    @property
    def along_rows(self) -> bool:
        """Whether zero points are packed too."""
        return self.strategy in {"group", "channel"}

    def tile(self, shape: tuple[int, ...]) -> Tile:
        """Rows and columns of a weight that share a scale."""
        if self.strategy == "block":
            return self.block
        if self.strategy == "tensor":
            return max(shape[0], 1), max(shape[1], 1)
        return 1, self.group or max(shape[1], 1)


def schemes(said: Mapping[str, Any]) -> dict[str, Scheme]:
    """Target to its scheme; groups that pack no weights have none. Raises `CheckpointError` and `Unsupported`."""
    groups = said.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise _wrong("config_groups", groups, "groups of modules")
    found: dict[str, Scheme] = {}
    for name, group in groups.items():
        where = f"config_groups.{name}"
        if isinstance(group, list):
            raise Unsupported(
                f"`{shown(where)}` names a scheme and says nothing of it", hint="save it with a newer release"
            )
        targets = group.get("targets") if isinstance(group, dict) else None
        if not isinstance(targets, list) or not all(isinstance(one, str) for one in targets):
            raise _wrong(f"{where}.targets", targets, "a list of modules")
        if group.get("weights") is not None:
            found |= dict.fromkeys(targets, _scheme(where, group, said.get("format")))
    return found


def _scheme(where: str, group: Mapping[str, Any], format_: object) -> Scheme:
    said, where = group["weights"], f"{where}.weights"
    if not isinstance(said, dict):
        raise _wrong(where, said, "how weights are packed")
    kind, bits = _text(said.get("type", "int")), said.get("num_bits", 8)
    group_size = said.get("group_size")
    if type(bits) is not int or kind not in {"int", "float"}:
        raise _wrong(where, said, "`type` int or float, and `num_bits`")
    if group_size is not None and (type(group_size) is not int or group_size < -1):
        raise _wrong(f"{where}.group_size", group_size, "a whole number")
    strategy = _text(said.get("strategy") or _strategy(group_size))
    if strategy not in STRATEGIES:
        raise Unsupported(
            f"`{shown(where)}.strategy`", got=shown(strategy), want=f"one of {', '.join(sorted(STRATEGIES))}"
        )
    grouped = strategy in {"group", "tensor_group"}
    if grouped and (group_size is None or group_size < 1):
        raise _wrong(f"{where}.group_size", group_size, "the size of a group")
    block = _block(where, said.get("block_structure")) if strategy == "block" else (0, 0)
    found = _text(group.get("format") or format_)
    if found in {"none", "mixed-precision"}:
        found = _inferred(kind, bits, group_size, said.get("scale_dtype"), group.get("input_activations"))
    if found not in KNOWN:
        raise Unsupported(
            f"weights are packed as `{shown(found)}`, and how that is read is not known",
            hint="use the unquantised base, or keep the adapter attached",
        )
    order = _text(said.get("actorder")) in {"group", "dynamic"}
    size = int(group_size or 0) if grouped else 0
    return Scheme(found, kind, bits, strategy, size, block, said.get("symmetric") is not False, order)


def _inferred(kind: str, bits: int, size: object, scaled: object, activations: object) -> str:
    """The format that the library takes where none is said."""
    if kind == "float" and bits == 4:
        return {32: "mxfp4-pack-quantized", 16: "nvfp4-pack-quantized"}.get(size if isinstance(size, int) else 0, "")
    if kind == "float" and bits == 8 and size == 32 and scaled == "torch.uint8":
        return "mxfp8-quantized"
    if kind == "int":
        return "int-quantized" if activations is not None else "pack-quantized"
    return "naive-quantized"


def _strategy(group_size: int | None) -> str:
    return "tensor" if group_size is None else "channel" if group_size == -1 else "group"


def _block(where: str, said: object) -> tuple[int, int]:
    """Also as the text `128x128`, as old releases wrote it."""
    parts = [int(one) for one in said.split("x") if one.isascii() and one.isdigit()] if isinstance(said, str) else said
    if not isinstance(parts, list) or len(parts) != 2 or not all(type(n) is int and n > 0 for n in parts):
        raise _wrong(f"{where}.block_structure", said, "rows and columns of a block")
    return parts[0], parts[1]


def _text(said: object) -> str:
    return str(said).lower()


def _wrong(field: str, got: object, want: str) -> CheckpointError:
    return CheckpointError(f"`quantization_config.{shown(field)}`", got=shown(repr(got), 200), want=want)
