"""A PEFT type is a file: a table, and functions where it departs. Others bring theirs by an entry point."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import adaptr
import tiny
from adaptr import errors as e
from adaptr import foreign
from adaptr.adapter import kinds
from adaptr.foreign import placing
from adaptr.foreign.peft import types
from adaptr.foreign.peft.types import Field, PeftType
from adaptr.testing import shaken
from foreign.test_formats import Point


class Shadow(PeftType):
    """A type of PEFT's that adaptr has no file of, as somebody else may write it: LoRA by other names."""

    name = "shadow"
    methods = ("lora",)
    slots = {"A": "shadow_down", "B": "shadow_up"}
    table = {"dropout": Field("shadow_dropout", default=0.0, called="dropout rates")}
    alpha = "shadow_alpha"

    def values(self, config: Any, path: str) -> dict[str, Any]:
        return {**super().values(config, path), "rslora": False, "bias": False}

    def target(self, source: Any, model: Any, path: str, shapes: Any, values: Any) -> adaptr.Target:
        target = adaptr.Target(path, kinds.LINEAR, (shapes["B"][0], shapes["A"][1]), values)
        return placing.agreed(model, target)


@pytest.mark.parametrize("kind", types.builtin(), ids=lambda kind: kind.name)
def test_a_type_says_what_it_is_in_its_table(kind: PeftType) -> None:
    assert kind.peft == kind.peft.upper()
    assert kind.weight <= set(kind.slots.values())
    assert types.of_type(kind.peft) is kind


def test_no_method_is_written_as_two_types() -> None:
    assert len(types.methods()) == len(set(types.methods()))


def test_an_installed_type_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    points = {"shadow": Point(Shadow)}
    made = shaken(adaptr.create(tiny.model("llama"), "lora", ["attn.q"], r=2))
    foreign.get("peft").write(made, tmp_path / "lora")
    monkeypatch.setattr("adaptr.discovery._points", lambda group: points if group == "adaptr.peft_types" else {})
    types._get.cache_clear()
    monkeypatch.setattr(types, "of_method", lambda method: types.of_type("SHADOW"))
    foreign.get("peft").write(made, tmp_path / "shadow")
    back = adaptr.load(tmp_path / "shadow", tiny.model("llama"))
    assert back.foreign["peft"]["config"]["peft_type"] == "SHADOW"
    assert all(bool((back.tensors[key] == tensor).all()) for key, tensor in made.tensors.items())


@pytest.mark.parametrize("method", ["lora", "adalora", "vera"])
def test_rates_that_differ_are_lost_and_said_to_be(method: str, tmp_path: Path) -> None:
    """AdaLoRA and VeRA took the first target's for all without a word."""
    made = adaptr.create(tiny.model("llama"), method)
    path, target = next(iter(made.targets.items()))
    other = dataclasses.replace(target, config={**target.config, "dropout": 0.25})
    made = made.replace(targets={**made.targets, path: other})
    with pytest.raises(e.LossyConversion, match="different dropout rates of targets"):
        foreign.get("peft").write(made, tmp_path / "out")
    assert not (tmp_path / "out").exists()
