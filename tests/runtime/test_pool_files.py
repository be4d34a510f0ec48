"""Adapters of a pool as files: in every format, by name, looked at when they are wanted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import (
    FormatError,
    InputError,
    NotPossible,
)
from adaptr.testing import assert_close, bits_equal, logits, shaken
from runtime.pools import CLOSE, alone


def test_names_in_the_store_are_adapters_here_too(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adaptr.artifacts import handling

    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    adapter, file = shaken(adaptr.create(model, "lora", ["attn.q"], r=2)), tmp_path / "a.safetensors"
    adaptr.save(adapter, file)
    handling.tag(str(file), "style:1")
    ids = torch.arange(3, 9)[None]
    with adaptr.pool(model) as pool:
        pool.add("style", "style:1")
        alone = logits(pool.forward(["style"], ids))
    with adaptr.attach(model, adapter), torch.no_grad():
        assert_close(alone, logits(model(ids)))


def test_what_was_not_looked_at_is_refused_before_its_batch_runs(model: Any, tmp_path: Path) -> None:
    good, bad, odd = (tmp_path / f"{name}.safetensors" for name in ("good", "bad", "odd"))
    adaptr.save(shaken(adaptr.create(model, "lora", ["attn.q"], r=2)), good)
    adaptr.save(adaptr.create(model, "loreft"), odd)
    bad.write_bytes(good.read_bytes()[:-4])
    ids = torch.arange(3, 9)[None]
    with adaptr.pool(model) as pool:
        for path in (good, bad, odd):
            pool.add(path.stem, path, look=False)
        with pytest.raises(InputError, match="there is nothing at"):
            pool.add("gone", tmp_path / "gone.safetensors", look=False)
        for name, error in (("bad", FormatError), ("odd", NotPossible)):
            with pytest.raises(error):
                pool.forward([name], ids)
        alone = logits(pool.forward(["good"], ids))
    with adaptr.attach(model, adaptr.load(good)), torch.no_grad():
        assert_close(alone, logits(model(ids)))


def test_files_in_every_format_and_their_updates(model: Any, made: dict[str, adaptr.Adapter], tmp_path: Path) -> None:
    ids = tiny.inputs("llama")["input_ids"]
    own, peft = tmp_path / "own.safetensors", tmp_path / "peft"
    adaptr.save(made["four"], own)
    adaptr.convert(own, peft, to="peft")
    with adaptr.pool(model) as pool, torch.inference_mode():
        pool.add("own", own)
        pool.add("peft", str(peft))
        found = pool.forward(["own", "peft"], ids).logits
        assert_close(found, alone(tiny.model("llama"), made["four"], input_ids=ids), CLOSE)
        adaptr.save(made["loha"], own, force=True)
        again = pool.forward(["own", "peft"], ids).logits
        assert_close(again[0], alone(tiny.model("llama"), made["loha"], input_ids=ids)[0], CLOSE)
        assert bits_equal(again[1], found[1])
        pool.update("peft", made["one"])
        assert_close(
            pool.forward([None, "peft"], ids).logits[1],
            alone(tiny.model("llama"), made["one"], input_ids=ids)[1],
            CLOSE,
        )
        os.unlink(own)
        with pytest.raises(adaptr.errors.InputError):
            pool.forward(["own", None], ids)
        pool.remove("own")
        assert list(pool) == ["peft"]
        assert len(pool) == 1
