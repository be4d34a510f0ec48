"""What becomes of all that a delta does not say: norms, biases, tables, what did not change, other models."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from adaptr import api, errors
from adaptr.extracting.extract import extract
from checkpoints import tensors_of
from extracting.pairs import Pair, edited


def test_what_did_not_change_is_left_out(pair: Pair, tmp_path: Path) -> None:
    base, _ = pair("llama")
    name = "model.layers.0.mlp.up_proj.weight"
    moved = edited(base, tmp_path / "t", **{name.replace(".", "__"): tensors_of(base)[name] + 1})
    report = extract(base, moved, tmp_path / "x.safetensors", rank=1)
    adapter = api.load(tmp_path / "x.safetensors")
    assert list(adapter.targets) == ["model.layers.0.mlp.up_proj"]
    assert report.unchanged == len(tensors_of(base)) - 1
    assert report.error < 1e-6  # a constant matrix has rank 1
    with pytest.raises(errors.NothingChanged):
        extract(base, base, tmp_path / "y.safetensors", rank=1)


def test_choices_for_norms_biases_and_tables(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("qwen2")
    out = tmp_path / "x.safetensors"
    report = extract(base, tuned, out, rank=2)
    assert report.biases == 6
    assert report.replaced
    assert all("norm" in name for name in report.replaced)
    assert report.dropped == ()
    report = extract(base, tuned, out, rank=2, rest="drop", biases="drop", embeddings="drop", force=True)
    adapter = api.load(out)
    assert (report.biases, report.replaced, adapter.replaced) == (0, (), {})
    assert "model.embed_tokens" not in adapter.targets
    assert "model.embed_tokens.weight" in report.dropped
    assert sum("bias" in name for name in report.dropped) == 6
    report = extract(base, tuned, out, rank=2, biases="replace", embeddings="replace", force=True)
    assert sum(name.endswith(".bias") for name in report.replaced) == 6
    assert torch.equal(
        api.load(out).replaced["model.embed_tokens.weight"], tensors_of(tuned)["model.embed_tokens.weight"]
    )


def test_a_vocabulary_that_grew_is_replaced(pair: Pair, tmp_path: Path) -> None:
    base, _ = pair("llama")
    name = "model.embed_tokens.weight"
    table = torch.cat([tensors_of(base)[name], torch.ones(3, 32)])
    grown = edited(base, tmp_path / "t", **{name.replace(".", "__"): table, "new_head__weight": torch.ones(2, 32)})
    report = extract(base, grown, tmp_path / "x.safetensors", rank=1)
    assert report.replaced == (name, "new_head.weight")
    assert torch.equal(api.load(tmp_path / "x.safetensors").replaced[name], table)
    assert any("resize" in note for note in report.notes)


def test_checkpoints_of_other_models(pair: Pair, tmp_path: Path) -> None:
    base, _ = pair("llama")
    out = tmp_path / "x.safetensors"
    less = edited(base, tmp_path / "less", model__norm__weight=None)
    with pytest.raises(errors.WrongBase, match=r"model\.norm\.weight"):
        extract(base, less, out, rank=2)
    wide = edited(base, tmp_path / "wide", model__layers__0__mlp__up_proj__weight=torch.ones(48, 33))
    with pytest.raises(errors.WrongBase, match=r"\(48, 33\)"):
        extract(base, wide, out, rank=2)
    broken = edited(base, tmp_path / "nan", model__norm__weight=torch.full((32,), math.nan))
    with pytest.raises(errors.NonFinite, match=r"model\.norm\.weight"):
        extract(base, broken, out, rank=2)
    assert not out.exists()


@pytest.mark.parametrize("rank", [0, -3, 33])
def test_ranks_that_no_weight_has(rank: int, pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("llama")
    with pytest.raises(errors.BadConfig, match="rank"):
        extract(base, tuned, tmp_path / "x.safetensors", rank=rank)


def test_dropping_all_that_changed_is_no_adapter(pair: Pair, tmp_path: Path) -> None:
    base, _ = pair("llama")
    moved = edited(base, tmp_path / "t", model__norm__weight=torch.zeros(32))
    with pytest.raises(errors.NothingChanged, match=r"model\.norm\.weight"):
        extract(base, moved, tmp_path / "x.safetensors", rank=2, rest="drop")


def test_norms_or_biases_alone_make_an_adapter(pair: Pair, tmp_path: Path) -> None:
    base, _ = pair("qwen2")
    norm, bias = "model.norm.weight", "model.layers.0.self_attn.q_proj.bias"
    for name in (norm, bias):
        value = tensors_of(base)[name] + 0.5
        moved = edited(base, tmp_path / f"t-{name}", **{name.replace(".", "__"): value})
        out = tmp_path / f"{name}.safetensors"
        report = extract(base, moved, out, rank=2)
        assert (report.targets, report.error, len(report.replaced), report.biases) == (0, 0, name == norm, name == bias)
        api.merge(base, [out], tmp_path / f"m-{name}", receipt=False)
        assert torch.allclose(tensors_of(tmp_path / f"m-{name}")[name], value)
