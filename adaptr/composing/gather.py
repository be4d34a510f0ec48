"""Several adapters as the parts of one: what a stack and a gate keep of them.

The parts' tensors are in the file, so that nothing can be missing from it, and each part has the digest of the weights
that it had on its own, which is checked when the file is loaded (decision 0005).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import Adapter, Part
from adaptr.composing.parents import Parent, opened, require_different, require_one_base
from adaptr.errors import NotPossible, Unsupported, UsageError
from adaptr.families import fidelity
from adaptr.format.manifest import PART

if TYPE_CHECKING:
    from torch import Tensor, nn


def over(
    method: str,
    children: Mapping[str, Adapter],
    model: nn.Module | None = None,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
    any_base: bool = False,
) -> Adapter:
    """A fresh adapter of `method` over `children`, by name. Raises `UsageError`, `WrongBase`, `Unsupported`."""
    return plugins.method(method).over(model, gather(method, children, any_base), config or {}, seed)


def gather(method: str, children: Mapping[str, Adapter], any_base: bool = False) -> Adapter:
    """An adapter with `children` as its parts and nothing of its own. `any_base`: they may name different ones.

    Raises `UsageError` for none, for one that is there twice and for a name that can't be a part's; `WrongBase` for
    different bases; `Unsupported` for a child with parts of its own; `NotPossible` where two replace one parameter.
    """
    if not children:
        raise UsageError(
            f"`{method}` is made of other adapters, and none was given", hint="give them as `children={name: adapter}`"
        )
    for name, child in children.items():
        _check(name, child)
    parents = {name: opened(child.held(), 1.0) for name, child in children.items()}
    given = list(parents.values())
    require_different(given)
    base = given[0].adapter.base if any_base else require_one_base(given)
    _require_own_parameters(children)
    tensors: dict[str, Tensor] = {}
    for name, parent in parents.items():
        for key, tensor in parent.adapter.tensors.items():
            path, _, param = key.rpartition(":")
            tensors[f"{path}:{name}.{param}"] = tensor
    return Adapter(
        method,
        {},
        {},
        tensors,
        plugins.method(method).version,
        parts={name: _part(parent) for name, parent in parents.items()},
        base=dataclasses.replace(base, content=""),
        quantization=_quantization(children),
        lineage={
            "operation": method,
            "parents": [{**parent.named, "name": name} for name, parent in parents.items()],
        },
    )


def _check(name: str, child: Adapter) -> None:
    if not PART.fullmatch(name):
        raise UsageError(f"`{name}` can't be the name of a part", want="up to 64 of a-z, 0-9, `_` and `-`")
    if child.parts:
        raise Unsupported(f"`{name}` ({child.method}) is made of other adapters itself", hint="give those instead")


def _part(parent: Parent) -> Part:
    child = parent.adapter
    return Part(child.method, child.version, child.config, child.targets, parent.weights, child.base.content)


def _quantization(children: Mapping[str, Adapter]) -> dict[str, Any]:
    found = [child.quantization for child in children.values() if child.quantization]
    if not found:
        return {}
    schemes = {str(one.get("scheme", "")) for one in found}
    scheme = schemes.pop() if len(schemes) == 1 and len(found) == len(children) else "mixed"
    return {"scheme": scheme, **fidelity.worst(found)}


def _require_own_parameters(children: Mapping[str, Adapter]) -> None:
    owners: dict[str, str] = {}
    for name, child in children.items():
        for path in child.replaced:
            if path in owners:
                raise NotPossible(
                    f"`{owners[path]}` and `{name}` both replace `{path}` as a whole", hint="drop it from one of them"
                )
            owners[path] = name
