"""AdapterHub's invertible adapters, alone and with bottlenecks of any sort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import errors as e
from adaptr import foreign
from adaptr.testing import assert_close, logits, shaken
from hub_folders import BOTTLENECK, bottleneck, saved


def coupling(half: int = 2, inner: int = 1) -> dict[str, torch.Tensor]:
    sizes = {"0.weight": (inner, half), "0.bias": (inner,), "2.weight": (half, inner), "2.bias": (half,)}
    at = "model.invertible_adapters.mine"
    return {f"{at}.{side}.{slot}": torch.randn(size) for side in "FG" for slot, size in sizes.items()}


def written(made: adaptr.Adapter, model: Any, out: Path) -> adaptr.Adapter:
    form = foreign.get("adapterhub")
    form.write(form.based(made, model), out)
    return adaptr.load(out, model)


def test_of_whatever_sort_the_bottlenecks_are(tmp_path: Path) -> None:
    config = {**BOTTLENECK, "inv_adapter": "nice", "original_ln_before": False}
    found = adaptr.load(saved(tmp_path, {**bottleneck(), **coupling()}, config))
    assert (found.method, set(found.parts)) == ("stack", {"houlsby", "invertible"})
    (target,) = found.parts["invertible"].targets.values()
    assert (target.path, target.shape, target.config["reduction"]) == ("model.embed_tokens", (4,), 2)


@pytest.mark.parametrize(
    ("said", "tensors", "match"),
    [
        ({"inv_adapter": "glow"}, coupling(), "its invertible adapter is `glow`, with which AdapterHub's own library"),
        ({"inv_adapter": "nice"}, coupling(5, 2), "rows that divide 5"),
        ({"inv_adapter": None}, coupling(), "belongs to no method"),
    ],
)
def test_another_coupling_is_refused(
    said: dict[str, Any], tensors: dict[str, torch.Tensor], match: str, tmp_path: Path
) -> None:
    with pytest.raises(e.AdaptrError, match=match):
        adaptr.load(saved(tmp_path, {**bottleneck(), **tensors}, {**BOTTLENECK, **said}))


def test_alone_it_is_one_too(tmp_path: Path) -> None:
    model = tiny.model("llama")
    made = shaken(adaptr.create(model, "invertible", activation="silu"))
    back = written(made, model, tmp_path / "out")
    assert (back.method, back.config) == ("invertible", made.config)
    found = []
    for one in (made, back):
        with torch.no_grad(), adaptr.attach(model, one):
            found.append(logits(model(**tiny.inputs("llama"))))
    assert_close(*found)


def test_it_is_behind_the_positions(tmp_path: Path) -> None:
    model = tiny.model("gpt2")
    with pytest.raises(e.Unsupported, match=r"`transformer.wte` is where AdapterHub has no invertible.*at `drop`"):
        written(adaptr.create(model, "invertible"), model, tmp_path / "out")


def test_one_function_is_of_both(tmp_path: Path) -> None:
    model = tiny.model("llama")
    parts = {"a": adaptr.create(model, "invertible"), "b": adaptr.create(model, "houlsby", m=2, activation="gelu")}
    with adaptr.stack(model, parts) as stack:
        both = stack.adapted()
    with pytest.raises(e.Unsupported, match="one function for an invertible adapter and its bottlenecks"):
        written(both, model, tmp_path / "out")
