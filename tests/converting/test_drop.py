"""An adapter without some of its layers: as if they were at strength 0, and nothing there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import adaptr
import tiny
from adaptr import errors, plugins
from adaptr.converting.drop import numbered, ranges, without
from adaptr.testing import assert_close, logits, shaken

METHODS = ["lora", "dora", "vera", "ia3", "pfeiffer", "lin", "compacter", "prefix", "adapterdrop", "mam"]


def made(method: str, model: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, **plugins.method(method).small))


@pytest.mark.parametrize("method", METHODS)
def test_it_is_what_it_is_at_strength_0_there(method: str, tmp_path: Path) -> None:
    """And the modules of that layer are those of the bare model."""
    model, ids = tiny.model("llama"), tiny.inputs("llama")["input_ids"]
    adapter = made(method, model)
    adaptr.save(adapter, tmp_path / "whole.safetensors")
    report = adaptr.drop(tmp_path / "whole.safetensors", tmp_path / "few.safetensors", "0", base=model)
    few = adaptr.load(tmp_path / "few.safetensors")
    with adaptr.attach(model, adapter) as handle:
        handle._set_strengths(lambda path: float(".0." not in f"{path}."))  # a prefix has none that may be said
        wanted = logits(model(ids))
    with adaptr.attach(model, few):
        assert_close(logits(model(ids)), wanted)
        assert not any("adapters" in name for name, _ in model.model.layers[0].named_modules())
    assert (report.layers, report.left) == ((0,), (1,))
    assert report.numbers < report.numbers_before
    assert report.known is bool(adapter.base.content)
    assert few.lineage["operation"] == "drop"
    assert few.lineage["arguments"] == {"layers": [0]}
    assert few.lineage["parents"][0]["digest"]


def test_weights_of_the_base_are_known_where_it_is_given(tmp_path: Path) -> None:
    model = tiny.model("llama")
    adaptr.save(adaptr.create(model, "lora"), tmp_path / "a.safetensors")
    adaptr.drop(tmp_path / "a.safetensors", tmp_path / "b.safetensors", [1], base=model)
    assert adaptr.load(tmp_path / "b.safetensors").base.content
    adaptr.drop(tmp_path / "a.safetensors", tmp_path / "c.safetensors", [1])
    assert not adaptr.load(tmp_path / "c.safetensors").base.content
    model.save_pretrained(tmp_path / "base")
    adaptr.drop(tmp_path / "a.safetensors", tmp_path / "d.safetensors", [1], base=tmp_path / "base")
    assert adaptr.load(tmp_path / "d.safetensors").base == adaptr.load(tmp_path / "b.safetensors").base
    other = tiny.model("llama")
    other.model.layers[0].self_attn.q_proj.weight.data += 1
    other.save_pretrained(tmp_path / "other")
    for base in (other, tmp_path / "other"):
        with pytest.raises(errors.ContentMismatch):
            adaptr.drop(tmp_path / "a.safetensors", tmp_path / "e.safetensors", [1], base=base)


@pytest.mark.parametrize("method", ["ladder", "lets", "adapter-fusion", "prompt"])
def test_what_is_not_without_layers_is_refused(method: str) -> None:
    model = tiny.model("llama")
    own = plugins.method(method)
    children = {n: adaptr.create(model, m, t, **c) for n, (m, t, c) in own.examples.items()}
    adapter = adaptr.create(model, method, **({"children": children} if children else {}), **own.small)
    with pytest.raises((errors.Unsupported, errors.BadConfig), match=r"from layer to layer|in no layer"):
        without(adapter, [0])


def test_no_part_is_left_at_nothing() -> None:
    with pytest.raises(errors.Unsupported, match="nothing would be left of"):
        without(made("s4-design", tiny.model("llama")), [0])


def test_what_is_asked_for_must_be_there() -> None:
    adapter = adaptr.create(tiny.model("t5"), "houlsby")
    assert {path.split(".")[2] for path in without(adapter, [0]).targets} == {"1"}  # of both stacks
    with pytest.raises(errors.BadConfig, match="are 5, wanted some of those that it is in: 0-1"):
        without(adapter, [1, 5])
    with pytest.raises(errors.BadConfig, match="are all"):
        without(adapter, [0, 1])
    assert numbered("0-2, 7") == {0, 1, 2, 7}
    assert ranges([7, 0, 2, 1]) == "0-2,7"
    with pytest.raises(errors.BadConfig, match="are 2-9999, wanted"):  # in few words
        without(adapter, range(10000))
    for text in ("", "3-1", "a", "1-2-3", "-1", "٣", [], [0.9], ["0"], [True], 5, None):
        with pytest.raises(errors.UsageError, match=r"the layers are .*numbers and ranges"):
            numbered(text)  # type: ignore[arg-type]
