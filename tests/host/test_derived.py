"""What is derived from weights follows them: whatever changes them, and however."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adaptr
from adaptr.testing import assert_close, shaken

IN, OUT = 40, 24


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(IN, OUT)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x)
        return y


def layer() -> Layer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Layer().eval()


def made(model: nn.Module, method: str, seed: int) -> adaptr.Adapter:
    sizes = {"oft": {"b": 8}, "ia3": {}, "bitfit": {}, "full": {}}.get(method, {"r": 3})
    adapter = adaptr.create(model, method, ["fc"], name=f"{method}{seed}", **sizes)
    return shaken(adapter, seed).replace(base=adaptr.Base())


X = torch.randn(5, IN, generator=torch.Generator().manual_seed(9))


def said(model: nn.Module) -> Tensor:
    with torch.no_grad():
        y: Tensor = model(X)
    return y


def fresh(model: Layer, *adapters: tuple[adaptr.Adapter, float]) -> Tensor:
    """What a model of the same weights says to which nothing was attached before."""
    other = layer()
    other.fc = nn.Linear(IN, OUT).to(model.fc.weight.dtype)
    other.fc.load_state_dict({name: model.fc.state_dict()[name] for name in ("weight", "bias")})
    for adapter, weight in adapters:
        adaptr.attach(other, adapter, weight)
    return said(other)


# ---------------------------------------------------------------- what is below


@pytest.mark.parametrize("below", ["lora", "loha", "ia3", "dora", "oft", "full", "bitfit"])
@pytest.mark.parametrize("above", ["dora", "oft", "ia3"])
def test_a_transform_follows_the_strength_of_what_is_below_it(below: str, above: str) -> None:
    model = layer()
    one, two = made(model, below, 1), made(model, above, 2)
    with adaptr.attach(model, one) as handle, adaptr.attach(model, two):
        for weight in (1.0, 0.5, 2.0, -1.0, 0.0, 1.0):
            handle.weight = weight
            assert_close(said(model), fresh(model, (one, weight), (two, 1.0)))


def test_a_transform_follows_a_run_of_deltas_below_it() -> None:
    model = layer()
    one, two, top = made(model, "lora", 1), made(model, "lora", 2), made(model, "dora", 3)
    with adaptr.stack(model, {"one": one, "two": two, "top": top}) as stack:
        said(model)
        for a, b in ((0.5, 1.0), (0.5, 3.0), (3.0, 0.5), (1.0, 0.0)):
            stack["one"], stack["two"] = a, b
            assert_close(said(model), fresh(model, (one, a), (two, b), (top, 1.0)))


def test_a_transform_follows_the_order_and_what_is_put_below_it() -> None:
    model = layer()
    one, two, top = made(model, "lora", 1), made(model, "ia3", 2), made(model, "dora", 3)
    with adaptr.stack(model, {"one": one, "two": two, "top": top}) as stack:
        assert_close(said(model), fresh(model, (one, 1.0), (two, 1.0), (top, 1.0)))
        stack.reorder(["two", "one", "top"])
        assert_close(said(model), fresh(model, (two, 1.0), (one, 1.0), (top, 1.0)))
        stack.swap("one", made(model, "lora", 7))
        assert_close(said(model), fresh(model, (two, 1.0), (made(model, "lora", 7), 1.0), (top, 1.0)))
        stack.remove("two")
        assert_close(said(model), fresh(model, (made(model, "lora", 7), 1.0), (top, 1.0)))


# ---------------------------------------------------------------- the weight itself


def _optimised(layer: nn.Linear) -> None:
    layer.weight.grad = torch.ones_like(layer.weight)
    torch.optim.Adam([layer.weight], lr=0.1).step()


def _through_half(layer: nn.Linear) -> None:
    """To half and back, the memory of the first weight being free in between."""
    layer.weight.data = layer.weight.data.half()
    layer.weight.data = layer.weight.data.float()


def _columns(layer: nn.Linear) -> None:
    layer.weight.data[:, 3:5] = 7.0


def _swapped_rows(layer: nn.Linear) -> None:
    layer.weight.data = layer.weight.data.flip(0)


def _numpy(layer: nn.Linear) -> None:
    layer.weight.detach().numpy()[:] *= 2


CHANGES: dict[str, Callable[[Any], Any]] = {
    "in place": lambda fc: fc.weight.requires_grad_(False).mul_(2),
    "through .data": lambda fc: fc.weight.data.mul_(2),
    "an element through .data": lambda fc: fc.weight.data[3].__setitem__(4, 9.0),
    "columns through .data": _columns,
    ".data replaced": lambda fc: setattr(fc.weight, "data", fc.weight.data * 2),
    ".data replaced by rows in another order": _swapped_rows,
    "by NumPy": _numpy,
    "state dict": lambda fc: fc.load_state_dict({"weight": fc.weight * 2}, strict=False),
    "state dict, assigned": lambda fc: fc.load_state_dict({"weight": fc.weight * 2}, strict=False, assign=True),
    "parameter replaced": lambda fc: setattr(fc, "weight", nn.Parameter(fc.weight.detach() * 2)),
    "optimiser": _optimised,
    "half and back": _through_half,
}


@pytest.mark.parametrize("below", ["", "lora"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_norm_follows_its_weight(change: str, below: str) -> None:
    model = layer()
    stack = [(made(model, method, i), 1.0) for i, method in enumerate((below, "dora")) if method]
    for adapter, weight in stack:
        adaptr.attach(model, adapter, weight)
    said(model)
    before = model.fc.weight.detach().clone()
    CHANGES[change](model.fc)
    assert not torch.equal(model.fc.weight, before)
    assert_close(said(model), fresh(model, *stack))


def _double(state: Any, name: str, how: str) -> None:
    if how == "assigned":
        state.load_state_dict({name: state[name] * 2}, strict=False, assign=True)
    else:
        (state[name].data if how == "through .data" else state[name]).mul_(2)


@pytest.mark.parametrize("name", ["A", "B", "m"])
@pytest.mark.parametrize("how", ["in place", "through .data", "assigned"])
def test_a_norm_follows_its_own_tensors(name: str, how: str) -> None:
    model = layer()
    adapter = made(model, "dora", 1)
    with adaptr.attach(model, adapter) as handle:
        said(model)
        changed = adapter.replace(tensors={k: v * 2 if k == f"fc:{name}" else v for k, v in adapter.tensors.items()})
        _double(handle.states["fc"], name, how)
        assert_close(said(model), fresh(model, (changed, 1.0)))


@pytest.mark.parametrize("how", ["in place", "through .data", "assigned"])
def test_a_norm_follows_the_tensors_of_what_is_below(how: str) -> None:
    model = layer()
    one, top = made(model, "lora", 1), made(model, "dora", 2)
    with adaptr.attach(model, one) as handle, adaptr.attach(model, top):
        said(model)
        changed = one.replace(tensors={**one.tensors, "fc:B": one.tensors["fc:B"] * 2})
        _double(handle.states["fc"], "B", how)
        assert_close(said(model), fresh(model, (changed, 1.0), (top, 1.0)))


def test_a_rotation_follows_its_strength_and_its_tensor() -> None:
    model = layer()
    adapter = made(model, "oft", 1)
    with adaptr.attach(model, adapter) as handle:
        for weight in (1.0, 0.5, 1.0):
            handle.weight = weight
            assert_close(said(model), fresh(model, (adapter, weight)))
        wanted = fresh(model, (adapter, 0.5))
        handle.states["fc"]["Q"].data.mul_(0.5)
        assert_close(said(model), wanted)
        assert len(handle.states["fc"].memo) == 1


def test_a_replaced_weight_at_another_strength_is_followed() -> None:
    model = layer()
    table = model.fc.weight.detach() * 3
    whole = made(model, "bitfit", 1)
    whole = whole.replace(tensors={**whole.tensors, "fc.weight:=": table})
    top = made(model, "dora", 2)
    wanted = {weight: fresh(model, (whole, weight), (top, 1.0)) for weight in (1.0, 0.5, 0.25)}
    with adaptr.attach(model, whole) as handle, adaptr.attach(model, top):
        for weight, value in wanted.items():
            handle.weight = weight
            assert_close(said(model), value)


def test_weights_made_in_inference_mode_are_read_each_time() -> None:
    with torch.inference_mode():
        model = Layer().eval()
        top = made(model, "dora", 1)
        with adaptr.attach(model, top):
            said(model)
            model.fc.weight[0, 0] = 50.0
            assert_close(said(model), fresh(model, (top, 1.0)))


def test_a_change_during_training_is_seen_by_the_evaluation_after_it() -> None:
    model = layer()
    with adaptr.train(model, made(model, "dora", 1)) as session:
        optimiser = torch.optim.SGD(session.parameters(), lr=1.0)
        for _ in range(2):
            said(model)
            model(X).square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()
        assert_close(said(model), fresh(model, (session.adapted(), 1.0)))


# ---------------------------------------------------------------- the watch


def test_what_is_unchanged_is_kept() -> None:
    model = layer()
    with adaptr.attach(model, made(model, "lora", 1)), adaptr.attach(model, made(model, "dora", 2)) as top:
        said(model)
        kept = top.states["fc"].memo["g", False][1]
        said(model)
        assert top.states["fc"].memo["g", False][1] is kept


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.Adam])
def test_a_norm_follows_what_learns_below_it(optimiser: Any) -> None:
    """DoRA over LoRA, both trained at once: step by step the losses of a dense reference in fp64."""
    model = nn.Sequential(layer().fc).double()
    lora = shaken(adaptr.create(model, "lora", "0", r=2), 1, 0.3)
    dora = shaken(adaptr.create(model, "dora", "0", r=2), 2, 0.3)
    wide = [{k: t.double() for k, t in one.tensors.items()} for one in (lora, dora)]
    x, W, b = torch.randn(5, IN, dtype=torch.float64), model[0].weight.detach().clone(), model[0].bias.detach()
    below, above = ({k[2:]: t.clone().requires_grad_() for k, t in tensors.items()} for tensors in wide)

    def dense() -> Tensor:
        U = W + 8 * below["B"] @ below["A"]
        V = U + 8 * above["B"] @ above["A"]
        return (x @ (V * (above["m"] / V.detach().norm(dim=1))[:, None]).T + b).square().mean()

    handles = [adaptr.train(model, one.replace(tensors=t)) for one, t in zip((lora, dora), wide, strict=True)]
    learned = [p for handle in handles for state in handle.states.values() for p in state.parameters()]
    for p in learned:
        p.requires_grad_(True)  # the second session froze what the first one trains
    mine, theirs = optimiser(learned, lr=0.01), optimiser([*below.values(), *above.values()], lr=0.01)
    for _ in range(4):
        found, wanted = model(x).square().mean(), dense()
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)
        for steps, loss in ((mine, found), (theirs, wanted)):
            steps.zero_grad()
            loss.backward()
            steps.step()
        with torch.no_grad():
            torch.testing.assert_close(model(x).square().mean(), dense(), rtol=1e-9, atol=0)
