"""Tied weights of a live model: attached, merged and trained they are what merging a checkpoint makes of them."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import checkpoints as c
import tied_models as m
import tiny
from adaptr.adapter import Adapter, Target
from adaptr.errors import AdaptrError, NotPossible, TiedWeights, Unsupported, UsageError
from adaptr.testing.live import assert_same

V, D = tiny.VOCAB, tiny.WIDTH
HEAD, TABLE = "lm_head", "model.embed_tokens"


def model_of(maker: Any = m.llama) -> Any:
    torch.manual_seed(0)
    return maker().eval()


def on_head(path: str = HEAD, **said: Any) -> Adapter:
    return c.lora_at(Target(path, "linear", (V, D))).replace(**said)


def on_table(path: str = TABLE) -> Adapter:
    return c.lora_at(Target(path, "embedding", (D, V)), seed=1)


def on_both(same: bool = True, kept: bool = False) -> Adapter:
    """A delta of the head, and of the table the same, turned, or another."""
    head, table = on_head(), on_table()
    A, B = head.tensors[f"{HEAD}:A"], head.tensors[f"{HEAD}:B"]
    turned = {f"{TABLE}:A": B.t().contiguous(), f"{TABLE}:B": A.t().contiguous()}
    said = {"peft": {"config": {"ensure_weight_tying": True}}} if kept else {}
    return head.replace(
        targets={**head.targets, **table.targets},
        tensors={**head.tensors, **(turned if same else table.tensors)},
        foreign=said,
    )


def whole(**values: torch.Tensor) -> Adapter:
    names = {"head": f"{HEAD}.weight", "table": f"{TABLE}.weight"}
    return Adapter("lora", {"r": 2}, {}, {f"{names[key]}:=": value for key, value in values.items()})


def grounded(value: torch.Tensor) -> Adapter:
    table = on_table()
    return table.replace(tensors={**table.tensors, f"{TABLE}.weight:=": value})


VALUE = torch.randn(V, D, generator=torch.Generator().manual_seed(5))
CASES = {
    "head": on_head(),
    "table": on_table(),
    "one delta of both": on_both(),
    "one delta, kept tied": on_both(kept=True),
    "two deltas": on_both(same=False),
    "two deltas, said to be tied": on_both(same=False, kept=True),
    "whole head": whole(head=VALUE),
    "one value for both": whole(head=VALUE, table=VALUE.clone()),
    "two values": whole(head=VALUE, table=VALUE + 1),
    "table under its delta": grounded(VALUE),
    "a layer": c.lora_at_q(),
}


@pytest.mark.parametrize("tied", [None, "both", "untie"])
@pytest.mark.parametrize("case", sorted(CASES))
def test_live_is_what_merging_a_checkpoint_makes(case: str, tied: Any, tmp_path: Path) -> None:
    adapter, model = CASES[case], model_of()
    model.save_pretrained(tmp_path / "base")
    before = copy.deepcopy(model.state_dict())
    try:
        adaptr.merge(tmp_path / "base", adapter, tmp_path / "out", tied=tied)
    except AdaptrError as error:
        with pytest.raises(type(error)):
            adaptr.attach(model, adapter, merged=True, tied=tied)
    else:
        written = c.model_of(tmp_path / "out")
        with adaptr.attach(model, adapter, merged=True, tied=tied):
            assert_same(model.state_dict(), written.state_dict())
            assert is_tied(model) is is_tied(written)
            assert model.config.tie_word_embeddings is written.config.tie_word_embeddings
            model.save_pretrained(tmp_path / "again")
            assert_same(c.model_of(tmp_path / "again").state_dict(), written.state_dict())
    assert_same(model.state_dict(), before)
    assert is_tied(model)
    assert model.config.tie_word_embeddings


def is_tied(model: Any) -> bool:
    return model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("maker", "head"),
    [(m.bert, "cls.predictions.decoder"), (m.gemma3, HEAD), (m.llava, HEAD), (tiny.MAKERS["bart"], HEAD)],
    ids=["bert", "gemma3", "llava", "bart"],
)  # fmt: skip
def test_each_kind_of_model_is_untied_and_tied_again(maker: Any, head: str, tmp_path: Path) -> None:
    model, adapter = model_of(maker), on_head(head)
    model.save_pretrained(tmp_path / "base")
    said = model.config.to_dict()
    before, names = copy.deepcopy(model.state_dict()), [n for n, _ in model.named_parameters()]
    adaptr.merge(tmp_path / "base", adapter, tmp_path / "out", tied="untie")
    with adaptr.attach(model, adapter, merged=True, tied="untie"):
        assert_same(model.state_dict(), c.model_of(tmp_path / "out").state_dict())
        model.save_pretrained(tmp_path / "again")
        assert_same(c.model_of(tmp_path / "again").state_dict(), model.state_dict())
    assert_same(model.state_dict(), before)
    assert [n for n, _ in model.named_parameters()] == names
    assert model.config.to_dict() == said


def test_a_bias_by_two_names_needs_no_word() -> None:
    model, head = model_of(m.bert), "cls.predictions.decoder"
    bias = torch.randn(V)
    with adaptr.attach(model, Adapter("lora", {"r": 2}, {}, {f"{head}.bias:=": bias}), merged=True):
        assert torch.equal(model.cls.predictions.bias, bias)
        assert model.cls.predictions.bias is model.cls.predictions.decoder.bias


def test_what_cannot_be_untied_is_refused_and_nothing_changes() -> None:
    model = model_of(tiny.MAKERS["t5"])
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(Unsupported, match=r"`lm_head\.weight` can't be untied: a T5ForConditionalGeneration"):
        adaptr.attach(model, on_head(), merged=True, tied="untie")
    assert_same(model.state_dict(), before)
    assert model.config.tie_word_embeddings


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_they_come_off_in_any_order(order: tuple[int, ...]) -> None:
    model = model_of()
    before = copy.deepcopy(model.state_dict())
    adapters = [(on_both(), "both"), (on_head(), "untie"), (on_table(), "untie")]
    handles = [adaptr.attach(model, adapter, merged=True, tied=way) for adapter, way in adapters]
    for number in order[:2]:
        handles[number].detach()
    left, way = adapters[order[2]]
    other = model_of()
    adaptr.attach(other, left, merged=True, tied=way)
    assert_same(model.state_dict(), other.state_dict())
    assert is_tied(model) is is_tied(other)
    handles[order[2]].detach()
    assert_same(model.state_dict(), before)
    assert is_tied(model)


def test_both_is_no_word_where_another_has_untied() -> None:
    model = model_of()
    with adaptr.attach(model, on_head(), merged=True, tied="untie"), pytest.raises(Unsupported, match="no longer tied"):
        adaptr.attach(model, on_table(), merged=True, tied="both")
    adaptr.attach(model, on_table(), merged=True, tied="both").detach()


def test_a_use_that_was_trained_since_is_not_tied_again() -> None:
    model = model_of()
    handle = adaptr.attach(model, on_head(), merged=True, tied="untie")
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(1)
    with pytest.raises(Unsupported, match="has been written to since"):
        handle.detach()
    assert not is_tied(model)


def test_what_was_written_to_a_use_is_seen_when_another_is_detached() -> None:
    model = model_of()
    first, _ = (adaptr.attach(model, a, merged=True, tied="untie") for a in (on_head(), on_table()))
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(1)
    now = copy.deepcopy(model.state_dict())
    with pytest.raises(Unsupported, match="has been written to since"):
        first.detach()
    assert_same(model.state_dict(), now)


def test_two_heads_of_one_kind_get_both_deltas() -> None:
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 6), "b": torch.nn.Linear(4, 6)})
    model["b"].weight = model["a"].weight
    weight = model["a"].weight.detach().clone()
    one, two = (c.lora_at(Target(path, "linear", (6, 4)), seed=i) for i, path in enumerate("ab"))
    adapter = one.replace(targets={**one.targets, **two.targets}, tensors={**one.tensors, **two.tensors})
    with adaptr.attach(model, adapter, merged=True, tied="both"):
        assert torch.allclose(model["a"].weight, weight + c.delta(one, "a") + c.delta(two, "b"))
        assert model["a"].weight is model["b"].weight
    assert torch.equal(model["a"].weight, weight)


def test_an_attached_head_that_was_made_on_a_tied_base_may_be_alone() -> None:
    model = model_of()
    adapter = adaptr.create(model, "lora", ["attn.q"], also="head", tied="untie")
    value = torch.randn(V, D)
    adapter = adapter.replace(tensors={**adapter.tensors, f"{HEAD}.weight:=": value})
    table = model.model.embed_tokens.weight.detach().clone()
    with adaptr.attach(model, adapter):
        assert torch.equal(model.lm_head.weight, value)
        assert torch.equal(model.model.embed_tokens.weight, table)
    assert is_tied(model)
    tied = adapter.replace(base=adaptr.host.base_of(model, adapter.targets))
    with adaptr.attach(model, tied):
        assert is_tied(model)
    with adaptr.attach(model, tied, tied="untie"):
        assert not is_tied(model)


def test_what_was_trained_alone_comes_back_alone_from_a_file(tmp_path: Path) -> None:
    model = model_of()
    model.save_pretrained(tmp_path / "base")
    table = model.model.embed_tokens.weight.detach().clone()
    adapter = adaptr.create(model, "lora", ["attn.q"], also="head", tied="untie")
    with adaptr.train(model, adapter, tied="untie") as session:
        model(**tiny.inputs("llama")).logits.square().mean().backward()
        torch.optim.SGD(session.parameters(), lr=1.0).step()
        assert torch.equal(model.model.embed_tokens.weight, table)
        adaptr.save(session.finish(), tmp_path / "a.safetensors")
    assert is_tied(model)
    with adaptr.attach(model, adaptr.load(tmp_path / "a.safetensors")), torch.no_grad():
        assert torch.equal(model.model.embed_tokens.weight, table)
        wanted = model(**tiny.inputs("llama")).logits
    adaptr.merge(tmp_path / "base", tmp_path / "a.safetensors", tmp_path / "out", tied="untie")
    with torch.no_grad():
        torch.testing.assert_close(c.model_of(tmp_path / "out")(**tiny.inputs("llama")).logits, wanted)


def test_a_tied_whole_parameter_is_trained_in_the_place_that_it_names() -> None:
    model = model_of()
    with adaptr.train(model, adaptr.create(model, "lora", ["attn.q"], also="embed"), tied="untie"):
        assert not is_tied(model)
        assert not model.lm_head.weight.requires_grad
        assert model.model.embed_tokens.weight.requires_grad


def test_words_that_say_nothing() -> None:
    model = model_of()
    for call in (
        lambda: adaptr.attach(model, on_head(), merged=True, tied="bth"),
        lambda: adaptr.attach(model, on_head(), tied="both"),
        lambda: adaptr.attach(model, on_head(), tied="bth"),
        lambda: adaptr.train(model, on_head(), tied="both"),
    ):
        with pytest.raises(UsageError, match="`tied"):
            call()  # type: ignore[no-untyped-call]


def test_messages_name_the_words() -> None:
    with pytest.raises(TiedWeights, match=r'`tied="both"` to change all, `tied="untie"` to give each use'):
        adaptr.attach(model_of(), on_head(), merged=True)
    with pytest.raises(NotPossible, match=r'say `tied="untie"`'):
        adaptr.attach(model_of(), whole(head=VALUE, table=VALUE + 1), merged=True, tied="both")
