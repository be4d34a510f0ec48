"""Costs of methods that don't say theirs: found by running them on one layer of that shape, on the meta device."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Adapter, Target
from adaptr.adapter.kinds import LINEAR
from adaptr.contract import Costs

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.families.base import Method

PATH = "layer"
#: Tokens of the two runs: what grows from one to the other is each token's.
FEW, MORE = 512, 768


def costs(method: Method, target: Target) -> Costs:
    """What a method costs at a target: what it says, else what a run on a layer of that shape shows.

    Where neither can be had, of a method that is at no layer of its own: a layer's input and output for each token.
    """
    said = method.costs(target, method.config(target.config))
    return looked(method, target) if said is None else said


def looked(method: Method, target: Target) -> Costs:
    """The same, whatever the method says."""
    config = {name: value for name, value in target.config.items() if name != "reads"}  # there is nothing else to read
    kind = LINEAR if target.is_linear else target.kind  # however its weight is stored
    return _looked(method.name, kind, target.shape, json.dumps(config, sort_keys=True))


def says(method: Method, target: Target) -> bool:
    """Whether the method says its costs there, so that torch is not needed."""
    return method.costs(target, method.config(target.config)) is not None


@functools.cache
def _looked(name: str, kind: str, shape: tuple[int, ...], config: str) -> Costs:
    from adaptr import plugins

    method, target = plugins.method(name), Target(PATH, kind, shape, json.loads(config))
    if not (target.is_linear or target.is_place):
        return Costs(input=True, token=shape[0], flops=2 * method.count(target))
    few, more = _run(method, target, FEW), _run(method, target, MORE)
    token = (more[0] - few[0]) // (MORE - FEW)
    return Costs(few[1], token, few[0] - token * FEW, (more[2] - few[2]) // (MORE - FEW))


def _run(method: Method, target: Target, tokens: int) -> tuple[int, bool, int]:
    """(numbers kept beside the input and the parameters, whether the input is kept, flops beside the layer's own)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from adaptr import host, plugins

    model = _model(target)
    tensors = method.init(target, host.view_of(model, target), None)
    adapter = Adapter(method.name, target.config, {PATH: target}, {method.key(PATH, n): t for n, t in tensors.items()})
    x = torch.empty(2, tokens // 2, _into(target), device="meta", requires_grad=True)
    in_place = {torch.ops.aten.addmm_: _product}  # which the counter does not know
    with FlopCounterMode(display=False) as own, torch.no_grad():
        model(x)
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with plugins.hooks(method.name).train(model=model, adapter=adapter) as session:
        known = {p.untyped_storage()._cdata for p in (*model.parameters(), *session.parameters())}
        counter = FlopCounterMode(display=False, custom_mapping=in_place)
        with counter as both, torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            model(x)
    read = x.untyped_storage()._cdata
    numbers = sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in known and at != read)
    return numbers // x.element_size(), read in kept, both.get_total_flops() - own.get_total_flops()


def _product(y: object, a: tuple[int, int], b: tuple[int, int], *_: object, **__: object) -> int:
    """Of a product that is added in place, by the shapes of its factors."""
    return 2 * a[0] * a[1] * b[1]


def _into(target: Target) -> int:
    return target.shape[1] if target.is_linear else target.shape[0]


def _model(target: Target) -> Any:
    from torch import nn

    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            out = target.shape[0]
            self.layer = nn.Linear(_into(target), out, bias=False, device="meta").requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x)
            return y

    return Alone()
