"""What all targets of an adapter share is one tensor: learnt, copied, saved, quantised, counted and composed as one."""

from __future__ import annotations

import copy
import io
import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adaptr
import tiny
from adaptr import errors, plugins
from adaptr.testing import assert_close, count, logits, shaken

FILE = Path(__file__).parents[1] / "example_plugin" / "adaptr_gain" / "tied.py"
Q = ["q_proj"]


class Point:
    value = "adaptr_gain.tied:TiedLoRA"

    def load(self) -> Any:
        spec = util.spec_from_file_location("tied_of_the_example", FILE)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[spec.name] = util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.TiedLoRA


@pytest.fixture(autouse=True)
def tied(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("adaptr.discovery._points", lambda group: {"shared-pair": Point()})
    yield
    plugins.method.cache_clear()
    plugins.manager.cache_clear()


def adapter(model: nn.Module, seed: int = 1, **config: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, "shared-pair", Q, r=2, **config), seed)


def output(model: nn.Module) -> torch.Tensor:
    return logits(model(**tiny.inputs("llama")))


def shared_of(model: nn.Module) -> list[nn.Parameter]:
    """B at each target."""
    return [module["B"] for module in model.modules() if type(module).__name__ == "State"]  # type: ignore[index]


def pickled(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    found: nn.Module = torch.load(buffer, weights_only=False)
    return found


COPIES = [
    copy.deepcopy, pickled, lambda model: model.double(), lambda model: model.float(), lambda model: model.to("cpu"),
    lambda model: model.bfloat16(), lambda model: copy.deepcopy(model).double(),
]  # fmt: skip


@pytest.mark.parametrize("verb", ["train", "attach"])
@pytest.mark.parametrize("change", COPIES, ids=["deepcopy", "pickle", "double", "float", "to", "bfloat16", "both"])
def test_the_tie_is_kept(change: Any, verb: str) -> None:
    model = tiny.model("llama")
    with getattr(adaptr, verb)(model, adapter(model)):
        one, two = shared_of(change(model))
        assert one is two


def test_an_optimiser_of_a_copy_keeps_it_one() -> None:
    model = tiny.model("llama")
    with adaptr.train(model, adapter(model)):
        twin = copy.deepcopy(model)
    learning = [p for p in twin.parameters() if p.requires_grad]
    assert sum(p.numel() for p in learning) == count(adapter(model))
    output(twin).square().mean().backward()
    torch.optim.SGD(learning, lr=1.0).step()
    one, two = shared_of(twin)
    assert torch.equal(one, two)


def test_its_gradient_is_the_sum_over_the_layers() -> None:
    model = tiny.model("llama")
    given = adapter(model, vectors=False)
    lora = adaptr.create(model, "lora", Q, r=2)
    tensors = {f"{path}:{name}": given.tensors[f":{name}"] for path in lora.targets for name in "AB"}
    with adaptr.train(model, given) as session:
        output(model).square().mean().backward()
        found = next(iter(session.states.values()))["B"].grad
    with adaptr.train(model, lora.replace(tensors=tensors)) as session:
        output(model).square().mean().backward()
        each = [state["B"].grad for state in session.states.values()]
    assert found is not None
    assert_close(found, sum(each[1:], each[0]))


# ---------------------------------------------------------------- in files


def test_it_is_saved_once_and_counted_once(tmp_path: Path) -> None:
    model = tiny.model("llama")
    file = tmp_path / "a.safetensors"
    adaptr.save(adapter(model), file)
    found = adaptr.load(file)
    assert sorted(key for key in found.tensors if key.endswith(("A", "B"))) == [":A", ":B"]
    assert count(found) == sum(t.numel() for t in found.tensors.values()) == 2 * 2 * 32 + 2 * (2 + 32)


def test_a_tensor_of_a_target_that_all_share_is_refused(tmp_path: Path) -> None:
    given = adapter(tiny.model("llama"))
    path = next(iter(given.targets))
    wrong = given.replace(tensors={**given.tensors, f"{path}:B": given.tensors[":B"] + 1})
    with pytest.raises(errors.TensorUnexpected, match="q_proj:B` is no tensor of `shared-pair`, which has it as `:B`"):
        adaptr.save(wrong, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_tensor_of_all_that_each_target_has_is_refused(tmp_path: Path) -> None:
    given = adapter(tiny.model("llama"))
    u = given.tensors[f"{next(iter(given.targets))}:u"]
    tensors = {key: t for key, t in given.tensors.items() if not key.endswith(":u")} | {":u": u}
    with pytest.raises(errors.TensorUnexpected, match=r"`:u` is no tensor .* which has it as `<target>:u`"):
        adaptr.save(given.replace(tensors=tensors), tmp_path / "a.safetensors")


@pytest.mark.parametrize("key", [":C", "model.layers.0.self_attn.q_proj:C", "elsewhere:u"])
def test_a_key_that_no_table_explains_is_refused(key: str, tmp_path: Path) -> None:
    given = adapter(tiny.model("llama"))
    with pytest.raises(errors.TensorUnexpected):
        adaptr.save(given.replace(tensors={**given.tensors, key: torch.ones(2)}), tmp_path / "a.safetensors")


@pytest.mark.parametrize("scheme", ["int8", "fp16", "bf16"])
def test_it_is_quantised_once(scheme: str, tmp_path: Path) -> None:
    model = tiny.model("llama")
    given = adapter(model)
    small = adaptr.quantize(given, scheme)
    assert {key for key in small.tensors if ":B" in key} == ({":B", ":B.scale"} if scheme == "int8" else {":B"})
    adaptr.save(small, tmp_path / "a.safetensors")
    again = adaptr.load(tmp_path / "a.safetensors")
    with torch.no_grad(), adaptr.attach(model, given):
        wanted = output(model)
    with torch.no_grad(), adaptr.attach(model, again):
        assert_close(output(model), wanted, to=0.02)
    path = next(iter(given.targets))
    off = (again[path].dense() - given[path].dense()).norm() / given[path].dense().norm()
    assert 0 < float(off) <= again.quantization["error"]


# ---------------------------------------------------------------- with others


def test_two_compose_to_the_sum_of_their_deltas() -> None:
    model = tiny.model("llama")
    one, two = adapter(model, 1), adapter(model, 2)
    made = adaptr.compose([(one, 0.5), (two, 2.0)]).adapter
    for path in one.targets:
        assert_close(made[path].dense(), 0.5 * one[path].dense() + 2.0 * two[path].dense())


def test_two_in_a_stack_share_apart(tmp_path: Path) -> None:
    model = tiny.model("llama")
    one, two = adapter(model, 1), adapter(model, 2)
    made = adaptr.create(model, "stack", children={"one": one, "two": two})
    adaptr.save(made, tmp_path / "a.safetensors")
    again = adaptr.load(tmp_path / "a.safetensors")
    assert {key for key in again.tensors if key.endswith("B")} == {":one.B", ":two.B"}
    small = adaptr.quantize(again, "int8")
    assert torch.equal(small.part("two").at(Q_PATH)["B"], adaptr.quantize(two, "int8").at(Q_PATH)["B"])
    with adaptr.train(model, again) as session:
        assert sum(p.numel() for p in session.parameters()) == count(one) + count(two)
        assert set(session.adapted().tensors) == set(again.tensors)


Q_PATH = "model.layers.0.self_attn.q_proj"


def test_targets_of_several_shapes_are_refused() -> None:
    with pytest.raises(
        errors.ShapeError, match=r"all targets share `B`, which has the shape \(32, 2\) .* name targets"
    ):
        adaptr.create(tiny.model("llama"), "shared-pair", ["q_proj", "k_proj"], r=2)
