"""Named axes: what a method's tensors are, said once, without torch.

`Param("out r")` names the axes of a tensor. Sizes come from the target (`out`, `in`, kernel `*k`, experts `*e`) and
from the method's configuration (`r`, `m`, `tokens` ...). From this table follow shape checks, counts, creation, row
slicing and the documentation of every method.

Tokens: a name; a number; `*k`, `*e` and `*i` (as many axes as the target has: kernel, experts, inputs, of which the
weight of a norm has none); `*1` (a 1 for each `*k`); `{field}` (the axis whose name the configuration field holds, for
methods that choose a side).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adaptr.errors import ShapeError, phrases

#: How a tensor can start; see `adaptr.families.init`.
INITS = ("zeros", "ones", "fill", "kaiming", "uniform", "normal", "truncated", "custom")

Dims = Mapping[str, int | tuple[int, ...]]


@dataclass(frozen=True)
class Param:
    """One tensor of a method at one target.

    `axes`: the named axes. `init`: how a fresh tensor starts, a name known to `adaptr.families.init`, or "custom" when
    the method's own `init` makes it from the base. `when`, `unless`: configuration fields, separated by blanks, that
    must all be true, and all be false, for the tensor to exist; `depth>1` is true where the field is larger, `ab=lora`
    where it is that text. `trains`: false for what stays as it starts, such as random projections and places of
    entries. `shared`: one tensor for all targets, kept under the key `:<param>`. `whole`: numbers without fractions,
    int64. `joint`: its rows count together, by a norm over all of them for one: some of them alone would do something
    else there.
    """

    axes: str
    init: str = "zeros"
    when: str = ""
    unless: str = ""
    trains: bool = True
    shared: bool = False
    whole: bool = False
    joint: bool = False

    def tokens(self, config: Mapping[str, Any]) -> list[str]:
        return self.axes.format(**config).split() if "{" in self.axes else self.axes.split()

    def present(self, config: Mapping[str, Any]) -> bool:
        wanted, unwanted = self.when.split(), self.unless.split()
        return all(_true(test, config) for test in wanted) and not any(_true(test, config) for test in unwanted)

    def shape(self, dims: Dims, config: Mapping[str, Any]) -> tuple[int, ...]:
        """The shape at a target with these sizes. Raises `KeyError` for an axis that nobody binds."""
        return tuple(n for token in self.tokens(config) for n in _sizes(token, dims, config))

    def row_axis(self, config: Mapping[str, Any]) -> int | None:
        """The position of the `out` axis, along which a row block of the weight slices this tensor."""
        tokens = self.tokens(config)
        return tokens.index("out") if "out" in tokens else None


def field_of(test: str) -> str:
    """The field that a condition asks for."""
    return re.split("[>=]", test)[0]


def _true(test: str, config: Mapping[str, Any]) -> bool:
    found, wanted = config[field_of(test)], test[len(field_of(test)) :]
    if wanted.startswith("="):
        return bool(found == wanted[1:])
    return bool(found > int(wanted[1:]) if wanted else found)


def _sizes(token: str, dims: Dims, config: Mapping[str, Any]) -> Iterator[int]:
    if token == "*1":
        kernel = dims.get("k", ())
        assert isinstance(kernel, tuple)
        yield from (1 for _ in kernel)
    elif token.startswith("*"):
        sizes = dims.get(token[1:], ())
        assert isinstance(sizes, tuple)
        yield from sizes
    elif token.isdigit():
        yield int(token)
    else:
        size = dims[token] if token in dims else config[token]
        assert isinstance(size, int)
        yield size


def shapes(params: Mapping[str, Param], dims: Dims, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors that a method has at a target."""
    return {name: p.shape(dims, config) for name, p in params.items() if p.present(config)}


def count(params: Mapping[str, Param], dims: Dims, config: Mapping[str, Any]) -> int:
    """How many numbers a method trains at a target."""
    found = shapes(params, dims, config)
    return sum(math.prod(shape) for name, shape in found.items() if params[name].trains)


def check(
    method: str,
    where: str,
    params: Mapping[str, Param],
    found: Mapping[str, tuple[int, ...]],
    dims: Dims,
    config: Mapping[str, Any],
) -> None:
    """Compare the shapes found at target `where` with the table. Raises `ShapeError` naming tensor, want and got."""
    wanted = shapes(params, dims, config)
    for name in found:
        if name not in wanted:
            raise ShapeError(
                f"`{method}`: `{name}` at `{where}` is no tensor of this configuration", want=f"{', '.join(wanted)}"
            )
    for name, want in wanted.items():
        if name not in found:
            raise ShapeError(f"`{method}`: `{name}` at `{where}` is missing", want=f"shape {want}")
        if tuple(found[name]) != want:
            said = ", ".join(f"{k}={v}" for k, v in config.items() if isinstance(v, int | float))
            raise phrases.misshapen(
                f"`{method}`: `{name}` at `{where}`",
                found[name],
                want,
                by=f"by axes `{params[name].axes}` with {said or 'this target'}",
            )
