"""From the names of a model to those of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import checkpoints as c
import tiny
from adaptr import api
from adaptr.adapter import Target
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.names import Names
from adaptr.errors import TargetNotFound


def test_names_of_a_model_with_a_head_in_a_checkpoint_without(tmp_path: Path) -> None:
    whole = c.saved("gpt2", tmp_path / "whole")
    c.model_of(whole).transformer.save_pretrained(tmp_path / "bare")
    path = "transformer.h.1.mlp.c_fc"
    adapter = c.lora_at(Target(path, "linear_t", (4 * tiny.WIDTH, tiny.WIDTH)))
    api.merge(tmp_path / "bare", [adapter], tmp_path / "out")
    api.merge(whole, [adapter], tmp_path / "direct")
    found, want = c.tensors_of(tmp_path / "out"), c.tensors_of(tmp_path / "direct")
    assert torch.equal(found["h.1.mlp.c_fc.weight"], want[f"{path}.weight"])
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(tmp_path / "bare")


def test_names_of_a_model_without_a_head_in_a_checkpoint_with_one(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base")
    adapter = c.lora_at(Target("layers.0.self_attn.q_proj", "linear", (tiny.WIDTH, tiny.WIDTH)))
    api.merge(base, [adapter], tmp_path / "out")
    name = "model.layers.0.self_attn.q_proj.weight"
    want = c.tensors_of(base)[name] + c.delta(adapter, "layers.0.self_attn.q_proj")
    assert torch.allclose(c.tensors_of(tmp_path / "out")[name], want, atol=1e-6)


def names(folder: Path, *stored: str) -> Names:
    return Names(open_checkpoint(c.bare(folder, {name: torch.zeros(2, 2) for name in stored})))


def test_one_shift_holds_for_all(tmp_path: Path) -> None:
    found = names(tmp_path, "h.0.q.weight", "h.1.q.weight", "other.h.1.q.weight")
    assert found.find("transformer.h.0.q.weight").name == "h.0.q.weight"
    assert found.find("transformer.h.1.q.weight").name == "h.1.q.weight"
    assert found.find("backbone.h.1.q.weight") is None
    assert found.find("h.1.q.weight").name == "h.1.q.weight"


def test_an_end_that_fits_twice_is_no_find(tmp_path: Path) -> None:
    assert names(tmp_path, "encoder.h.0.q.weight", "decoder.h.0.q.weight").find("h.0.q.weight") is None


def test_the_nearest_name_is_told(tmp_path: Path) -> None:
    target = Target("h.0.attention", "linear", (2, 2))
    with pytest.raises(TargetNotFound, match=r"nearest name is `h\.0\.attn\.weight`"):
        names(tmp_path, "h.0.attn.weight").weight(target)


WORDS = st.lists(st.sampled_from(["model", "h", "0", "1", "attn", "q_proj"]), min_size=2, max_size=5)


@settings(max_examples=200, deadline=None)
@given(st.sets(WORDS.map(tuple), min_size=1, max_size=6), st.lists(st.sampled_from("abc"), min_size=1, max_size=2))
def test_a_prefix_put_on_or_taken_off_every_name_is_found(stored: set[tuple[str, ...]], prefix: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        plain = [".".join(words) + ".weight" for words in stored]
        found = names(Path(folder), *plain)
        assert all(found.find(".".join(prefix) + "." + name).name == name for name in plain)
        long = names(Path(folder), *(".".join(prefix) + "." + name for name in plain))
        for name in plain:
            hit = long.find(name)
            assert hit is None or hit.name == ".".join(prefix) + "." + name
