"""Residual adapters on networks of convolutions: beside the kernel, merged, and with norms over batches."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy

import adaptr
import tiny
from adaptr.errors import AdaptrError
from adaptr.testing import Driver, assert_close, count, shaken

X, Y = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 1])
SIZES: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
FIRST = "resnet.encoder.stages.1.layers.0.layer.0.convolution"  # whose stride is 2


def resnet() -> Any:
    torch.manual_seed(0)
    model = t.ResNetForImageClassification(t.ResNetConfig(num_labels=3, **SIZES)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2.0)  # type: ignore[operator, union-attr]
    return model


@torch.no_grad()
def run(model: Any) -> Tensor:
    found: Tensor = model(X).logits
    return found


def bits(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def same(model: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def trained(model: Any, **more: Any) -> tuple[adaptr.Adapter, Tensor]:
    """After some steps, and what the model gives then."""
    with adaptr.train(model.train(), adaptr.create(model, "residual", **more)) as session:
        Driver(session, [{"pixel_values": X}], 4, lambda output, batch: cross_entropy(output.logits, Y)).fit()
        model.eval()
        wanted, made = run(model), session.finish()
    return made, wanted


def test_it_is_a_convolution_of_one_by_one_with_the_same_stride() -> None:
    model = resnet()
    adapter = shaken(adaptr.create(model, "residual", [FIRST]))
    bare, A = copy.deepcopy(model), adapter.at(FIRST)["A"]
    bare.get_submodule(FIRST).register_forward_hook(
        lambda module, args, z: z + conv2d(args[0], A[..., None, None], stride=2)
    )
    with adaptr.attach(model, adapter):
        assert_close(run(model), run(bare))


def test_all_convolutions_of_three_by_three_have_a_ninth() -> None:
    model = resnet()
    adapter = adaptr.create(model, "residual")
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(adapter.targets) == len(convolutions) == 4
    assert 9 * count(adapter) == sum(m.weight.numel() for m in convolutions)


@pytest.mark.parametrize("name", ["vit", "llama"])
def test_models_that_have_none_are_refused(name: str) -> None:
    with pytest.raises(AdaptrError, match=r"it works on convolutions of 3 x 3|has no conv2d"):
        adaptr.create(tiny.model(name), "residual")


def test_norms_of_its_own_go_with_it_and_the_base_is_left_as_it_was() -> None:
    model = resnet()
    before, bare = bits(model), run(model)
    adapter, wanted = trained(model, also=["norm"])
    assert same(model, before)
    assert sum(key.endswith(("running_mean:=", "running_var:=")) for key in adapter.tensors) == 12
    with adaptr.attach(model, adapter) as handle:
        assert torch.equal(run(model), wanted)
        handle.weight = 0.0
        assert torch.equal(run(model), bare)
    assert same(model, before)


def test_statistics_that_are_the_bases_stay_so_in_training() -> None:
    model = resnet()
    before = bits(model)
    adapter, wanted = trained(model)
    assert same(model, before)
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    with adaptr.attach(model, adapter):
        assert torch.equal(run(model), wanted)


def test_going_on_by_a_state_is_training_that_was_not_interrupted() -> None:
    def session(model: Any) -> Any:
        return adaptr.train(model.train(), adaptr.create(model, "residual", also=["norm"]))

    def driver(session: Any) -> Driver:
        return Driver(session, [{"pixel_values": X}], 4, lambda output, batch: cross_entropy(output.logits, Y))

    with session(resnet()) as whole:
        driver(whole).fit()
        wanted = whole.finish().tensors
    with session(resnet()) as first:
        one = driver(first)
        one.fit(2)
        state = one.state()
    with session(resnet()) as second:
        two = driver(second)
        two.load_state(state)
        two.fit()
        assert all(torch.equal(value, wanted[key]) for key, value in second.finish().tensors.items())


def test_it_merges_into_files_and_a_live_model_and_comes_out_again(tmp_path: Path) -> None:
    model = resnet()
    before = bits(model)
    adapter, wanted = trained(model, also=["norm"])
    model.save_pretrained(tmp_path / "base")
    adaptr.save(adapter, tmp_path / "a.safetensors")
    adaptr.merge(tmp_path / "base", [tmp_path / "a.safetensors"], tmp_path / "merged")
    assert_close(run(type(model).from_pretrained(tmp_path / "merged").eval()), wanted)
    adaptr.unmerge(tmp_path / "merged", tmp_path / "back")
    assert same(type(model).from_pretrained(tmp_path / "back"), before)
    with adaptr.attach(model, adapter, merged=True):
        assert_close(run(model), wanted)
    assert same(model, before)


def test_in_series_it_is_a_convolution_behind_and_merged_as_one(tmp_path: Path) -> None:
    model = resnet()
    adapter = shaken(adaptr.create(model, "residual-series", [FIRST]))
    bare, A = copy.deepcopy(model), adapter.at(FIRST)["A"]
    bare.get_submodule(FIRST).register_forward_hook(lambda module, args, z: z + conv2d(z, A[..., None, None]))
    for merged in (False, True):
        with adaptr.attach(model, adapter, merged=merged):
            assert_close(run(model), run(bare))
    assert len(adaptr.create(model, "residual-series").targets) == 4


def test_in_series_behind_the_layers_that_end_a_vits_blocks() -> None:
    model = tiny.model("vit")
    adapter = shaken(adaptr.create(model, "residual-series"))
    assert len(adapter.targets) == 4
    bare = copy.deepcopy(model)
    for path in adapter.targets:
        A = adapter.at(path)["A"]
        bare.get_submodule(path).register_forward_hook(lambda module, args, y, A=A: y + y @ A.mT)
    images = tiny.inputs("vit")
    with torch.no_grad():
        wanted = bare(**images).logits
        for merged in (False, True):
            with adaptr.attach(model, adapter, merged=merged):
                assert_close(model(**images).logits, wanted)
