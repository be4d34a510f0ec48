"""LoRA on a table as PEFT saves it by default: the table lies beside it in the file, and is the base of the delta."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adaptr
from adaptr import errors as e
from peft_models import SMALL, made, scrambled

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own

IDS = torch.tensor([[5, 7, 11, 2, 9, 3], [4, 8, 1, 6, 10, 12]])


def llama(tied: bool) -> nn.Module:
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=tied)
    return made(lambda: transformers.LlamaForCausalLM(config))


def grown(model: nn.Module, rows: int, seed: int) -> nn.Module:
    if rows:
        torch.manual_seed(seed)
        model.resize_token_embeddings(40 + rows, mean_resizing=False)
    return model


def logits(model: nn.Module, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits.float()


def saved(path: Path, tied: bool, modules: list[str], rows: int, **given: Any) -> torch.Tensor:
    """The base in `path`/base, PEFT's adapter in `path`/a, and what the two give on all tokens."""
    llama(tied).save_pretrained(path / "base")
    theirs = peft.get_peft_model(
        grown(llama(tied), rows, 3), peft.LoraConfig(target_modules=modules, r=3, task_type="CAUSAL_LM", **given)
    ).eval()
    scrambled(theirs)
    theirs.save_pretrained(path / "a")
    return logits(theirs, everything(rows))


def everything(rows: int) -> torch.Tensor:
    return torch.arange(40 + rows)[None]


def loaded(path: Path, rows: int = 0) -> nn.Module:
    config = transformers.AutoConfig.from_pretrained(path, vocab_size=40 + rows)
    return transformers.LlamaForCausalLM.from_pretrained(path, config=config).eval()


#: (tied, what is adapted, by how many rows the table grew).
CASES = [
    (False, ["q_proj", "embed_tokens"], 0),
    (False, ["embed_tokens", "lm_head"], 0),
    (False, ["embed_tokens", "lm_head"], 4),
    (True, ["q_proj", "embed_tokens"], 0),
    (True, ["q_proj", "embed_tokens"], 4),
    (True, ["q_proj", "embed_tokens", "lm_head"], 4),
    (True, ["q_proj", "lm_head"], 0),
]


@pytest.mark.parametrize(("tied", "modules", "rows"), CASES)
def test_attached(tied: bool, modules: list[str], rows: int, tmp_path: Path) -> None:
    want = saved(tmp_path, tied, modules, rows)
    model = grown(llama(tied), rows, 9)
    before = logits(model)
    with adaptr.attach(model, adaptr.load(tmp_path / "a")):
        assert gap(logits(model, everything(rows)), want) <= 1e-6 * 10
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize(("tied", "modules", "rows"), CASES)
@pytest.mark.parametrize("form", ["peft", "adaptr"])
def test_merged(tied: bool, modules: list[str], rows: int, form: str, tmp_path: Path) -> None:
    want = saved(tmp_path, tied, modules, rows)
    source = tmp_path / "a"
    if form == "adaptr":
        source = tmp_path / "x.adaptr.safetensors"
        adaptr.convert(tmp_path / "a", source)
    adaptr.merge(tmp_path / "base", [source], tmp_path / "out", tied="untie" if tied else None)
    assert gap(logits(loaded(tmp_path / "out", rows), everything(rows)), want) <= 1e-5
    adaptr.verify(tmp_path / "out", tmp_path / "base", [source], tied="untie" if tied else None)
    adaptr.unmerge(tmp_path / "out", tmp_path / "back")
    assert (
        gap(logits(transformers.LlamaForCausalLM.from_pretrained(tmp_path / "back").eval()), logits(llama(tied))) == 0
    )


def test_in_half_precision(tmp_path: Path) -> None:
    """The table is in the file as it was loaded: that is the base's own."""
    half = llama(False).half()
    half.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(target_modules=["embed_tokens"], r=3)
    theirs = peft.get_peft_model(llama(False).half(), config).eval()
    scrambled(theirs)
    theirs.save_pretrained(tmp_path / "a")
    adaptr.merge(tmp_path / "base", [(tmp_path / "a", 0.5)], tmp_path / "out")  # a strength: nothing is replaced
    with adaptr.attach(half, adaptr.load(tmp_path / "a"), 0.5) as handle:
        assert not handle.replacements


def test_two_with_the_base_s_own_table(tmp_path: Path) -> None:
    model = llama(False)
    for name in ("one", "third"):
        theirs = peft.get_peft_model(llama(False), peft.LoraConfig(target_modules=["embed_tokens"], r=3))
        scrambled(theirs)
        theirs.base_model.model.model.embed_tokens.lora_embedding_A["default"].data *= len(name) - 1.5
        theirs.save_pretrained(tmp_path / name)
    adapters = [adaptr.load(tmp_path / name).replace(name=name) for name in ("one", "third")]
    with adaptr.attach(model, adapters[0]), adaptr.attach(model, adapters[1]):
        want = logits(model)
    llama(False).save_pretrained(tmp_path / "base")
    adaptr.merge(tmp_path / "base", [tmp_path / "one", tmp_path / "third"], tmp_path / "out")
    assert gap(logits(loaded(tmp_path / "out")), want) <= 1e-5


def test_a_changed_table_has_no_strength(tmp_path: Path) -> None:
    saved(tmp_path, False, ["embed_tokens"], 4)
    with pytest.raises(e.NotPossible, match="no strength"):
        adaptr.merge(tmp_path / "base", [(tmp_path / "a", 0.5)], tmp_path / "out")


def test_a_tied_table_asks_what_becomes_of_the_head(tmp_path: Path) -> None:
    saved(tmp_path, True, ["embed_tokens"], 4)
    with pytest.raises(e.TiedWeights, match='tied="untie"'):
        adaptr.merge(tmp_path / "base", [tmp_path / "a"], tmp_path / "out")


@pytest.mark.parametrize("rows", [0, 4])
def test_both_means_the_table_with_its_delta_in_both_uses(rows: int, tmp_path: Path) -> None:
    saved(tmp_path, True, ["embed_tokens"], rows)
    report = adaptr.merge(tmp_path / "base", [tmp_path / "a"], tmp_path / "out", tied="both")
    assert report.added == ([] if not rows else ["model.embed_tokens.weight"])
    merged = loaded(tmp_path / "out", rows)
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    model = grown(llama(True), rows, 9)
    with adaptr.attach(model, adaptr.load(tmp_path / "a")):
        want = model.get_input_embeddings()(everything(rows))
    assert gap(merged.get_input_embeddings()(everything(rows)), want) <= 1e-6
    assert adaptr.verify(tmp_path / "out", tmp_path / "base", [tmp_path / "a"]).exact
    adaptr.unmerge(tmp_path / "out", tmp_path / "back")
    assert gap(logits(loaded(tmp_path / "back")), logits(llama(True))) == 0


@pytest.mark.parametrize("rows", [0, 4])
def test_one_delta_of_table_and_head_needs_no_word(rows: int, tmp_path: Path) -> None:
    """PEFT's `ensure_weight_tying`: the head gets the table's factors, turned."""
    want = saved(tmp_path, True, ["q_proj", "embed_tokens"], rows, ensure_weight_tying=True)
    adaptr.merge(tmp_path / "base", [tmp_path / "a"], tmp_path / "out")
    merged = loaded(tmp_path / "out", rows)
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    assert gap(logits(merged, everything(rows)), want) <= 1e-4
    assert adaptr.verify(tmp_path / "out", tmp_path / "base", [tmp_path / "a"]).exact


def test_the_table_under_the_delta_does_not_learn(tmp_path: Path) -> None:
    saved(tmp_path, True, ["embed_tokens"], 4)
    model = grown(llama(True), 4, 9)
    session = adaptr.train(model, adaptr.load(tmp_path / "a"))
    learning = {id(p) for p in session.parameters()}
    assert id(model.model.embed_tokens.weight) not in learning
    assert model.lm_head.weight is model.model.embed_tokens.weight


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())
