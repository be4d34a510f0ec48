"""Trained rows: of a table and of the head that is tied to it, replaced and put back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tied_models
import tiny
from adaptr.adapter import Adapter, Target
from adaptr.errors import BadConfig, NotPossible, Unsupported
from adaptr.testing import shaken


def adapter(model: Any, **config: Any) -> Adapter:
    return shaken(adaptr.create(model, "trainable-tokens", **{"tokens": [9, 3], **config}))


@pytest.mark.parametrize("tokens", [[], [3, 3], [-1], [tied_models.V]])
def test_ids_that_can_not_be(tokens: list[int]) -> None:
    with pytest.raises(BadConfig, match="tokens"):
        adaptr.create(tiny.model("llama"), "trainable-tokens", tokens=tokens)


def test_a_square_table_is_refused() -> None:
    target = Target("embed", "embedding", (4, 4), {"tokens": [1], "side": "out"})
    with pytest.raises(Unsupported, match="square"):
        adaptr.plugins.method("trainable-tokens").check(target, {"v": (1, 4)})


def test_the_tied_head_follows_and_learns() -> None:
    model = tied_models.llama().eval()
    made = adapter(model)
    assert list(made.targets) == ["model.embed_tokens"]
    with adaptr.attach(model, made):
        head = model.lm_head(torch.eye(tied_models.D)).T
        table = model.model.embed_tokens(torch.arange(tied_models.V))
    want = model.lm_head.weight.detach().clone()
    want[[9, 3]] = made.tensors["model.embed_tokens:v"]
    assert torch.equal(table, want)
    assert torch.allclose(head, want, atol=1e-6)


def test_an_untied_head_stays_and_can_be_a_target() -> None:
    model = tied_models.llama().eval()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() + 1)
    assert list(adapter(model).targets) == ["model.embed_tokens"]
    both = adapter(model, targets=["embed", "head"])
    assert {path: t.config["side"] for path, t in both.targets.items()} == {
        "model.embed_tokens": "out",
        "lm_head": "in",
    }


def test_a_merge_changes_the_rows_alone_and_is_undone_bit_for_bit(tmp_path: Path) -> None:
    model = tied_models.llama()
    model.save_pretrained(tmp_path / "base")
    adaptr.save(adapter(model), tmp_path / "a.safetensors")
    adaptr.merge(tmp_path / "base", [tmp_path / "a.safetensors"], tmp_path / "merged")
    adaptr.unmerge(tmp_path / "merged", tmp_path / "back")
    read = [type(model).from_pretrained(tmp_path / name).state_dict() for name in ("base", "merged", "back")]
    moved = (read[0]["lm_head.weight"] != read[1]["lm_head.weight"]).any(1)
    assert moved.nonzero().flatten().tolist() == [3, 9]
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"] is True
    assert all(torch.equal(read[0][key], read[2][key]) for key in read[0])


def test_untied_the_head_has_the_rows_as_it_has_attached(tmp_path: Path) -> None:
    """Found by a case of PEFT's: the head of a model that was untied had the old rows."""
    model, ids = tied_models.llama().eval(), torch.arange(tied_models.V)[None]
    model.save_pretrained(tmp_path / "base")
    stack = [adapter(model), shaken(adaptr.create(model, "lora", ["embed_tokens"], r=2))]
    adaptr.merge(tmp_path / "base", stack, tmp_path / "out", tied="untie")
    untied = type(model).from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        with adaptr.attach(model, stack[0]), adaptr.attach(model, stack[1]):
            want = model(ids).logits
        assert torch.allclose(untied(ids).logits, want, atol=1e-4)
        with adaptr.attach(model, stack[0], merged=True, tied="untie"):
            live = model(ids).logits
        with adaptr.attach(model, stack[0]):
            assert torch.allclose(live, model(ids).logits, atol=1e-4)
    stack[1] = shaken(adaptr.create(model, "lora", ["lm_head"], r=2))
    with pytest.raises(NotPossible, match=r"`lm_head\.weight` changes by itself and with `model\.embed_tokens"):
        adaptr.merge(tmp_path / "base", stack, tmp_path / "other", tied="untie")
