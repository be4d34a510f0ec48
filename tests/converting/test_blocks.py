"""Layers that a server wants beside those of an adapter are filled up with zeros, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import Unsupported
from adaptr.testing import assert_close, logits, shaken

QUERIES = [f"model.layers.{n}.self_attn.q_proj" for n in (0, 1)]


def saved(folder: Path, targets: Any, base: str = "llama") -> Any:
    model = tiny.model(base)
    adaptr.save(shaken(adaptr.create(model, "lora", targets, r=2)), folder / "a.safetensors")
    return model


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize(
    ("server", "targets", "wanted"),
    [
        ("lorax", ["*.layers.*.q_proj", "*.layers.0.*.v_proj"], {"model.layers.1.self_attn.v_proj"}),
        ("lorax", ["*.layers.1.*.down_proj"], {"model.layers.0.mlp.down_proj"}),
        ("sglang", QUERIES, {f"model.layers.{n}.self_attn.v_proj" for n in (0, 1)}),
    ],
)
def test_peft_computes_the_same_with_them(tmp_path: Path, server: str, targets: Any, wanted: set[str]) -> None:
    from peft import PeftModel

    model = saved(tmp_path, targets)
    report = adaptr.serve(tmp_path / "a.safetensors", tmp_path / "served", server, base=model)
    one, filled = adaptr.load(tmp_path / "a.safetensors"), adaptr.load(tmp_path / "served")
    assert set(filled.targets) - set(one.targets) == wanted
    assert not any(filled[path].dense().any() for path in wanted)
    assert (report.error, report.targets) == (0, len(filled.targets))
    with torch.no_grad():
        with adaptr.attach(model, one):
            expected = logits(model(**tiny.inputs("llama"))).clone()
        served = PeftModel.from_pretrained(tiny.model("llama"), tmp_path / "served").eval()
        assert_close(served(**tiny.inputs("llama")).logits, expected, 1e-5)


@pytest.mark.parametrize("server", ["vllm", "tensorrt-llm"])
def test_a_server_that_wants_none_gets_none(tmp_path: Path, server: str) -> None:
    model = saved(tmp_path, QUERIES[:1])
    assert adaptr.serve(tmp_path / "a.safetensors", tmp_path / "served", server, base=model).targets == 1


def test_a_layer_of_another_shape_can_stand_beside(tmp_path: Path) -> None:
    """The values of grouped attention are fewer than the queries: the shape is the base's."""
    model = saved(tmp_path, QUERIES)
    adaptr.serve(tmp_path / "a.safetensors", tmp_path / "served", "sglang", base=model)
    shape = adaptr.load(tmp_path / "served").targets["model.layers.0.self_attn.v_proj"].shape
    assert shape == tuple(model.model.layers[0].self_attn.v_proj.weight.shape) != (tiny.WIDTH, tiny.WIDTH)


def test_without_a_base_their_sizes_are_not_known(tmp_path: Path) -> None:
    saved(tmp_path, QUERIES)
    with pytest.raises(Unsupported, match=r"no `model\.layers\.0\.self_attn\.v_proj`, without which SGLang"):
        adaptr.serve(tmp_path / "a.safetensors", tmp_path / "served", "sglang")


def test_a_base_without_that_layer(tmp_path: Path) -> None:
    """One block alone has the kind: others can't be filled up."""
    model = saved(tmp_path, QUERIES[:1])
    model.model.layers[1].self_attn.q_proj = torch.nn.Identity()
    with pytest.raises(Unsupported, match=r"`model\.layers\.1\.self_attn\.q_proj` too, and the base has no"):
        adaptr.serve(tmp_path / "a.safetensors", tmp_path / "served", "lorax", base=model)


@pytest.mark.parametrize(("server", "base", "targets"), [("vllm", "neox", "attn.qkv"), ("tgi", "llama", "head")])
def test_what_the_server_would_not_apply_is_not_written(tmp_path: Path, server: str, base: str, targets: Any) -> None:
    model = saved(tmp_path, targets, base)
    with pytest.raises(Unsupported, match=r"would be (ignored|refused) by"):
        adaptr.serve(tmp_path / "a.safetensors", tmp_path / "served", server, base=model)
    assert not (tmp_path / "served").exists()


def test_a_head_alone_wants_nothing_beside_it(tmp_path: Path) -> None:
    model = saved(tmp_path, "head")
    assert adaptr.serve(tmp_path / "a.safetensors", tmp_path / "served", "sglang", base=model).targets == 1
