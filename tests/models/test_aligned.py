"""Extract and diff where the two checkpoints do not store the very same names of one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import checkpoints as c
import tied_models
import tiny
from adaptr import api
from adaptr.errors import WrongBase

V, D = tiny.VOCAB, tiny.WIDTH
Tensors = dict[str, torch.Tensor]
Change = Callable[[Tensors], Tensors]


def with_head(tensors: Tensors) -> Tensors:
    return {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}


def with_rotary(tensors: Tensors) -> Tensors:
    return {**tensors, **{f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in (0, 1)}}


def bare_names(tensors: Tensors) -> Tensors:
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def with_masks(tensors: Tensors) -> Tensors:
    return {**bare_names(tensors), **{f"h.{i}.attn.bias": torch.ones(1, 1, 64, 64) for i in (0, 1)}}


def same(tensors: Tensors) -> Tensors:
    return tensors


#: the model, and what the base and the tuned one store otherwise
CASES: dict[str, tuple[Callable[[], Any], Change, Change]] = {
    "head in the base": (tied_models.llama, with_head, same),
    "head in the tuned": (tied_models.llama, same, with_head),
    "rotary in the base": (tiny.MAKERS["llama"], with_rotary, same),
    "rotary in the tuned": (tiny.MAKERS["llama"], same, with_rotary),
    "GPT-2 as published": (tiny.MAKERS["gpt2"], with_masks, same),
    "GPT-2 without masks": (tiny.MAKERS["gpt2"], bare_names, same),
    "GPT-2 the other way": (tiny.MAKERS["gpt2"], same, with_masks),
}


def pair(tmp_path: Path, make: Callable[[], Any], before: Change = same, after: Change = same) -> torch.Tensor:
    """A base and a fine-tuned model in two folders; what the tuned one says."""
    torch.manual_seed(0)
    model = make().eval()
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "v_proj.weight" in name or "mlp.c_proj.weight" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape[0], 2) @ torch.randn(2, parameter.shape[1]))
    model.save_pretrained(tmp_path / "tuned")
    for folder, change in (("base", before), ("tuned", after)):
        c.bare(tmp_path / folder, change(c.tensors_of(tmp_path / folder)))
    return c.logits(model, "llama")


@pytest.mark.parametrize("name", CASES)
def test_what_one_side_alone_stores_is_no_change(tmp_path: Path, name: str) -> None:
    """Found in 0.1.0: refused as no fine-tuning of this base, or turned into parameters that attach refuses."""
    want = pair(tmp_path, *CASES[name])
    report = api.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "x.safetensors", rank=2)
    assert (report.targets, report.replaced) == (2, ())
    adapter = api.load(tmp_path / "x.safetensors")
    model = CASES[name][0]().eval()
    model.load_state_dict(type(model).from_pretrained(tmp_path / "base").state_dict())
    api.attach(model, adapter)
    assert torch.allclose(c.logits(model, "llama"), want, atol=1e-5)
    api.merge(tmp_path / "base", [adapter], tmp_path / "out")
    assert torch.allclose(c.logits(type(model).from_pretrained(tmp_path / "out"), "llama"), want, atol=1e-5)
    found = api.diff(tmp_path / "tuned", tmp_path / "x.safetensors", base=tmp_path / "base")
    assert {target.path for target in found.targets} == set(adapter.targets)
    assert found.others == ()


def test_a_head_that_was_untied_in_training_is_a_delta_of_the_table(tmp_path: Path) -> None:
    def untied(tensors: Tensors) -> Tensors:
        delta = 0.1 * torch.randn(V, 2) @ torch.randn(2, D)
        return {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"] + delta}

    pair(tmp_path, tied_models.llama, same, untied)
    report = api.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "x.safetensors", rank=2)
    assert (report.targets, report.replaced) == (3, ())
    api.merge(tmp_path / "base", [tmp_path / "x.safetensors"], tmp_path / "out", tied="untie")
    got, want = c.tensors_of(tmp_path / "out"), c.tensors_of(tmp_path / "tuned")
    assert all(torch.allclose(got[name], want[name], atol=1e-5) for name in want)


def test_what_the_model_reads_may_not_be_missing(tmp_path: Path) -> None:
    def less(tensors: Tensors) -> Tensors:
        return {name: tensor for name, tensor in tensors.items() if "k_proj" not in name}

    pair(tmp_path, tiny.MAKERS["llama"], with_rotary, less)
    with pytest.raises(WrongBase, match="k_proj"):
        api.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "x.safetensors", rank=2)


def test_a_parent_is_named_by_what_it_stores(tmp_path: Path) -> None:
    """The digest of a checkpoint does not depend on what the other side stores."""
    parents = []
    for number, case in enumerate(("GPT-2 as published", "GPT-2 without masks")):
        make, before, _ = CASES[case]
        pair(tmp_path / f"{number}", make, before)
        place = tmp_path / f"{number}"
        api.extract(place / "base", place / "tuned", place / "x.safetensors", rank=2)
        parents.append(api.load(place / "x.safetensors").lineage["parents"][1]["digest"])
    pair(tmp_path / "same", tiny.MAKERS["gpt2"])
    api.extract(tmp_path / "same/base", tmp_path / "same/tuned", tmp_path / "same/x.safetensors", rank=2)
    assert {*parents} == {api.load(tmp_path / "same/x.safetensors").lineage["parents"][1]["digest"]}
