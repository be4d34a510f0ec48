"""What is said of an adapter because its file does not hold it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import adaptr
import tiny
from adaptr import errors as e
from adaptr.foreign import NOTHING, Supplied
from foreign.test_kohya import CLIP, lora, saved


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"alpha": 1.0, "scale": 1.0}, "both given"),
        ({"alpha": 0.0}, "the alpha.*not 0"),
        ({"scale": float("nan")}, "the scale.*finite"),
        ({"alpha": True}, "the alpha"),
        ({"alpha": "16"}, "the alpha"),
        ({"enable_lora": (False, False)}, "no part that has factors"),
        ({"task": -1}, "the task"),
    ],
)
def test_what_means_nothing_is_refused(said: dict[str, Any], match: str) -> None:
    with pytest.raises(e.UsageError, match=match):
        Supplied(**said)


def test_nothing_said_is_nothing() -> None:
    assert (bool(NOTHING), NOTHING.said, NOTHING.alpha_of(4)) == (False, {}, None)
    assert Supplied(scale=0.5).alpha_of(4) == 2.0
    assert Supplied(enable_lora=(True, False)).said == {"enable_lora": [True, False]}


def test_a_file_of_adaptr_is_not_told_what_it_holds(tmp_path: Path) -> None:
    adaptr.save(adaptr.create(tiny.model("llama"), "lora", ["attn.q"]), tmp_path / "a.safetensors")
    with pytest.raises(e.UsageError, match="`--alpha` is given, and a file of adaptr holds all"):
        adaptr.load(adaptr.source(tmp_path / "a.safetensors", alpha=16))


def test_a_format_that_does_not_ask_is_not_told(tmp_path: Path) -> None:
    adaptr.save(adaptr.create(tiny.model("llama"), "lora", ["attn.q"]), tmp_path / "a.safetensors")
    adaptr.convert(tmp_path / "a.safetensors", tmp_path / "peft", to="peft")
    with pytest.raises(e.UsageError, match="`--scale` is given, and a PEFT adapter does not ask for it"):
        adaptr.inspect(adaptr.source(tmp_path / "peft", scale=2.0))


def test_what_is_made_of_it_says_what_was_said(tmp_path: Path) -> None:
    file = saved(tmp_path, lora(CLIP, alpha=None))
    adaptr.convert(adaptr.source(file, scale=3.0), tmp_path / "a.adaptr.safetensors")
    (parent,) = adaptr.load(tmp_path / "a.adaptr.safetensors").lineage["parents"]
    assert parent["supplied"] == {"scale": 3.0}
    assert parent["weights"].startswith("sha256:")
