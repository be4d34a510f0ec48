"""Under autocast, with and without gradients, adapters do what they do outside of it, to autocast's precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.testing import assert_close, logits, shaken

METHODS = ("lora", "dora", "ia3", "oft", "loha", "lokr", "adalora", "vera", "houlsby", "prompt", "prefix")
SIZES: dict[str, dict[str, Any]] = {"houlsby": {"m": 8}, "parallel": {"m": 8}, "oft": {"b": 4}}


def made(model: Any, method: str, seed: int = 1, *where: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, *where, name=f"{method}{seed}", **SIZES.get(method, {})), seed)


def over_two(model: Any, method: str) -> adaptr.Adapter:
    children = {n: made(model, "lora", i) for i, n in enumerate("ab")}
    return shaken(adaptr.create(model, method, children=children), 3)


STACKS: dict[str, Any] = {
    **{method: (lambda model, method=method: [made(model, method)]) for method in METHODS},
    "two loras": lambda model: [made(model, "lora", i) for i in (1, 2)],
    "three loras": lambda model: [made(model, "lora", i) for i in (1, 2, 3)],
    "dora over two loras": lambda model: [made(model, "lora", 1), made(model, "lora", 2), made(model, "dora")],
    "xlora": lambda model: [over_two(model, "xlora")],
    "arrow": lambda model: [over_two(model, "arrow")],
    "lora-soups": lambda model: [over_two(model, "lora-soups")],
}


def said(model: Any, name: str, grad: bool, dtype: torch.dtype | None) -> torch.Tensor:
    with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        return logits(model(**tiny.inputs(name))).detach()


@pytest.mark.parametrize("grad", [False, True], ids=["no gradients", "gradients"])
@pytest.mark.parametrize("stack", STACKS)
def test_autocast_is_the_plain_forward_to_its_precision(stack: str, grad: bool) -> None:
    model = tiny.model("llama")
    for adapter in STACKS[stack](model):
        adaptr.attach(model, adapter)
    wanted = said(model, "llama", grad, None)
    for dtype in (torch.bfloat16, torch.float16):
        assert_close(said(model, "llama", grad, dtype).float(), wanted, to=0.06)
    assert torch.equal(said(model, "llama", grad, None), wanted)


@pytest.mark.parametrize(("name", "targets"), [("mixtral", "*experts*"), ("gpt2", "*"), ("bert", "*embeddings")])
def test_other_kinds_of_layers(name: str, targets: str) -> None:
    model = tiny.model(name)
    adapter = made(model, "lora", 1, [targets])
    with adaptr.attach(model, adapter):
        assert_close(said(model, name, False, torch.bfloat16).float(), said(model, name, False, None), to=0.06)


@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_of_a_pool(base: torch.dtype) -> None:
    model = tiny.model("llama").to(base)
    with adaptr.pool(model) as pool:
        for method in ("lora", "dora", "ia3"):
            pool.add(method, made(model, method).replace(base=adaptr.Base()))
        for names in (["lora", "dora"], ["ia3", "lora"], [None, "dora"]):
            with pool.rows(names):
                wanted = said(model, "llama", False, None)
                assert_close(said(model, "llama", False, torch.bfloat16).float(), wanted.float(), to=0.06)


def test_what_is_kept_is_not_rounded_by_autocast() -> None:
    """A norm that was first wanted under autocast is used outside of it."""
    model = tiny.model("llama")
    with adaptr.attach(model, made(model, "dora")):
        said(model, "llama", False, torch.bfloat16)
        after = said(model, "llama", False, None)
    with adaptr.attach(model, made(model, "dora")):
        assert torch.equal(said(model, "llama", False, None), after)


@pytest.mark.parametrize(
    ("method", "sizes"),
    [
        ("loha", {"w1_a": 1e-6, "w1_b": 1e-6, "w2_a": 1e4, "w2_b": 1e4}),
        ("lokr", {"w1": 1e-6, "w2_a": 1e3, "w2_b": 1e3}),
    ],
)
def test_products_that_fp16_does_not_hold_are_whole_under_autocast(method: str, sizes: dict[str, float]) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(32, 32, bias=False))
    torch.nn.init.zeros_(model[0].weight)
    adapter = adaptr.create(model, method, ["0"], r=8 if method == "loha" else 2)
    own = {f"0:{name}": size * torch.randn(adapter.tensors[f"0:{name}"].shape) for name, size in sizes.items()}
    x = torch.randn(3, 32)
    with torch.no_grad(), adaptr.attach(model, adapter.replace(tensors=own)):
        wanted = model(x)
        with torch.autocast("cpu", torch.float16):
            assert_close(model(x).float() / wanted.abs().max(), wanted / wanted.abs().max(), to=2e-3)
