"""What is wrong with one request of a pool is no matter of the others; and in which order answers come."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import Request
from adaptr.errors import AdapterTooLarge, InputError, NonFinite, UsageError
from adaptr.runtime.pool.running import Running
from adaptr.testing import shaken


def made(model: Any, method: str = "lora", seed: int = 1, targets: Any = None, **config: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, targets, **config), seed).replace(base=adaptr.Base())


def broken(model: Any, value: float) -> adaptr.Adapter:
    found = made(model)
    return found.replace(tensors={key: torch.full_like(t, value) for key, t in found.tensors.items()})


def asked(name: Any, count: int = 6, prompt: Any = (5, 6, 7), **more: Any) -> Request:
    return Request(name, prompt, count, **{"eos": [], **more})


@pytest.mark.parametrize("temperature", [0.0, 1.0, 1e-320])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_ends_its_own_row(value: float, temperature: float) -> None:
    model = tiny.model("llama")
    with adaptr.pool(model) as pool:
        pool.add("good", made(model))
        pool.add("bad", broken(model, value))
        good = [asked(name, temperature=temperature) for name in ("good", None)]
        wanted = [answer.tokens for answer in pool.answers(good)]
        bad = asked("bad", temperature=temperature)
        first, refused, second = pool.answers([good[0], bad, good[1]])
        assert [first.tokens, second.tokens] == wanted
        assert (refused.request, refused.tokens, refused.ended) == (bad, (), "failed")
        assert isinstance(refused.error, NonFinite)
        assert "`bad`" in str(refused.error)
        assert not pool.residents.pins


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_becomes_no_number_keeps_what_it_said(temperature: float) -> None:
    model = tiny.model("llama")
    with torch.no_grad():  # each token is followed by the next
        model.lm_head.weight.copy_(model.get_input_embeddings().weight.roll(1, 0) * 20)
    with adaptr.pool(model) as pool, torch.no_grad():
        said = next(pool.generate([asked(None, 8, temperature=temperature)])).tokens
        last = next(i for i, token in enumerate(said) if token not in (5, 6, 7, 9, *said[:i]))
        model.get_input_embeddings().weight[said[last]] = float("nan")
        found, other = pool.answers([asked(None, 8, temperature=temperature), asked(None, 1, [9])])
    assert (found.tokens, found.ended) == (said[: last + 1], "failed")
    assert isinstance(found.error, NonFinite)
    assert other.error is None


@pytest.mark.parametrize("kind", ["gpt2", "opt", "llama"])
def test_a_row_ends_with_the_last_position(kind: str) -> None:
    """The last token needs none: it is said and not read."""
    model = tiny.model(kind)
    long = [3 + i % 50 for i in range(60)]
    with adaptr.pool(model) as pool:
        pool.add("x", made(model, targets="attn.q" if kind == "opt" else None))
        alone = next(pool.generate([asked("x", 20)])).tokens
        found, other, just, none = pool.answers(
            [asked("x", 9, long), asked("x", 20), asked("x", 5, long), asked("x", 1, long + long)]
        )
    assert (len(found.tokens), found.ended, found.error) == (5, "positions", None)
    assert (other.tokens, other.ended) == (alone, "length")
    assert (just.tokens, just.ended) == (found.tokens, "length")
    assert none.ended == "refused"
    assert isinstance(none.error, InputError)
    assert "120 tokens" in str(none.error)
    assert "64" in str(none.error)


def test_a_model_without_positions_has_no_last_one() -> None:
    with adaptr.pool(tiny.model("bloom")) as pool:
        assert len(next(pool.generate([asked(None, 80)])).tokens) == 80


def test_positions_end_where_they_would_be_others_for_the_whole_batch() -> None:
    import transformers

    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    config = transformers.LlamaConfig(
        **{**tiny.GROUPED, "max_position_embeddings": 128},
        rope_parameters={**rope, "original_max_position_embeddings": 16},
    )
    assert Running(transformers.LlamaForCausalLM(config)).positions == 16


def test_an_adapter_at_a_layer_that_sees_no_rows_ends_its_own_row() -> None:
    """OPT's feed-forward gets all tokens of all rows in one axis."""
    model = tiny.model("opt")
    with adaptr.pool(model) as pool:
        pool.add("x", made(model, targets="attn.q"))
        pool.add("flat", made(model, targets="mlp.up"))
        wanted = [answer.tokens for answer in pool.answers([asked("x"), asked(None)])]
        first, refused, last = pool.answers([asked("x"), asked("flat"), asked(None)])
        assert not pool.residents.pins
    assert [first.tokens, last.tokens] == wanted
    assert isinstance(refused.error, UsageError)
    assert "fc1" in str(refused.error)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_an_adapter_that_never_fits_does_not_wait(method: str) -> None:
    model = tiny.model("llama")
    with adaptr.pool(model, memory=1 << 16) as pool:
        pool.add("x", made(model, r=2))
        pool.add("large", made(model, method, r=64))
        order = list(pool.generate([asked("x", 12, id=0), asked("large", id=1), asked("x", 2, id=2)], batch=2))
    assert [answer.request.id for answer in order] == [1, 2, 0]
    assert isinstance(order[0].error, AdapterTooLarge)


@pytest.mark.parametrize("temperature", [5e-324, 1e-320, 1e-300, 1e-40])
def test_temperatures_near_zero_take_the_likeliest(temperature: float) -> None:
    model = tiny.model("llama")
    with adaptr.pool(model) as pool:
        cold, likeliest = pool.answers([asked(None, 6, temperature=temperature), asked(None, 6)])
    assert (cold.tokens, cold.ended, cold.error) == (likeliest.tokens, "length", None)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"prompt": p} for p in (None, 5, {5: 6}, b"text", iter([5]), [2**70], [None], torch.empty(3, device="meta"))),
        *({"adapter": a} for a in (5, ["x"], b"x")),
        *({"max_new_tokens": n} for n in (None, 2.5, "3", True)),
        *({"temperature": t} for t in (None, "hot", 1j)),
        *({"top_p": p} for p in (None, "all", 1.5, float("nan"))),
        *({"seed": s} for s in (None, 1.5, "s")),
        *({"eos": e} for e in ("end", 2.0, [None], ["2"], True)),
    ],
    ids=lambda wrong: str(wrong).partition(" at 0x")[0],  # an address is another in each process
)
def test_bad_requests_are_refused_when_they_are_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Request(**{"adapter": None, "prompt": [5], **wrong})


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    import numpy as np

    ask = Request(None, np.array([5, 6]), np.int64(2), np.float32(0.5), seed=np.int32(1), eos=torch.tensor([2]))
    with adaptr.pool(tiny.model("llama")) as pool:
        assert next(pool.generate([ask])).error is None


@pytest.mark.parametrize("odd", [None, "text", {"prompt": [5]}, [5]])
def test_what_is_no_request_is_answered_as_one(odd: Any) -> None:
    with adaptr.pool(tiny.model("llama")) as pool:
        first, found, last = pool.answers([asked(None), odd, asked(None)])
    assert found.request is odd
    assert isinstance(found.error, UsageError)
    assert first.tokens == last.tokens != ()


@pytest.mark.parametrize("batch", [0, -1, 2.5, None, "2"])
def test_batches_of_no_rows_are_refused(batch: Any) -> None:
    with adaptr.pool(tiny.model("llama")) as pool, pytest.raises(UsageError):
        list(pool.generate([asked(None)], batch))


def test_an_adapter_that_can_not_be_made_again_ends_its_own_rows() -> None:
    """The base changes while a request runs with a version of DoRA that was replaced."""
    model = tiny.model("llama")

    def requests() -> Any:
        yield asked("dora", 9, id="dora")
        yield asked("x", 1, id="first")
        pool.update("dora", made(model, "dora", 2))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("proj.weight"):
                    parameter.mul_(1.5)
        yield asked("x", 9, id="x")

    with adaptr.pool(model) as pool:
        pool.add("dora", made(model, "dora"))
        pool.add("x", made(model))
        found = {answer.request.id: answer for answer in pool.generate(requests(), batch=2)}
        assert not pool.residents.pins
    assert isinstance(found["dora"].error, UsageError)
    assert found["dora"].ended == "failed"
    assert (len(found["x"].tokens), found["x"].ended) == (9, "length")


# ---------------------------------------------------------------- order


def test_answers_keep_the_order_and_generate_does_not() -> None:
    counts = [7, 1, 4, 2, 9, 1]
    with adaptr.pool(tiny.model("llama")) as pool:
        ask = [asked(None, count, id=i) for i, count in enumerate(counts)]
        done = [answer.request.id for answer in pool.generate(iter(ask), batch=3)]
        kept = list(pool.answers(iter(ask), batch=3))
    assert done != sorted(done) == list(range(6))
    assert [answer.request for answer in kept] == ask
    assert [len(answer.tokens) for answer in kept] == counts


def test_one_request_asked_twice_is_answered_twice() -> None:
    with adaptr.pool(tiny.model("llama")) as pool:
        ask = asked(None, 2)
        assert [answer.request is ask for answer in pool.answers([ask, asked(None, 1), ask])] == [True, False, True]


def test_answers_come_as_soon_as_the_earlier_ones_are_there() -> None:
    read: list[int] = []

    def requests() -> Any:
        for i in range(4):
            read.append(i)
            yield asked(None, 1, id=i)

    with adaptr.pool(tiny.model("llama")) as pool:
        found = pool.answers(requests(), batch=1)
        assert next(found).request.id == 0
        assert len(read) < 4
        found.close()  # type: ignore[attr-defined]
        assert not pool.residents.pins
