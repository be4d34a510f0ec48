"""Tied weights: refused unless said, and `both` and `untie` do what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import checkpoints as c
import tiny
from adaptr import api
from adaptr.adapter import Adapter, Target
from adaptr.checkpoint.parts import INDEX
from adaptr.errors import NotPossible, TiedWeights, Unsupported

#: kind: the names of the embedding's module and the head's.
MODELS = {"gpt2": ("transformer.wte", "lm_head"), "llama": ("model.embed_tokens", "lm_head")}


@pytest.fixture(params=["gpt2", "llama"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def tied(kind: str, folder: Path, shard: str = "20KB", dtype: torch.dtype = torch.float32) -> Path:
    """A model whose output head is its embedding, in several files."""
    torch.manual_seed(0)
    model: Any = tiny.MAKERS[kind]()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    assert not any("lm_head" in name for name in c.tensors_of(folder))
    return folder


def at(kind: str, place: str, seed: int = 0) -> Adapter:
    embedding, head = MODELS[kind]
    if place == "head":
        return c.lora_at(Target(head, "linear", (tiny.VOCAB, tiny.WIDTH)), seed=seed)
    return c.lora_at(Target(embedding, "embedding", (tiny.WIDTH, tiny.VOCAB)), seed=seed)


def restored(base: Path, out: Path) -> bool:
    api.unmerge(out, out.with_name("back"), force=True)
    return c.digests(out.with_name("back")) == c.digests(base)


@pytest.mark.parametrize("place", ["head", "embedding"])
def test_refused_unless_said(tmp_path: Path, kind: str, place: str) -> None:
    with pytest.raises(TiedWeights, match='tied="both"'):
        api.merge(tied(kind, tmp_path / "base"), [at(kind, place)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("place", ["head", "embedding"])
def test_both_changes_both_uses(tmp_path: Path, kind: str, place: str, dtype: torch.dtype) -> None:
    base, adapter = tied(kind, tmp_path / "base", dtype=dtype), at(kind, place)
    report = api.merge(base, [adapter], tmp_path / "out", tied="both")
    assert (report.tied, report.added) == ("both", [])
    merged, before = (c.model_of(folder) for folder in (tmp_path / "out", base))
    path = next(iter(adapter.targets))
    D = c.delta(adapter, path)
    want = before.lm_head.weight.float() + (D if place == "head" else D.t())
    assert torch.allclose(merged.lm_head.weight.float(), want, rtol=0.01, atol=1e-5)
    assert merged.get_submodule(MODELS[kind][0]).weight is merged.lm_head.weight
    assert api.verify(tmp_path / "out", base, [adapter], tied="both").exact
    assert restored(base, tmp_path / "out")


@pytest.mark.parametrize("shard", ["5GB", "20KB"])
@pytest.mark.parametrize("places", [("head",), ("embedding",), ("head", "embedding")], ids="+".join)
def test_untied_is_what_attached_is(tmp_path: Path, kind: str, places: tuple[str, ...], shard: str) -> None:
    base = tied(kind, tmp_path / "base", shard)
    stack = [at(kind, place, seed) for seed, place in enumerate(places)]
    report = api.merge(base, stack, tmp_path / "out", tied="untie")
    assert report.added == ["lm_head.weight"]
    model = c.model_of(base)
    for adapter in stack:
        api.attach(model, adapter)
    attached, merged = c.logits(model, kind), c.logits(c.model_of(tmp_path / "out"), kind)
    assert torch.allclose(attached, merged, atol=1e-4)
    assert json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"] is False
    if (base / INDEX).exists():
        index = json.loads((tmp_path / "out" / INDEX).read_text())
        found = c.tensors_of(tmp_path / "out")
        assert set(index["weight_map"]) == set(found)
        assert index["metadata"]["total_size"] == sum(t.nbytes for t in found.values())
    assert api.verify(tmp_path / "out", base, stack, tied="untie").exact
    assert restored(base, tmp_path / "out")


def test_a_replaced_head(tmp_path: Path, kind: str) -> None:
    base, head = tied(kind, tmp_path / "base"), torch.randn(tiny.VOCAB, tiny.WIDTH)
    adapter = Adapter("lora", {"r": 2}, {}, {"lm_head.weight:=": head})
    with pytest.raises(TiedWeights):
        api.merge(base, [adapter], tmp_path / "out")
    for way in ("both", "untie"):
        api.merge(base, [adapter], tmp_path / "out", tied=way, force=True)
        model = c.model_of(tmp_path / "out")
        assert torch.equal(model.lm_head.weight, head)
        embedding = model.get_submodule(MODELS[kind][0]).weight
        assert torch.equal(embedding, head) == (way == "both")
        assert restored(base, tmp_path / "out")


def test_two_readings_of_one_tensor_are_not_mixed(tmp_path: Path, kind: str) -> None:
    base = tied(kind, tmp_path / "base")
    with pytest.raises(Unsupported, match=r"as embedding .* and as linear"):
        api.merge(base, [at(kind, "head"), at(kind, "embedding")], tmp_path / "out", tied="both")
    head = Adapter("lora", {"r": 2}, {}, {"lm_head.weight:=": torch.randn(tiny.VOCAB, tiny.WIDTH)})
    with pytest.raises(NotPossible, match="are one tensor"):
        api.merge(base, [at(kind, "embedding"), head], tmp_path / "out", tied="both")


def test_an_untied_delta_of_zero_changes_nothing(tmp_path: Path, kind: str) -> None:
    from adaptr.errors import NothingChanged

    with pytest.raises(NothingChanged):
        api.merge(tied(kind, tmp_path / "base"), [(at(kind, "head"), 0.0)], tmp_path / "out", tied="untie")


def test_what_is_not_tied_needs_no_word(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base")
    assert "lm_head.weight" in c.tensors_of(base)
    api.merge(base, [at("llama", "head"), at("llama", "embedding")], tmp_path / "out")
    assert restored(base, tmp_path / "out")


def test_a_head_beside_names_without_a_prefix(tmp_path: Path) -> None:
    """The way the first GPT-2 was published: `wte.weight`, and a head that is nowhere."""
    base = tied("gpt2", tmp_path / "base", "5GB")
    tensors = {name.removeprefix("transformer."): t for name, t in c.tensors_of(base).items()}
    c.bare(base, tensors)
    stack = [at("gpt2", "head"), c.randomised(base)]
    api.merge(base, stack, tmp_path / "out", tied="untie")
    model = c.model_of(base)
    for adapter in stack:
        api.attach(model, adapter)
    assert torch.allclose(c.logits(model, "gpt2"), c.logits(c.model_of(tmp_path / "out"), "gpt2"), atol=1e-3)
    assert restored(base, tmp_path / "out")


def test_where_the_model_depends_on_the_tie_it_stays(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = tiny.MAKERS["t5"]()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path / "base")
    adapter = c.lora_at(Target("shared", "embedding", (tiny.WIDTH, tiny.VOCAB)))
    with pytest.raises(TiedWeights):
        api.merge(tmp_path / "base", [adapter], tmp_path / "out")
    with pytest.raises(Unsupported, match="T5ForConditionalGeneration has no place"):
        api.merge(tmp_path / "base", [adapter], tmp_path / "out", tied="untie")
    api.merge(tmp_path / "base", [adapter], tmp_path / "out", tied="both")
    assert restored(tmp_path / "base", tmp_path / "out")
