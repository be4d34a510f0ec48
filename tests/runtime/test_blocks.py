"""Blocks: each member of a tree is, for its rows, tokens or share, what it is alone; what has no meaning is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import adaptr
import tiny
from adaptr import Average, BatchSplit, Parallel, Split, Stack, errors
from adaptr.adapter import Adapter
from adaptr.testing.closeness import assert_close, bits_equal
from adaptr.testing.samples import shaken

#: One of each sort of place: weights of three kinds of formula, outputs with and without a second input, attention.
SORTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lora": (["attn.q", "mlp.down"], {"r": 4}),
    "dora": (["attn.o"], {"r": 2}),
    "ia3": (None, {}),
    "houlsby": (None, {"m": 8}),
    "parallel": (None, {"m": 8}),
    "prefix": (None, {"tokens": 3}),
    "mam": (None, {"m": 8, "tokens": 2}),
}


@pytest.fixture(scope="module")
def of() -> dict[str, Adapter]:
    model = tiny.model("llama")
    made = {n: adaptr.create(model, n, targets, **config) for n, (targets, config) in SORTS.items()}
    return {name: shaken(adapter, number) for number, (name, adapter) in enumerate(made.items())}


class Case:
    def __init__(self) -> None:
        self.model, self.ids = tiny.model("llama"), tiny.inputs("llama", batch=4)["input_ids"]

    def output(self, *adapters: Any, ids: Tensor | None = None) -> Tensor:
        if adapters:
            with adaptr.attach(self.model, adapters[0]):
                return self.output(*adapters[1:], ids=ids)
        with torch.no_grad():
            found: Tensor = self.model(self.ids if ids is None else ids).logits
        return found


@pytest.fixture
def case() -> Case:
    return Case()


@pytest.mark.parametrize("name", SORTS)
def test_each_row_is_what_it_is_alone(case: Case, of: dict[str, Adapter], name: str) -> None:
    bare, one, other = case.output(), case.output(of[name]), case.output(of["houlsby"])
    with adaptr.attach(case.model, BatchSplit(of[name], None, of["houlsby"], of[name])):
        found = case.output()
    for row, wanted in enumerate((one, bare, other, one)):
        assert_close(found[row], wanted[row])
    assert bits_equal(case.output(), bare)


@pytest.mark.parametrize("name", ["lora", "dora", "ia3", "houlsby", "prefix"])
def test_what_is_merged_is_in_the_base_of_all_rows(case: Case, of: dict[str, Adapter], name: str) -> None:
    """It comes off under a block as it went in, and what a block has on the same weights keeps others from merging."""
    below, bare = shaken(adaptr.create(case.model, "lora", ["attn.q", "attn.o"], name="below"), 9), case.output()
    alone = case.output(of[name])
    with adaptr.attach(case.model, below, merged=True):
        base, one = case.output(), case.output(of[name])
        with pytest.raises(errors.AlreadyAttached, match="called `below`"):
            adaptr.attach(case.model, BatchSplit(below.replace(), None))
    assert not bits_equal(base, bare)
    merged = adaptr.attach(case.model, below, merged=True)
    with adaptr.attach(case.model, BatchSplit(of[name], None, None, of[name])):
        found = case.output()
        merged.detach()
        then = case.output()
    for row, (wanted, later) in enumerate(zip((one, base, base, one), (alone, bare, bare, alone), strict=True)):
        assert_close(found[row], wanted[row])
        assert_close(then[row], later[row])
    assert bits_equal(case.output(), bare)


def test_several_rows_each_and_other_rows_without_attaching_anew(case: Case, of: dict[str, Adapter]) -> None:
    one, other = case.output(of["lora"]), case.output(of["prefix"])
    with adaptr.attach(case.model, BatchSplit(of["lora"], of["prefix"], sizes=[3, 1])) as handle:
        assert_close(case.output(), torch.cat([one[:3], other[3:]]))
        handle.arrange(BatchSplit(of["prefix"], of["lora"], sizes=[2, 2]))
        assert_close(case.output(), torch.cat([other[:2], one[2:]]))
        with pytest.raises(errors.UsageError, match="not on the model"):
            handle.arrange(BatchSplit(of["ia3"], of["lora"], sizes=[2, 2]))
        assert_close(case.output(), torch.cat([other[:2], one[2:]]))


@pytest.mark.parametrize("cache", [True, False])
def test_rows_generate_what_they_generate_alone(case: Case, of: dict[str, Adapter], cache: bool) -> None:
    def tokens(ids: Tensor) -> Tensor:
        said = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "use_cache": cache}
        return case.model.generate(ids, **said)  # type: ignore[no-any-return]

    wanted = []
    for row, name in enumerate(("houlsby", "prefix", "lora", "parallel")):
        with adaptr.attach(case.model, of[name]):
            wanted.append(tokens(case.ids[row : row + 1]))
    with adaptr.attach(case.model, BatchSplit(*(of[name] for name in ("houlsby", "prefix", "lora", "parallel")))):
        assert torch.equal(tokens(case.ids), torch.cat(wanted))


@pytest.mark.parametrize("name", ["lora", "houlsby", "prefix"])
def test_the_first_tokens_of_a_split_are_what_they_are_alone_and_the_others_see_them(
    case: Case, of: dict[str, Adapter], name: str
) -> None:
    with adaptr.attach(case.model, Split(of[name], of["ia3"], sizes=[4, 3])):
        found = case.output()
        with pytest.raises(errors.UsageError, match="wanted 5 tokens"):
            case.output(ids=case.ids[:, :5])
        with pytest.raises(errors.UsageError, match="does not generate with a cache"):
            case.model.generate(case.ids, max_new_tokens=2, pad_token_id=0)
    assert_close(found[:, :4], case.output(of[name])[:, :4])
    assert not bits_equal(found[:, 4:], case.output(of[name])[:, 4:])
    with adaptr.attach(case.model, Split(of[name], of[name], sizes=[4, 3])):
        found = case.output()
    assert_close(found, case.output(of[name]))


def test_one_place_split_is_both_halves_written_out(case: Case, of: dict[str, Adapter]) -> None:
    layer = case.model.model.layers[0].mlp.down_proj
    x = torch.randn(2, 5, layer.in_features)
    alone = []
    for name in ("lora", "dora"):
        adapter = shaken(adaptr.create(case.model, name, ["model.layers.0.mlp.down_proj"], r=2), 3)
        with adaptr.attach(case.model, adapter), torch.no_grad():
            alone.append((adapter, layer(x)))
    with adaptr.attach(case.model, Split(alone[0][0], alone[1][0], sizes=[2, 3])), torch.no_grad():
        assert_close(layer(x), torch.cat([alone[0][1][:, :2], alone[1][1][:, 2:]], 1))


def test_a_parallel_is_the_call_for_each(case: Case, of: dict[str, Adapter]) -> None:
    wanted = [case.output(of[name]) for name in ("lora", "houlsby", "prefix")]
    with adaptr.attach(case.model, Parallel(of["lora"], of["houlsby"], of["prefix"])):
        for found, one in zip(case.output().chunk(3), wanted, strict=True):
            assert_close(found, one)
        with pytest.raises(errors.Unsupported, match="repeat the prompts yourself"):
            case.model.generate(case.ids, max_new_tokens=2, pad_token_id=0)
    mask = torch.ones_like(case.ids)
    with adaptr.attach(case.model, Stack(of["ia3"], Parallel(of["lora"], None))), torch.no_grad():
        one, other = case.model(case.ids, attention_mask=mask).logits.chunk(2)
    assert_close(one, case.output(of["ia3"], of["lora"]))
    assert_close(other, case.output(of["ia3"]))


def test_an_average_is_of_what_each_changes(case: Case, of: dict[str, Adapter]) -> None:
    """AdapterHub divides by their number once more."""
    with adaptr.attach(case.model, Average(of["houlsby"], of["houlsby"])):
        found = case.output()
    assert_close(found, case.output(of["houlsby"]))
    with adaptr.attach(case.model, Average(of["lora"], None, weights=[3, 1])):
        found = case.output()
    assert_close(found, case.output((of["lora"], 0.75)))


def test_blocks_in_blocks(case: Case, of: dict[str, Adapter]) -> None:
    wanted = torch.cat(
        [
            case.output(of["houlsby"], of["lora"])[:1],
            case.output((of["lora"], 0.5))[1:3],
            case.output(of["prefix"])[3:],
        ]
    )
    tree = BatchSplit(
        Stack(of["houlsby"], of["lora"]), Average(of["lora"], None), BatchSplit(of["prefix"]), sizes=[1, 2, 1]
    )
    with adaptr.attach(case.model, tree):
        assert_close(case.output(), wanted)
        copied = copy.deepcopy(case.model)
    case.model = copied
    assert_close(case.output(), wanted)


def test_what_is_below_learns_through_blocks(case: Case, of: dict[str, Adapter]) -> None:
    below = shaken(adaptr.create(case.model, "lora", ["mlp.up"], r=2), 5)
    grads = []
    for row, name in enumerate(("houlsby", "ia3")):
        with adaptr.train(case.model, below) as session, adaptr.attach(case.model, of[name]):
            case.model(case.ids[row : row + 1]).logits.square().sum().backward()
            grads.append([p.grad.clone() for p in session.parameters() if p.grad is not None])
    with adaptr.train(case.model, below) as session, adaptr.attach(case.model, BatchSplit(of["houlsby"], of["ia3"])):
        case.model(case.ids[:2]).logits.square().sum().backward()
        for parameter, one, other in zip(session.parameters(), *grads, strict=True):
            assert parameter.grad is not None
            assert_close(parameter.grad, one + other)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (lambda of: BatchSplit(of["lora"], of["ia3"]), "wanted 4 rows, as many as there are"),
        (lambda of: Average(of["prefix"], of["lora"]), "`prefix` is at the site `attention`"),
        (lambda of: Average(of["lora"], of["ia3"], weights=[1, -1]), "whose sum is not 0"),
        (lambda of: BatchSplit(of["lora"], of["ia3"], sizes=[4]), "wanted 2 whole numbers"),
        (lambda of: Stack(of["lora"], of["lora"]), "in a Stack twice"),
        (lambda of: Split(Parallel(of["lora"]), sizes=[7]), "a Split holds no Parallel"),
        (lambda of: Stack(Average(of["lora"], None), BatchSplit(Stack(of["lora"]))), "in a Stack twice"),
        (lambda of: BatchSplit(), "of nothing"),
    ],
)
def test_what_has_no_meaning_is_refused(case: Case, of: dict[str, Adapter], block: Any, words: str) -> None:
    before = case.output()
    with pytest.raises(errors.AdaptrError, match=words):
        case.output(block(of))
    assert bits_equal(case.output(), before)


def test_what_all_rows_share_is_refused_beside_others_and_may_be_below_them(case: Case, of: dict[str, Adapter]) -> None:
    prompt = shaken(adaptr.create(case.model, "prompt", tokens=2))
    whole = adaptr.create(case.model, "lora", also=["norm"])
    with pytest.raises(errors.Unsupported, match="`prompt` is at the site `prompt` of `the model`"):
        adaptr.attach(case.model, BatchSplit(prompt, of["lora"], None, None))
    with pytest.raises(errors.Unsupported, match=r"norm\.weight` as a whole"):
        adaptr.attach(case.model, BatchSplit(whole, of["lora"], None, None))
    with adaptr.attach(case.model, Stack(prompt, BatchSplit(None, of["lora"], None, None))):
        found = case.output()
    assert_close(found[1], case.output(prompt, of["lora"])[1])
    assert_close(found[0], case.output(prompt)[0])


@pytest.mark.parametrize("name", ["unipelt", "mad-x", "adapter-fusion"])
def test_what_is_made_of_several_is_a_member_as_any_other(case: Case, of: dict[str, Adapter], name: str) -> None:
    children = None
    if name == "adapter-fusion":
        children = {one: shaken(adaptr.create(case.model, "pfeiffer", m=4), seed) for seed, one in enumerate("ab")}
    made = shaken(adaptr.create(case.model, name, children=children), 8)
    with adaptr.attach(case.model, BatchSplit(made, of["lora"], None, made)):
        found = case.output()
    for row, wanted in enumerate((case.output(made), case.output(of["lora"]), case.output(), case.output(made))):
        assert_close(found[row], wanted[row])
