"""Requests that join and leave a running batch: each answer is that of its request alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import Request
from adaptr.errors import (
    FormatError,
    InputError,
    NoRoom,
    Unsupported,
    UsageError,
)
from adaptr.runtime.pool.live import Pool
from adaptr.testing import shaken
from runtime.pools import NAMES, adapters, alone, greedy, prompts


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bloom"])
def test_answers_are_those_of_each_request_alone(kind: str) -> None:
    model, plain = tiny.model(kind), tiny.model(kind)
    found = adapters(plain)
    requests = [
        Request(NAMES[i % len(NAMES)], prompt, max_new_tokens=1 + i * 5 % 7, id=i)
        for i, prompt in enumerate(prompts(16))
    ]
    with adaptr.pool(model, slots=4) as pool:
        for name, one in found.items():
            pool.add(name, one)
        answers = {answer.request.id: answer for answer in pool.generate(iter(requests), batch=5)}
        assert not pool.residents.pins
    assert sorted(answers) == list(range(16))
    for request in requests:
        wanted = greedy(plain, found.get(request.adapter or ""), list(request.prompt), request.max_new_tokens)
        assert list(answers[request.id].tokens) == wanted
        assert answers[request.id].ended == ("eos" if wanted[-1] == 2 else "length")


def test_drawn_tokens_follow_from_the_seed_alone(model: Any, made: dict[str, adaptr.Adapter]) -> None:
    def ask(seed: int, **more: Any) -> Request:
        return Request("dora", [5, 6, 7], 6, temperature=1.5, top_p=0.9, seed=seed, eos=[], **more)

    with adaptr.pool(model) as pool:
        pool.add("dora", made["dora"])
        (one,) = pool.generate([ask(1)])
        crowd = list(pool.generate([ask(seed, id=seed) for seed in range(4)], batch=3))
        (likeliest,) = pool.generate([Request("dora", [5, 6, 7], 6, temperature=1.0, top_p=1e-9, eos=[])])
        (plain,) = pool.generate([Request("dora", torch.tensor([5, 6, 7]), 6, eos=[])])
    assert {a.tokens for a in crowd if a.request.id == 1} == {one.tokens}
    assert len({a.tokens for a in crowd}) > 1
    assert likeliest.tokens == plain.tokens


def test_an_update_is_for_requests_that_join_after_it(model: Any, made: dict[str, adaptr.Adapter]) -> None:
    plain = tiny.model("llama")
    with adaptr.pool(model) as pool:
        pool.add("x", made["four"])
        first = Request("x", [5, 6], 8, eos=[], id=0)

        def arriving() -> Any:
            yield first
            yield Request("x", [7], 2, eos=[], id=1)
            pool.update("x", made["loha"])
            yield Request("x", [5, 6], 8, eos=[], id=2)

        answers = {a.request.id: a for a in pool.generate(arriving(), batch=2)}
    for i, (one, prompt, count) in enumerate([("four", [5, 6], 8), ("four", [7], 2), ("loha", [5, 6], 8)]):
        ids = list(prompt)
        for _ in range(count):
            ids.append(int(alone(plain, made[one], input_ids=torch.tensor([ids]))[0, -1].argmax()))
        assert list(answers[i].tokens) == ids[len(prompt) :]
    assert answers[2].version > answers[0].version


def test_requests_that_can_not_be_answered(model: Any) -> None:
    prompts: list[Any] = [[], [1.5], "text", ["a"], [[1, 2]], torch.ones(1, 3, dtype=torch.long), [True]]
    others = {"max_new_tokens": 0, "top_p": 0.0, "temperature": -1.0, "seed": 2**80}
    odd: list[dict[str, Any]] = [*({"prompt": p} for p in prompts), *({k: v} for k, v in others.items())]
    for wrong in (*odd, {"temperature": float("nan")}, {"temperature": float("inf")}):
        with pytest.raises(UsageError):
            Request(**{"adapter": None, "prompt": [1], **wrong})
    with adaptr.pool(model) as pool, pytest.raises(UsageError, match="batch of 0"):
        list(pool.generate([], batch=0))
    for kind in ("t5", "gemma2"):
        with adaptr.pool(tiny.model(kind)) as pool, pytest.raises(Unsupported):
            list(pool.generate([Request(None, [3])]))


def test_a_bad_request_has_its_error_as_the_answer(model: Any, made: dict[str, adaptr.Adapter], tmp_path: Path) -> None:
    """And the others answer as without it."""
    broken, large = tmp_path / "broken.safetensors", shaken(adaptr.create(model, "lora", r=64))
    adaptr.save(made["four"], broken)
    broken.write_bytes(broken.read_bytes()[:-1])
    good = [Request("x", [5, 6], 6, eos=[]), Request("y", [7], 3, eos=[])]
    with adaptr.pool(model, slots=2, memory=1 << 16) as pool:
        for name, source in {"x": made["four"], "y": made["loha"], "large": large}.items():
            pool.add(name, source)
        pool.add("broken", broken, look=False)
        wanted = [answer.tokens for answer in sorted(pool.generate(good), key=lambda a: -len(a.tokens))]
        bad = [
            (Request("nobody", [5]), UsageError, "no adapter `nobody`"),
            (Request("broken", [5]), FormatError, "the file"),
            (Request("x", [10**6]), InputError, "token 1000000"),
            (Request(None, [3, -1]), InputError, "token -1"),
            (Request("large", [5]), NoRoom, "no room for `large`"),
        ]
        asked = [bad[0][0], good[0], *(request for request, _, _ in bad[1:3]), good[1], *(r for r, _, _ in bad[3:])]
        answers = {id(answer.request): answer for answer in pool.generate(asked, batch=2)}
        assert [answers[id(request)].tokens for request in good] == wanted
        for request, kind, message in bad:
            refused = answers[id(request)]
            assert (refused.tokens, refused.ended) == ((), "refused")
            assert isinstance(refused.error, kind)
            assert message in str(refused.error)
        assert not pool.residents.pins


def test_what_waits_for_room_is_read_again_when_a_row_leaves(
    model: Any, made: dict[str, adaptr.Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[Any] = []
    real = Pool._fitted
    monkeypatch.setattr(Pool, "_fitted", lambda self, key: fitted.append(key) or real(self, key))
    with adaptr.pool(model, slots=1) as pool:
        for name in ("four", "loha"):
            pool.add(name, made[name])
        asked = [Request(name, [5], 8, eos=[], id=name) for name in ("four", "loha")]
        assert [answer.request.id for answer in pool.generate(asked)] == ["four", "loha"]
    assert len(fitted) == 3


def test_what_fails_to_join_holds_no_room(model: Any, made: dict[str, adaptr.Adapter]) -> None:
    def arriving() -> Any:
        yield Request("x", [5])
        raise KeyError("the caller's own")

    with adaptr.pool(model, slots=1) as pool:
        pool.add("x", made["four"])
        with pytest.raises(KeyError, match="own"):
            list(pool.generate(arriving()))
        assert not pool.residents.pins


def test_the_mode_of_the_caller_is_its_own(model: Any, made: dict[str, adaptr.Adapter]) -> None:
    """Between two answers gradients flow as before, also with two that take turns or one left half done."""
    other = tiny.model("llama")
    ask = [Request("x", [5, 6], count, eos=[], id=count) for count in (1, 3, 5)]
    with adaptr.pool(model) as one, adaptr.pool(other) as two:
        one.add("x", made["four"])
        two.add("x", made["four"])
        turns = one.generate(ask), two.generate(ask)
        for first, second in zip(*turns, strict=True):
            assert first.tokens == second.tokens
            assert not torch.is_inference_mode_enabled()
        half = one.generate(ask)
        next(half)
        assert not torch.is_inference_mode_enabled()
        half.close()
        assert not one.residents.pins


def test_a_short_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `make soak` runs for longer: arrivals, updates and evictions, every answer checked."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import soak

    seen = soak.soak(requests=40, adapters=24, batch=4, slots=6)
    assert seen["answers"] == 40
    assert seen["updates"]
    assert seen["evictions"]
