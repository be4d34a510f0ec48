"""LoReFT and its forms: the paper's formulas token by token, where tokens stand, generation, and what is finished."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import adaptr
import tiny
from adaptr.errors import Unsupported
from adaptr.testing import Driver, assert_close, count, logits, shaken
from adaptr_plugins.insert._reft import ends
from methods.blocks import BLOCKS
from tiny import inputs

METHODS = ["loreft", "noreft", "direft"]
PATH = "model.layers.1"
IDS = torch.arange(3, 9)[None]


def made(model: Any, method: str = "loreft", path: str = PATH, **config: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, [path], **{"r": 3, "first": 1, "last": 2, **config}))


def change(method: str, p: Any, h: Tensor, suffix: str) -> Tensor:
    """What the paper adds to one token h (d)."""
    if method == "direft":
        return p[f"W2{suffix}"].T @ (p[f"W1{suffix}"] @ h + p[f"b{suffix}"])
    R = p[f"R{suffix}"]
    R = torch.linalg.qr(R.T).Q.T if method == "loreft" else R
    return R.T @ (p[f"W{suffix}"] @ h + p[f"b{suffix}"] - R @ h)


def at_tokens(name: str, adapter: adaptr.Adapter, given: Any, first: list[int], last: list[int]) -> Tensor:
    """The formula at those tokens, by a hook on the bare model."""
    (path, target), model = next(iter(adapter.targets.items())), tiny.model(name)
    p, suffix = adapter.at(path), "" if target.config["share_weights"] else "_s"

    def hook(module: Any, args: Any, output: Any) -> Any:
        h = (output[0] if isinstance(output, tuple) else output).clone()
        for tokens, end in ((first, ""), (last, suffix)):
            for row in range(len(h)):
                for t in tokens:
                    h[row, t] += change(adapter.method, p, h[row, t].clone(), end)
        return (h, *output[1:]) if isinstance(output, tuple) else h

    model.get_submodule(path).register_forward_hook(hook)
    with torch.no_grad():
        return logits(model(**given))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_papers_formula_at_first_and_last_tokens(method: str, shared: bool) -> None:
    model = tiny.model("llama")
    adapter = made(model, method, share_weights=shared)
    wanted = at_tokens("llama", adapter, {"input_ids": IDS}, [0], [4, 5])
    with adaptr.attach(model, adapter), torch.no_grad():
        assert_close(logits(model(IDS)), wanted)
        for pad in ([0, 0], [1, 1]):  # padding on the left, then on the right
            padding = torch.zeros(1, 2, dtype=torch.long)
            ids = torch.cat([padding, IDS] if pad == [0, 0] else [IDS, padding], 1)
            found = logits(model(ids, attention_mask=(ids > 0).long()))
            assert_close(found[:, 2:] if pad == [0, 0] else found[:, :6], wanted)


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_every_architecture(name: str) -> None:
    model, given = tiny.model(name), inputs(name)
    adapter = made(model, path=BLOCKS[name])
    with adaptr.attach(model, adapter), torch.no_grad():
        found = logits(model(**given))
    length = {"vit": 5, "whisper": 16}.get(name, 7)
    assert_close(found, at_tokens(name, adapter, given, [0], [length - 2, length - 1]))


class Packed:
    """Two texts of four and three tokens in one row."""

    offset = 0
    has_tokens = True
    real = staticmethod(lambda: torch.ones(1, 7, dtype=torch.bool))
    positions = staticmethod(lambda: torch.tensor([[0, 1, 2, 3, 0, 1, 2]]))
    prompted = real


@pytest.mark.parametrize(
    ("first", "last", "wanted"), [(1, 1, "f..lf.l"), (2, 2, "ffllffl"), (0, 1, "...l..l"), (9, 9, "fffffff")]
)
def test_texts_that_are_packed_have_ends_of_their_own_and_no_token_is_both(first: int, last: int, wanted: str) -> None:
    found = ends(Packed(), torch.empty(1, 7, 2), first, last)  # type: ignore[arg-type]
    said = zip(found.first[0], found.last[0], strict=True)
    assert "".join("f" if front else "l" if end else "." for front, end in said) == wanted


def test_generated_text_is_no_prompt_and_a_prompt_is_one_call() -> None:
    model = tiny.model("llama")
    adapter = made(model)
    longer = torch.cat([IDS, IDS[:, :1]], 1)
    wanted = at_tokens("llama", adapter, {"input_ids": longer}, [0], [4, 5])[:, -1]
    with adaptr.attach(model, adapter), torch.no_grad():
        cache = model(IDS, use_cache=True).past_key_values
        assert_close(logits(model(IDS[:, :1], past_key_values=cache))[:, -1], wanted)
        with pytest.raises(Unsupported, match="give it in one call"):
            model(IDS, past_key_values=cache)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_generating_without_a_cache_is_generating_with_one(name: str, beams: int) -> None:
    model, ids = tiny.model(name), IDS.repeat(2, 1)
    ids[1, :2] = 0
    given = {"input_ids": ids, "attention_mask": (ids > 0).long(), "max_new_tokens": 4, "num_beams": beams}
    with adaptr.attach(model, made(model, path=BLOCKS[name], last=3)):
        wanted = model.generate(**given, do_sample=False, pad_token_id=0)
        assert torch.equal(model.generate(**given, do_sample=False, pad_token_id=0, use_cache=False), wanted)
    assert "generate" not in model.__dict__


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_finished_has_orthonormal_rows_and_does_the_same(shared: bool) -> None:
    model = tiny.model("llama").train()
    with adaptr.train(model, made(model, share_weights=shared)) as session:
        Driver(session, [{"input_ids": IDS}], 3, lambda output, batch: logits(output).square().mean()).fit()
        finished = session.finish()
        with torch.no_grad():
            wanted = logits(model(IDS))
    for name, R in finished.at(PATH).items():
        if name in {"R", "R_s"}:
            assert_close(R @ R.T, torch.eye(3))
    with adaptr.attach(model, finished), torch.no_grad():
        assert_close(logits(model(IDS)), wanted)


def test_two_sets_are_twice_the_numbers() -> None:
    model = tiny.model("llama")
    assert count(adaptr.create(model, "loreft", share_weights=False)) == 2 * count(adaptr.create(model, "loreft"))
