"""Tensors against the manifest: each belongs to a target, and each target has those that its method wants."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaptr import errors as e
from adaptr import plugins
from adaptr.adapter import REPLACED, Adapter, Target
from adaptr.adapter.dequantize import BESIDE, REST
from adaptr.errors import phrases, shown
from adaptr.format import quantized
from adaptr.format.header import Entry, Header
from adaptr.format.quantized import FLOATS

if TYPE_CHECKING:
    from adaptr.families.base import Method

#: Of tensors without fractions.
WHOLE = ("I64",)
#: Of all others; eight bits are read and written, calculated with in 32.
NUMBERS = (*FLOATS, "F8_E4M3", "F8_E5M2")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Entries = dict[str, Entry]
Shapes = Mapping[str, tuple[int, ...]]


def require_fit(adapter: Adapter, header: Header) -> None:
    """Raises a `ManifestError` or `ShapeError` where the tensors of a file are not those of its manifest.

    Targets of a method that is not known here must have tensors, but which is not checked: the file can be inspected.
    """
    if not header.entries:
        raise e.TensorMissing("the file holds no tensor at all", hint=phrases.AGAIN)
    found = _by_place(adapter, header)
    wanted: dict[object, Shapes] = {}
    own = {(part, target.path) for part, target in adapter.all_targets}
    shared = {part: found.pop((part, path)) for part, path in list(found) if not path and (part, path) not in own}
    for part, target in adapter.all_targets:
        owner = adapter.parts[part] if part else adapter
        own_here = found.pop((part, target.path), {})
        here = {**own_here, **shared.get(part, {})}
        if adapter.quantization:
            here = quantized.as_floats(target.path, here)
        method = _known(owner.method, owner.version)
        if method is None:
            _has_any(target, here)
            continue
        _explained(method, target.path, own_here, shared.get(part, {}))
        # targets of one method, kind, shape and configuration want the same, and there are hundreds of them
        alike = (owner.method, target.kind, target.shape, repr(target.config))
        want = wanted[alike] = wanted.get(alike) or _wanted(method, target)
        _typed(method, target, here, bool(adapter.quantization))
        _compare(method, target, want, here)
    for (_, path), left in found.items():
        raise e.TensorUnexpected(
            f"`{shown(path)}:{shown(next(iter(left)))}` belongs to no target of the manifest", hint=phrases.AGAIN
        )


def _by_place(adapter: Adapter, header: Header) -> dict[tuple[str, str], Entries]:
    """{(part, target path): {param: entry}}, without the replaced parameters."""
    found: dict[tuple[str, str], Entries] = {}
    for key, entry in header.entries.items():
        path, colon, name = key.rpartition(":")
        if not colon or not name or CONTROL.search(key) or (name == REPLACED and not path):
            raise e.KeyMalformed("the key", got=f"`{shown(key)}`", want="`<target>:<param>`", hint=phrases.AGAIN)
        if name == REPLACED:
            continue
        part, dot, param = name.partition(".")
        if dot and part in adapter.parts:
            if param != REPLACED:
                found.setdefault((part, path), {})[param] = entry
        else:
            found.setdefault(("", path), {})[name] = entry
    return found


def _known(name: str, version: int) -> Method | None:
    try:
        method = plugins.method(name)
    except e.UnknownMethod:
        return None
    if version != method.version:
        raise e.VersionUnknown(
            f"the file has version {version} of `{name}`, this adaptr computes version {method.version}",
            hint=f"use {'a later' if version > method.version else 'an earlier'} adaptr",
        )
    return method


def _has_any(target: Target, here: Entries) -> None:
    if not here:
        raise e.TensorMissing(f"`{shown(target.path)}` has no tensor at all", hint=phrases.AGAIN)


def _compare(method: Method, target: Target, want: Shapes, here: Entries) -> None:
    found = {param: entry.shape for param, entry in here.items()}
    if found == want:
        return
    for param in sorted({*want, *here}):
        key = f"{shown(target.path)}:{shown(param)}"
        if param not in here:
            raise e.TensorMissing(
                f"`{key}` is missing", want=f"{', '.join(want)}, as `{method.name}` has", hint=phrases.AGAIN
            )
        if param not in want:
            raise e.TensorUnexpected(
                f"`{key}` is no tensor of `{method.name}`", want=f"one of {', '.join(want)}", hint=phrases.AGAIN
            )
    method.check(target, found)


def _explained(method: Method, path: str, own: Entries, shared: Entries) -> None:
    """Raises `TensorUnexpected` where a target has what all share, or the adapter what each target has."""
    for found, where, other in ((own, path, ""), (shared, "", "<target>")):
        for name in found:
            owner = name.rpartition(".")[0] if name.endswith(BESIDE) else name
            param = method.params.get(owner.removesuffix(REST))
            if param is not None and param.shared != (found is shared):
                key = f"{shown(where)}:{shown(name)}"
                raise e.TensorUnexpected(
                    f"`{key}` is no tensor of `{method.name}`, which has it as `{other}:{name}`", hint=phrases.AGAIN
                )


def _repeated(method: Method, target: Target) -> None:
    """Raises `BadConfig` where a configuration says another size than the target has."""
    said = vars(method.config(target.config))
    for field, axis in method.sizes.items():
        if said[field] != target.shape[axis]:
            raise e.BadConfig(f"`{field}`", got=said[field], want=f"{target.shape[axis]}, as its shape has it")


def _typed(method: Method, target: Target, here: Entries, quantised: bool) -> None:
    """Raises `FieldInvalid` for numbers of a sort that a method's tensor does not have."""
    for name, entry in here.items():
        whole = name in method.params and method.params[name].whole
        if entry.dtype not in (WHOLE if whole else NUMBERS) and (whole or not quantised):
            raise e.FieldInvalid(
                f"`{shown(target.path)}:{shown(name)}`",
                verb="holds",
                got=entry.dtype,
                want=" or ".join(WHOLE if whole else NUMBERS),
                hint=phrases.AGAIN,
            )


def _wanted(method: Method, target: Target) -> Shapes:
    try:
        method.supports(target)
        _repeated(method, target)
        return method.shapes(target)
    except (e.BadConfig, e.Unsupported) as error:
        raise e.FieldInvalid(
            f"`targets.{shown(target.path)}`: {error.fact}", hint=error.hint or phrases.AGAIN
        ) from None
