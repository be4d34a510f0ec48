"""What is stored of quantised tensors: which entries belong together, and the tensors that they stand for."""

from __future__ import annotations

from adaptr import errors as e
from adaptr.adapter import packed
from adaptr.adapter.dequantize import BESIDE, REST, SCALE, axis_of, joined
from adaptr.errors import phrases, shown
from adaptr.format.header import Entry

#: Dtypes that mean nothing without a tensor beside them, to what the name of that may end in.
CODES = {"I8": (SCALE,), "U8": BESIDE}
#: Dtypes of what blocks have.
FLOATS = ("F64", "F32", "F16", "BF16")


def as_floats(path: str, here: dict[str, Entry]) -> dict[str, Entry]:
    """The entries at a target, each with what is beside it taken as part of it and the shape of its floats.

    Raises `TensorMissing`, `TensorUnexpected` and `ShapeError` where they don't belong together.
    """
    for name in here:
        if name.endswith(BESIDE):
            _require_owner(path, name, here)
    found = {name: _as_float(path, name, here) for name in here if not name.endswith(BESIDE)}
    for name in [one for one in found if one.endswith(REST)]:
        rest, owner = found.pop(name), name.removesuffix(REST)
        if owner not in found or owner.endswith(REST):
            raise _ownerless(path, name, "rest")
        found[owner] = _whole(f"{shown(path)}:{shown(name)}", found[owner], rest)
    return found


def _ownerless(path: str, name: str, what: str) -> e.TensorUnexpected:
    return e.TensorUnexpected(
        f"`{shown(path)}:{shown(name)}` is the {what} of a tensor that is not there", hint=phrases.AGAIN
    )


def _whole(key: str, first: Entry, rest: Entry) -> Entry:
    """A tensor of which the other indices of one axis are stored apart. Raises `ShapeError`."""
    axis = axis_of(first.shape, rest.shape)
    if axis is None:
        raise e.ShapeError(
            f"`{key}`",
            verb="has shape",
            got=rest.shape,
            want=f"that of {first.shape} but on one axis",
            hint=phrases.AGAIN,
        )
    return first._replace(shape=joined(first.shape, rest.shape, axis))


def _require_owner(path: str, name: str, here: dict[str, Entry]) -> None:
    owner = name.rpartition(".")[0]
    what = name[len(owner) + 1 :]
    if owner not in here or owner.endswith(BESIDE):
        raise _ownerless(path, name, what)
    first = next(suffix for suffix in BESIDE if owner + suffix in here)
    if name != owner + first:
        raise e.TensorUnexpected(
            f"`{shown(path)}:{shown(owner)}` has both `{first}` and `.{what}`", want="one", hint=phrases.AGAIN
        )


def _as_float(path: str, name: str, here: dict[str, Entry]) -> Entry:
    entry, key = here[name], f"{shown(path)}:{shown(name)}"
    beside = CODES.get(entry.dtype, ())
    if beside and not any(name + suffix in here for suffix in beside):
        raise e.TensorMissing(
            f"`{key}{beside[0]}` is missing: without it {entry.dtype} means nothing",
            want=" or ".join(beside),
            hint=phrases.AGAIN,
        )
    if name + SCALE in here:
        _require_scale(f"{key}{SCALE}", entry.shape, here[name + SCALE].shape)
    suffix = packed.suffix_of(name, here)
    return entry._replace(shape=_unpacked(key, suffix, entry, here[name + suffix])) if suffix else entry


def _require_scale(key: str, stored: packed.Shape, shape: packed.Shape) -> None:
    if len(shape) != len(stored) or any(n not in (1, m) for n, m in zip(shape, stored, strict=True)):
        raise e.ShapeError(f"`{key}` has shape {shape}", want=f"1 or the same on each axis of {stored}")


def _unpacked(key: str, suffix: str, codes: Entry, blocks: Entry) -> packed.Shape:
    """The shape that two codes a byte have. Raises `ShapeError`, also for dtypes of which they can't be."""
    for name, entry, wanted in ((key, codes, ("U8",)), (key + suffix, blocks, FLOATS)):
        if entry.dtype not in wanted:
            raise e.ShapeError(f"`{name}`", got=f"of dtype {entry.dtype}", want=" or ".join(wanted), hint=phrases.AGAIN)
    size = packed.BLOCKS[suffix]
    axis = packed.axis_of(codes.shape, blocks.shape, size)
    if axis is None:
        raise e.ShapeError(
            f"`{key}{suffix}`",
            verb="has shape",
            got=blocks.shape,
            want=f"that of {codes.shape}, but on one axis a number for each {size} codes, two a byte",
            hint=phrases.AGAIN,
        )
    return packed.shape_of(codes.shape, axis)
