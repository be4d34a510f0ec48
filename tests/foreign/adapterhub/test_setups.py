"""AdapterHub's set-ups: fusions and stacks of the adapters beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import adaptr
from adaptr import errors as e
from adaptr import foreign
from adaptr.testing import assert_close, logits, shaken, tiny_llama
from hub_folders import BOTTLENECK, MODELS, bottleneck, saved, there

FUSED = "a,b/adapter_fusion_config.json"


def hidden(host: Any, made: adaptr.Adapter, **inputs: Any) -> torch.Tensor:
    with torch.no_grad(), adaptr.attach(host, made):
        return logits(host(**inputs))


@pytest.mark.parametrize("model", MODELS)
def test_a_fusion_does_what_it_does_there(model: str, models: dict[str, Any], shared: Path, tmp_path: Path) -> None:
    folder, host = there(shared, model, "fusion"), models[model]
    want = load_file(folder / "expected.safetensors")
    real, inputs = want["attention_mask"].bool(), {key: want[key] for key in ("input_ids", "attention_mask")}
    for given in ("setup", "setup/fa,fb", "setup/fa,fb/model_adapter_fusion.safetensors"):
        made = adaptr.load(folder / given, host)
        assert (made.method, list(made.parts)) == ("adapter-fusion", ["fa", "fb"])
        found = hidden(host, made, **inputs)
        # against fp64 the library is 1.1e-5 away on gpt2, and adaptr 3e-6
        torch.testing.assert_close(found[real], want["out"][real], atol=2e-5, rtol=0)
    foreign.get("adapterhub").write(made, tmp_path / "out")
    back = adaptr.load(tmp_path / "out", host)
    assert back.config == made.config
    assert_close(hidden(host, back, **inputs), found)


def setup(folder: Path, kind: str = "Fuse", **said: Any) -> Path:
    """Two adapters, and what is over them."""
    folder.mkdir()
    for name in "ab":
        saved(folder / name, bottleneck(f"model.layers.0.output_adapters.adapters.{name}"), BOTTLENECK, name=name)
    block = {"type": kind, "children": [{"type": "single", "children": [name]} for name in "ab"]}
    (folder / "adapter_setup.json").write_text(json.dumps({"adapter_setup": block, **said}))
    return folder


def fused(folder: Path, leave: str = "", **said: Any) -> Path:
    setup(folder)
    at = "model.layers.0.output_adapters.adapter_fusion_layer.a,b"
    sizes = {"query.weight": (4, 4), "query.bias": (4,), "key.weight": (4, 4), "key.bias": (4,), "value.weight": (4, 4)}
    (folder / "a,b").mkdir()
    tensors = {f"{at}.{slot}": torch.randn(size) for slot, size in sizes.items() if not leave or leave not in slot}
    save_file(tensors, folder / "a,b" / "model_adapter_fusion.safetensors")
    told = {"adapter_names": ["a", "b"], "config": {**said}, "model_type": "llama", "model_class": "x"}
    (folder / FUSED).write_text(json.dumps(told))
    return folder


def test_what_a_fusion_has_not_changes_nothing(tmp_path: Path) -> None:
    found = adaptr.load(fused(tmp_path / "x", leave="value", value=False, regularization=False))
    (path,) = found.targets
    assert torch.equal(found.tensors[f"{path}:V"], torch.eye(4))
    assert found.config["regularise"] == 0


def test_what_asks_may_read_the_output_alone(tmp_path: Path) -> None:
    found = adaptr.load(fused(tmp_path / "x", query_before_ln=True))
    (target,) = found.targets.values()
    assert (target.config["residual"], found.part("a").config["residual"]) == (False, True)


@pytest.mark.parametrize("gone", ["a", "b", "a,b"])
def test_what_is_missing_is_said(gone: str, tmp_path: Path) -> None:
    folder = fused(tmp_path / "x")
    shutil.rmtree(folder / gone)
    with pytest.raises(e.ConfigMissing, match=rf"is not there, in `.*{gone}`.*`save_adapter_setup`"):
        adaptr.load(folder)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"temperature": True}, "a temperature that each forward lowers"),
        ({"residual_before": True}, "before they are weighed"),
    ],
)
def test_other_fusions_are_refused(said: Mapping[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=match):
        adaptr.load(fused(tmp_path / "x", **said))


@pytest.mark.parametrize(
    ("kind", "match"),
    [("Parallel", "it is a `Parallel`, which is no adapter"), ("BatchSplit", "which is no adapter")],
)
def test_other_blocks_are_refused(kind: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=match):
        adaptr.load(setup(tmp_path / "x", kind))


def test_names_longer_than_a_files_name_are_of_no_folder(tmp_path: Path) -> None:
    folder = setup(tmp_path / "x", "Stack")
    (folder / "adapter_setup.json").write_text(
        json.dumps({"adapter_setup": {"type": "single", "children": ["a" * 300]}})
    )
    with pytest.raises(e.ConfigMissing, match="is not there"):
        adaptr.load(folder)


@pytest.mark.parametrize("name", ["../b", "..", "a/b", ""])
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    block = {"type": "Stack", "children": [{"type": "single", "children": [n]} for n in ("a", name)]}
    (tmp_path / "adapter_setup.json").write_text(json.dumps({"adapter_setup": block}))
    with pytest.raises(e.ForeignError, match="names of adapters"):
        adaptr.load(tmp_path)


def test_a_stack_is_one_on_the_other(tmp_path: Path) -> None:
    model, form, ids = tiny_llama(), foreign.get("adapterhub"), torch.arange(6)[None] + 3
    parts = {n: shaken(adaptr.create(model, "pfeiffer", m=3, residual=True), i) for i, n in enumerate("ab")}
    for name, one in parts.items():
        form.write(form.based(one, model).replace(name=name), tmp_path / name)
    block = {"type": "Stack", "children": [{"type": "single", "children": [name]} for name in "ab"]}
    (tmp_path / "adapter_setup.json").write_text(json.dumps({"adapter_setup": block}))
    found = adaptr.load(tmp_path, model)
    assert (found.method, found.config["order"]) == ("stack", ["a", "b"])
    with torch.no_grad(), adaptr.stack(model, parts):
        wanted = logits(model(input_ids=ids))
    assert_close(hidden(model, found, input_ids=ids), wanted)


def test_adapters_of_which_it_has_a_way_of_its_own_are_not_stacked(tmp_path: Path) -> None:
    model, form = tiny_llama(), foreign.get("adapterhub")
    for name in "ab":
        form.write(form.based(adaptr.create(model, "gated-lora", ["attn.q"], r=2, of="text"), model), tmp_path / name)
    block = {"type": "Stack", "children": [{"type": "single", "children": [name]} for name in "ab"]}
    (tmp_path / "adapter_setup.json").write_text(json.dumps({"adapter_setup": block}))
    with pytest.raises(e.Unsupported, match="in a way of its own"):
        adaptr.load(tmp_path, model)
