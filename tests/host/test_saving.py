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


def test_a_session_leaves_the_model_as_it_was() -> None:
    model = tiny.model("llama")
    with adaptr.train(model, adaptr.create(model, "lora", "attn.q")):
        assert "save_pretrained" in vars(model)
    assert "save_pretrained" not in vars(model)
