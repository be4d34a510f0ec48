"""A model that is saved while an adapter is attached says what it writes; before and after it is as it was."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

import adaptr
import tiny


def test_what_is_written_is_said_until_nothing_is_attached(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny.model("llama")
    first = adaptr.attach(model, adaptr.create(model, "lora", "attn.q").replace(name="one"))
    second = adaptr.attach(model, adaptr.create(model, "ia3").replace(name="two"))
    first.detach()
    model.save_pretrained(tmp_path / "attached")
    assert "saved with `two` attached" in caplog.text
    other = copy.deepcopy(model)
    assert other.save_pretrained.args == (other,)
    second.detach()
    assert "save_pretrained" not in vars(model)
    caplog.clear()
    model.save_pretrained(tmp_path / "plain")
    assert not caplog.records


def test_what_is_merged_is_in_what_is_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Found in 0.1.0: an adapter in the weights was named as attached, and these as the base's."""
    model = tiny.model("llama")
    made = {name: adaptr.create(model, "ia3", "attn.v").replace(name=name) for name in ("in", "on")}
    merged = adaptr.attach(model, made["in"], merged=True)
    model.save_pretrained(tmp_path / "merged")
    assert "saved with `in` merged into the weights that are written" in caplog.text
    assert "attached" not in caplog.text
    caplog.clear()
    attached = adaptr.attach(model, made["on"])
    model.save_pretrained(tmp_path / "both")
    assert "saved with `on` attached: the base's weights with `in` merged, and tensors" in caplog.text
    attached.detach()
    assert "save_pretrained" in vars(model)
    merged.detach()
    assert not [name for name in vars(model) if name == "save_pretrained" or name.startswith("_adaptr")]


def test_a_session_leaves_the_model_as_it_was() -> None:
    model = tiny.model("llama")
    with adaptr.train(model, adaptr.create(model, "lora", "attn.q")):
        assert "save_pretrained" in vars(model)
    assert "save_pretrained" not in vars(model)
