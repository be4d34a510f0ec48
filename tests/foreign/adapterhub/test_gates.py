"""AdapterHub's gates: which are read, how many, and what is said of padding."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import errors as e
from adaptr import foreign
from adaptr.testing import assert_close, logits, shaken, tiny_llama
from hub_folders import BOTTLENECK, GATES, HEADS, LORA, OUTPUT, Q, bottleneck, pair, saved, there


@HEADS
def test_what_its_gates_are_of_is_said(shared: Path) -> None:
    with pytest.warns(e.TrainedOtherwise, match="means over padding too"):
        adaptr.load(there(shared, "llama", "lora_gate") / "st")


def gate(path: str, width: int) -> dict[str, torch.Tensor]:
    return {f"{path}.gate.weight": torch.randn(1, width), f"{path}.gate.bias": torch.randn(1)}


@GATES
@pytest.mark.parametrize(
    ("config", "tensors", "match"),
    [
        ({**LORA, "use_gating": True, "use_dora": True}, {**pair(), **gate(Q, 6)}, "its DoRA has a gate"),
        ({**LORA, "use_gating": True, "composition_mode": "scale"}, pair(), r"its \(IA\)3 has a gate"),
        ({**LORA, "use_gating": True}, {**pair(), **gate(Q, 5)}, r"(1, 6), as the others say"),
        ({**LORA, "use_gating": True}, pair(), "has no `gate.weight`"),
        ({**BOTTLENECK, "use_gating": True}, bottleneck(), "has no `gate.weight`"),
    ],
)
def test_a_gate_that_is_not_as_it_should_be_is_refused(
    config: dict[str, Any], tensors: dict[str, torch.Tensor], match: str, tmp_path: Path
) -> None:
    with pytest.raises(e.AdaptrError, match=match if "\\" in match else re.escape(match)):
        adaptr.load(saved(tmp_path, tensors, config))


@GATES
def test_a_bottleneck_with_a_gate_alone_is_read(tmp_path: Path) -> None:
    found = adaptr.load(saved(tmp_path, {**bottleneck(), **gate(OUTPUT, 4)}, {**BOTTLENECK, "use_gating": True}))
    assert (found.method, found.config["of"]) == ("gated-pfeiffer", "text")


@pytest.mark.parametrize(("gates", "parts"), [(1, "qkv"), (2, "qv")])
def test_of_a_layer_that_is_several_each_has_a_gate(gates: int, parts: str, tmp_path: Path) -> None:
    model = tiny.model("gpt2")
    made = shaken(adaptr.create(model, "gated-lora", ["attn.qkv"], r=4, of="text", gates=gates))
    if gates > 1:  # as it is read of such files: the first ranks are of queries, the others of values
        apart = {key: tensor.clone() for key, tensor in made.tensors.items()}
        for key in (key for key in apart if key.endswith(":B")):
            rows = apart[key].view(3, -1, 4)
            rows[0, :, 2:], rows[1], rows[2, :, :2] = 0, 0, 0
        made = made.replace(tensors=apart)
    form = foreign.get("adapterhub")
    form.write(form.based(made, model), tmp_path / "out")
    back = adaptr.load(tmp_path / "out", model)
    assert back.foreign["adapterhub"]["config"]["config"]["attn_matrices"] == list(parts)
    assert back.config["gates"] == len(parts)
    found = []
    for one in (made, back):
        with torch.no_grad(), adaptr.attach(model, one):
            found.append(logits(model(**tiny.inputs("gpt2"))))
    assert_close(*found)


@pytest.mark.parametrize(
    ("method", "config", "match"),
    [
        ("gated-lora", {"of": "token"}, "each token has its own"),
        ("gated-prefix", {"of": "token"}, "each token has its own"),
        ("gated-lora", {"of": "text", "r": 4, "gates": 2}, "AdapterHub has one gate here, and this 2"),
    ],
)
def test_gates_that_it_has_not_are_refused(method: str, config: dict[str, Any], match: str, tmp_path: Path) -> None:
    model, form = tiny_llama(), foreign.get("adapterhub")
    with pytest.raises(e.Unsupported, match=match):
        form.write(form.based(adaptr.create(model, method, **config), model), tmp_path / "out")


def test_several_gates_of_the_same_rows_are_refused(tmp_path: Path) -> None:
    model, form = tiny.model("gpt2"), foreign.get("adapterhub")
    made = shaken(adaptr.create(model, "gated-lora", ["attn.qkv"], r=4, of="text", gates=2))
    with pytest.raises(e.Unsupported, match="several gates are of the same"):
        form.write(form.based(made, model), tmp_path / "out")
