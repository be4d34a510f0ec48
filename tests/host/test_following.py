"""What changes while an adapter is attached: weights, dtypes, modes, processes."""

from __future__ import annotations

import pytest
import torch

import adaptr
import tiny
from adaptr.testing import assert_close, logits, shaken
from attached import made, run


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
