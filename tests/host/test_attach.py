"""Attach, stack, change strength, detach: nothing is left behind, and nothing is touched when it is refused."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import adaptr
import tiny
from adaptr import errors, host
from adaptr.host import call
from adaptr.testing import assert_close, logits, merged, shaken

METHODS = ("lora", "ia3", "dora", "bitfit")
WEIGHTS = (1, 0.5, 1, 0.3)


def run(model: torch.nn.Module, name: str = "gpt2") -> torch.Tensor:
    with torch.no_grad():
        return logits(model(**tiny.inputs(name)))


def made(model: torch.nn.Module, method: str, seed: int = 1, **config: object) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, name=f"{method}{seed}", **config), seed)


@pytest.mark.parametrize("order", list(itertools.permutations(METHODS)))
def test_a_stack_in_any_order_is_its_composed_view(order: tuple[str, ...]) -> None:
    model = tiny.model("gpt2")
    base = run(model)
    stack = [
        (made(model, method, seed), weight) for seed, (method, weight) in enumerate(zip(order, WEIGHTS, strict=True))
    ]
    handles = [adaptr.attach(model, adapter, weight) for adapter, weight in stack]
    attached = run(model)
    for i in (2, 0, 3, 1):
        handles[i].detach()
    assert torch.equal(run(model), base)
    assert_close(run(merged(model, stack)), attached, to=2e-5)


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "bitfit", "houlsby", "parallel"])
def test_strength_zero_is_the_base_and_one_is_all(method: str) -> None:
    model = tiny.model("gpt2")
    base, adapter = run(model), made(model, method)
    handle = adaptr.attach(model, adapter, 0.0)
    assert_close(run(model), base, to=1e-6)
    assert call.chain() is None  # of that call nothing stays with the thread
    handle.weight = 1.0
    full = run(model)
    handle.detach()
    with adaptr.attach(model, adapter) as again:
        assert torch.equal(run(model), full)
        assert again.weight == 1.0
        again.weight = 0.5
        assert not torch.equal(run(model), full)
        again.weight = 0.0
        assert_close(run(model), base, to=1e-6)


@pytest.mark.parametrize("method", ["prefix", "prompt", "mam"])
def test_virtual_tokens_have_no_strength(method: str) -> None:
    model = tiny.model("llama")
    adapter = made(model, method, **({"m": 8} if method == "mam" else {}))
    with pytest.raises(errors.Unsupported, match="no strength"):
        adaptr.attach(model, adapter, 0.5)
    assert host.attached(model) == {}
    with adaptr.attach(model, adapter) as handle, pytest.raises(errors.Unsupported, match="no strength"):
        handle.weight = 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_strength_must_be_finite(value: float) -> None:
    model = tiny.model("llama")
    with pytest.raises(errors.UsageError, match="finite"):
        adaptr.attach(model, made(model, "lora"), value)


def test_twice_is_refused_and_another_name_is_not() -> None:
    model = tiny.model("llama")
    adapter = made(model, "lora")
    with adaptr.attach(model, adapter):
        with pytest.raises(errors.AlreadyAttached, match="detach it first"):
            adaptr.attach(model, adapter)
        with pytest.raises(errors.AlreadyAttached, match="another name"):
            adaptr.attach(model, made(model, "lora"))
        with adaptr.attach(model, made(model, "lora", 2)):
            assert list(host.attached(model)) == ["lora1", "lora2"]
    assert host.attached(model) == {}


def test_where_an_adapter_is_will_do(tmp_path: Path) -> None:
    model = tiny.model("llama")
    adaptr.save(made(model, "lora"), tmp_path / "a.safetensors")
    with adaptr.attach(model, adaptr.load(tmp_path / "a.safetensors")):
        wanted = run(model, "llama")
    for where in (tmp_path / "a.safetensors", str(tmp_path / "a.safetensors")):
        with adaptr.attach(model, where):
            assert torch.equal(run(model, "llama"), wanted)
    with adaptr.train(model, tmp_path / "a.safetensors") as session:
        assert torch.equal(run(model, "llama"), wanted)
        assert list(session.parameters())


@pytest.mark.parametrize("wrong", [None, 3, ["a"], torch.nn.Linear(2, 2)], ids=repr)
def test_what_is_no_adapter_is_said(wrong: Any) -> None:
    for way in (adaptr.attach, adaptr.train):
        with pytest.raises(errors.UsageError, match="wanted an adapter"):
            way(tiny.model("llama"), wrong)


@pytest.mark.parametrize("method", ["lora", "houlsby", "prompt"])
@pytest.mark.parametrize("weight", ["high", None, float("inf"), True, torch.ones(2)])
def test_a_weight_that_is_no_number(method: str, weight: Any) -> None:
    model = tiny.model("llama")
    with pytest.raises(errors.UsageError, match="wanted a finite number"):
        adaptr.attach(model, made(model, method), weight=weight)
    assert not host.attached(model)


@pytest.mark.parametrize("weight", [torch.tensor(0.5), np.float32(0.5), 0.5])
def test_a_weight_of_any_kind_of_number(weight: Any) -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, made(model, "lora"), weight=weight) as handle:
        assert handle.weight == 0.5


@pytest.mark.parametrize("name", ["items", "keys", "a.b", "type"])
def test_any_name_will_do(name: str) -> None:
    model = tiny.model("llama")
    base = run(model, "llama")
    with adaptr.attach(model, made(model, "lora").replace(name=name)):
        assert not torch.equal(run(model, "llama"), base)
    assert torch.equal(run(model, "llama"), base)


def test_an_exception_in_forward_leaves_it_detachable() -> None:
    model = tiny.model("llama")
    base = run(model, "llama")
    handle = adaptr.attach(model, made(model, "parallel", m=8))
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[10_000]]))
    handle.detach()
    handle.detach()
    assert torch.equal(run(model, "llama"), base)


def _broken(adapter: adaptr.Adapter, kind: str) -> adaptr.Adapter:
    path, target = list(adapter.targets.items())[-1]
    if kind == "path":
        wrong = adaptr.Target(path + "x", target.kind, target.shape, target.config)
        tensors = {k.replace(f"{path}:", f"{path}x:"): t for k, t in adapter.tensors.items()}
        targets = {**{p: t for p, t in adapter.targets.items() if p != path}, path + "x": wrong}
        return adapter.replace(targets=targets, tensors=tensors)
    if kind == "tensor":
        return adapter.replace(tensors={**adapter.tensors, f"{path}:A": torch.zeros(3, 3)})
    if kind == "extra":
        return adapter.replace(tensors={**adapter.tensors, f"{path}:b": torch.zeros(target.shape[0])})
    if kind == "missing":
        return adapter.replace(tensors={k: t for k, t in adapter.tensors.items() if k != f"{path}:A"})
    out, into = target.shape
    size = (out + 1, into) if kind == "shape" else (out, into)
    wrong = adaptr.Target(path, "linear_t" if kind == "kind" else target.kind, size, target.config)
    tensors = {**adapter.tensors, f"{path}:B": torch.zeros(size[0], 8)}
    return adapter.replace(targets={**adapter.targets, path: wrong}, tensors=tensors)


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("path", errors.TargetNotFound, "nearest name"),
        ("tensor", errors.ShapeError, "`A`"),
        ("extra", errors.ShapeError, "`b`"),
        ("missing", errors.ShapeError, "missing"),
        ("shape", errors.TargetMismatch, "of shape"),
        ("kind", errors.TargetMismatch, "linear_t"),
    ],
)
@pytest.mark.parametrize("verb", ["attach", "train"])
def test_what_does_not_fit_is_refused_and_nothing_is_touched(kind: str, error: type, words: str, verb: str) -> None:
    model = tiny.model("llama")
    classes = [type(m) for m in model.modules()]
    with pytest.raises(error, match=words):
        getattr(adaptr, verb)(model, _broken(made(model, "lora"), kind))
    assert [type(m) for m in model.modules()] == classes
    assert all(p.requires_grad for p in model.parameters())
    assert host.attached(model) == {}


def test_another_revision_is_noticed_in_any_dtype() -> None:
    model = tiny.model("llama")
    adapter = made(model, "lora")
    for dtype in (torch.bfloat16, torch.float32):
        adaptr.attach(copy.deepcopy(model).to(dtype), adapter).detach()
    other = tiny.seeded(tiny.model("llama"))
    with pytest.raises(errors.ContentMismatch, match="not those it was trained on"):
        adaptr.attach(other, adapter)
    adaptr.attach(other, adapter.replace(base=adaptr.Base())).detach()


# ---------------------------------------------------------------- parameters that are replaced whole


def _with_head(model: torch.nn.Module, adapter: adaptr.Adapter, value: float) -> adaptr.Adapter:
    head = torch.full_like(model.lm_head.weight, value)
    return adapter.replace(tensors={**adapter.tensors, "lm_head.weight:=": head})


@pytest.mark.parametrize("method", ["lora", "mam"])
def test_replaced_parameters_follow_the_strength_and_return(method: str) -> None:
    model = tiny.model("llama")
    base, parameter = run(model, "llama"), model.lm_head.weight
    adapter = _with_head(model, made(model, method, **({"m": 8} if method == "mam" else {})), 0.5)
    with adaptr.attach(model, adapter) as handle:
        assert run(model, "llama").std(-1).max() < 1e-5
        if method == "lora":
            handle.weight = 0.0
            assert_close(run(model, "llama"), base, to=1e-6)
    assert model.lm_head.weight is parameter
    assert torch.equal(run(model, "llama"), base)


@pytest.mark.parametrize("verb", ["attach", "train"])
@pytest.mark.parametrize("to", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_base_that_was_kept_aside_returns_in_the_models_dtype(name: str, to: torch.dtype, verb: str) -> None:
    model = tiny.model(name)
    ties = {id(p) for p in model.parameters()}
    values = {key: value.clone() for key, value in model.state_dict().items()}
    lora = made(model, "lora")
    norm = "model.norm.weight" if name == "llama" else "transformer.ln_f.weight"
    whole = {f"{path}:=": model.get_parameter(path).detach() * 1.1 for path in (norm, "lm_head.weight")}
    handle = getattr(adaptr, verb)(model, lora.replace(tensors={**lora.tensors, **whole}))
    model.to(to)
    assert run(model, name).dtype is to
    if verb == "attach":
        handle.weight = 0.5
        assert run(model, name).dtype is to
    handle.detach()
    assert {p.dtype for p in model.parameters()} == {to}
    assert {id(p) for p in model.parameters()} == ties
    assert all(torch.equal(value, values[key].to(to)) for key, value in model.state_dict().items())
    assert torch.equal(run(model, name), run(tiny.model(name).to(to), name))


def test_a_gradient_of_what_was_kept_aside_returns_with_it() -> None:
    model = tiny.model("llama")
    run_with_gradients = logits(model(**tiny.inputs("llama"))).sum()
    run_with_gradients.backward()
    lora = made(model, "lora")
    with adaptr.attach(model, lora.replace(tensors={**lora.tensors, "model.norm.weight:=": torch.ones(32)})):
        model.bfloat16()
    assert model.model.norm.weight.grad.dtype is torch.bfloat16


def test_two_adapters_may_not_replace_the_same_parameter() -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, _with_head(model, made(model, "lora", 1), 0.5)):
        with pytest.raises(errors.AlreadyAttached, match=r"lm_head\.weight"):
            adaptr.attach(model, _with_head(model, made(model, "lora", 2), 0.1))
        assert list(host.attached(model)) == ["lora1"]


def test_a_layer_sees_its_weight_replaced_under_it() -> None:
    model = tiny.model("llama")
    lora = shaken(adaptr.create(model, "lora", "lm_head"))
    with adaptr.train(model, lora):
        run(model, "llama")
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight), requires_grad=False)
        out = logits(model(**tiny.inputs("llama")))  # the fused path
        assert_close(out.detach(), run(model, "llama"))
        assert out.abs().max() < 20
        model.load_state_dict({"lm_head.weight": torch.full_like(model.lm_head.weight, 9.0)}, strict=False, assign=True)
        assert not torch.allclose(logits(model(**tiny.inputs("llama"))), out)


# ---------------------------------------------------------------- what changes while it is attached


@pytest.mark.parametrize("part", ["A", "B", "m", "W", "loaded", "assigned"])
def test_doras_cached_gain_follows_what_it_is_made_of(part: str) -> None:
    model = tiny.model("llama")
    path = "model.layers.0.mlp.up_proj"
    adapter = shaken(adaptr.create(model, "dora", path))
    layer = model.get_submodule(path)
    with adaptr.attach(model, adapter) as handle:
        before = run(model, "llama")
        with torch.no_grad():
            if part == "W":
                layer.weight.mul_(1.5).add_(0.05)
            elif part == "loaded":
                layer.load_state_dict({"weight": layer.weight + 0.05}, strict=False)
            elif part == "assigned":
                layer.load_state_dict({"weight": layer.weight + 0.05}, strict=False, assign=True)
            else:
                handle.states[path][part].add_(0.2)
        after = run(model, "llama")
        handle.states[path].memo.clear()
        assert torch.equal(run(model, "llama"), after)
        assert not torch.equal(after, before)


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "houlsby", "prefix"])
def test_grad_no_grad_and_inference_mode_agree(method: str) -> None:
    model = tiny.model("llama")
    ids = tiny.inputs("llama")
    with adaptr.attach(model, made(model, method, **({"m": 8} if method == "houlsby" else {}))):
        with torch.inference_mode():
            inference = logits(model(**ids)).clone()
        with torch.no_grad():
            plain = logits(model(**ids))
        # the base learns, the adapter does not: what was cached in inference mode must not get in the way
        tracked = logits(model(**ids))
        tracked.sum().backward()
    assert_close(inference, plain)
    assert_close(tracked, plain)


@pytest.mark.parametrize("method", ["lora", "dora", "bitfit", "ia3", "houlsby", "parallel", "mam", "prefix", "prompt"])
def test_a_bf16_base_with_an_fp32_adapter_stays_bf16(method: str) -> None:
    model = tiny.model("gpt2").to(torch.bfloat16)
    config = {"m": 8} if method in {"houlsby", "parallel", "mam"} else {}
    adapter = made(model, method, **config)
    assert {t.dtype for t in adapter.tensors.values()} == {torch.float32}
    base = run(model)
    with adaptr.attach(model, adapter):
        out = run(model)
    assert out.dtype == torch.bfloat16
    assert not torch.equal(out, base)
    with adaptr.train(model, adapter) as session:
        logits(model(**tiny.inputs("gpt2"))).float().sum().backward()
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in session.parameters())


def test_autocast_and_to_after_attaching() -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, made(model, "lora")):
        full = run(model, "llama")
        with torch.autocast("cpu", torch.bfloat16):
            assert_close(run(model, "llama").float(), full, to=0.1)
        model.to(torch.bfloat16)
        assert run(model, "llama").dtype == torch.bfloat16
        assert_close(run(model, "llama").float(), full, to=0.1)


def test_inserts_come_after_what_changes_the_weight() -> None:
    model = tiny.model("llama")
    place = "model.layers.0.self_attn.o_proj"
    lora, houlsby = shaken(adaptr.create(model, "lora", place)), shaken(adaptr.create(model, "houlsby", place, m=8))
    with adaptr.attach(model, lora), adaptr.attach(model, houlsby):
        one = run(model, "llama")
    with adaptr.attach(model, houlsby), adaptr.attach(model, lora):
        assert torch.equal(run(model, "llama"), one)


def test_a_pickled_prefix_works_in_a_process_that_never_attached_one(tmp_path: object) -> None:
    import pickle
    import subprocess
    import sys

    model = tiny.model("llama")
    with adaptr.attach(model, made(model, "prefix")):
        wanted = run(model, "llama")
        blob = pickle.dumps(model)
    code = (
        "import sys, pickle, torch; m = pickle.loads(sys.stdin.buffer.read()); "
        f"print(m(input_ids=torch.tensor({tiny.inputs('llama')['input_ids'].tolist()})).logits.sum().item())"
    )
    done = subprocess.run([sys.executable, "-c", code], input=blob, capture_output=True, check=True)
    assert abs(float(done.stdout) - wanted.sum().item()) < 1e-3


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_attached_adapter_follows_its_layer_to_another_dtype_and_to_other_weights(name: str) -> None:
    ids = torch.arange(1, 11).view(2, 5)
    model = tiny.model(name)
    fresh = adaptr.create(model, "lora")
    adapter = fresh.replace(tensors={key: tensor + 0.1 for key, tensor in fresh.tensors.items()}, base=adaptr.Base())

    def halve(model: torch.nn.Module) -> None:
        for path, module in model.named_modules():
            if isinstance(getattr(module, "weight", None), torch.nn.Parameter) and ".adapters" not in f".{path}":
                module.weight.data = module.weight.data * 0.5  # other memory, the same parameter

    with torch.no_grad(), adaptr.attach(model, adapter):
        before = model(ids).logits
        torch.testing.assert_close(model.to(torch.float64)(ids).logits, before.double(), rtol=1e-4, atol=1e-4)
        halve(model.to(torch.float32))
        found = model(ids).logits
    other = tiny.model(name)
    halve(other)
    with torch.no_grad(), adaptr.attach(other, adapter):
        torch.testing.assert_close(found, other(ids).logits)


@pytest.mark.parametrize("wide", ["adapter", "model"])
def test_tensors_are_attached_in_the_wider_of_their_dtype_and_the_models(wide: str) -> None:
    model = tiny.model("llama")
    adapter = made(model, "lora")
    if wide == "model":
        adapter = adapter.replace(tensors={k: v.to(torch.bfloat16) for k, v in adapter.tensors.items()})
    else:
        model.to(torch.bfloat16)
    with adaptr.attach(model, adapter.replace(base=adaptr.Base())) as handle:
        for path, state in handle.states.items():
            for name in state:
                assert state[name].dtype is torch.float32
                assert torch.equal(state[name], adapter.tensors[f"{path}:{name}"].float())


@pytest.mark.parametrize("spec", [["q_proj"], ["*experts*"], ["gate"]])
def test_a_forward_set_on_the_instance_does_not_hide_the_adapter(spec: list[str]) -> None:
    """As accelerate does, to bring weights to where they are wanted."""
    model = tiny.model("mixtral")
    adapter = shaken(adaptr.create(model, "lora", spec, name="a"), 1, 0.5)
    with adaptr.attach(model, adapter):
        wanted = run(model, "mixtral")
    calls: list[str] = []
    hosts = {p.removesuffix(".gate_up_proj").removesuffix(".down_proj") for p in adapter.targets}
    for path in hosts:
        module = model.get_submodule(path)

        def counted(*args: object, old: object = module.forward, path: str = path, **kwargs: object) -> object:
            calls.append(path)
            return old(*args, **kwargs)  # type: ignore[operator]

        module.forward = counted
    before = run(model, "mixtral")
    with adaptr.attach(model, adapter):
        assert_close(run(model, "mixtral"), wanted, to=1e-5)
    assert len(calls) == 2 * len(hosts)
    assert torch.equal(run(model, "mixtral"), before)
    assert len(calls) == 3 * len(hosts)
