"""A pool follows its base, and rows are for the forwards of those who gave them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import UsageError
from adaptr.testing import assert_close, shaken


def made(model: Any, method: str, seed: int = 1) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method), seed).replace(base=adaptr.Base())


def ids(rows: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, tiny.VOCAB, (rows, 6), generator=torch.Generator().manual_seed(seed))


def said(run: Callable[[torch.Tensor], Any], given: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = run(given).logits
    return logits


def attached(model: Any, adapter: adaptr.Adapter, given: torch.Tensor) -> torch.Tensor:
    with adaptr.attach(model, adapter):
        return said(model, given)


def _loaded(model: Any) -> None:
    model.load_state_dict(
        {k: v * 1.5 for k, v in model.state_dict().items() if k.endswith("proj.weight")}, strict=False
    )


def _written(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith("proj.weight"):
            parameter.data.mul_(1.5)


def _moved(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith("proj.weight"):
            parameter.data = parameter.data * 1.5


@pytest.mark.parametrize("method", ["dora", "lora", "ia3"])
@pytest.mark.parametrize("change", [_loaded, _written, _moved])
def test_rows_follow_the_base(change: Callable[[Any], None], method: str) -> None:
    model = tiny.model("llama")
    one, two, given = made(model, method), made(model, "lora", 2), ids(2)
    with adaptr.pool(model) as pool:
        pool.add("one", one)
        pool.add("two", two)
        said(lambda x: pool.forward(["one", "two"], x), given)
        change(model)
        both = said(lambda x: pool.forward(["one", "two"], x), given)
        swapped = said(lambda x: pool.forward(["two", "one"], x), given)
    assert_close(both[:1], attached(model, one, given[:1]))
    assert_close(both[1:], attached(model, two, given[1:]))
    assert_close(swapped[1:], attached(model, one, given[1:]))


def test_running_requests_follow_the_base() -> None:
    model = tiny.model("llama")
    dora = made(model, "dora")

    def requests() -> Any:
        yield adaptr.Request("dora", ids()[0].tolist(), max_new_tokens=2)
        _written(model)
        yield adaptr.Request("dora", ids()[0].tolist(), max_new_tokens=4)

    with adaptr.pool(model) as pool:
        pool.add("dora", dora)
        answers = [answer.tokens for answer in pool.generate(requests(), batch=1)]
    with adaptr.attach(model, dora):
        wanted = model.generate(ids(), attention_mask=torch.ones_like(ids()), max_new_tokens=4, do_sample=False)
    assert list(answers[1]) == wanted[0, 6:].tolist()


def test_what_no_row_was_made_of_costs_nothing_to_change() -> None:
    model = tiny.model("llama")
    with adaptr.pool(model) as pool:
        pool.add("lora", made(model, "lora"))
        said(lambda x: pool.forward(["lora"], x), ids())
        there = pool.residents.held[("lora", 1)]
        _written(model)
        said(lambda x: pool.forward(["lora"], x), ids())
        assert pool.residents.held[("lora", 1)] is there


# ---------------------------------------------------------------- threads and tasks


def elsewhere(run: Callable[[], Any]) -> Any:
    found: list[Any] = []

    def go() -> None:
        try:
            found.append(run())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    return found[0]


def test_threads_take_turns() -> None:
    model = tiny.model("llama")
    with adaptr.pool(model) as pool:
        for name in ("lora", "dora"):
            pool.add(name, made(model, name))
        given = {name: ids(2, i) for i, name in enumerate(("lora", "dora"))}
        wanted = {name: said(lambda x, n=name: pool.forward([n, None], x), x) for name, x in given.items()}
        wrong: list[str] = []

        def go(name: str) -> None:
            for _ in range(5):
                y = said(lambda x: pool.forward([name, None], x), given[name])
                if not torch.allclose(y, wanted[name], atol=1e-6):
                    wrong.append(name)

        threads = [threading.Thread(target=go, args=(name,)) for name in given for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_a_forward_of_another_thread_is_not_given_rows_of_this_one() -> None:
    model = tiny.model("llama")
    with adaptr.pool(model) as pool:
        pool.add("lora", made(model, "lora"))
        with pool.rows(["lora"]):
            wanted = said(model, ids())
            assert isinstance(elsewhere(lambda: said(model, ids())), UsageError)
            inside = contextvars.copy_context()
            assert torch.equal(elsewhere(lambda: inside.run(said, model, ids())), wanted)
        assert torch.equal(elsewhere(lambda: said(model, ids())), said(model, ids()))


def test_tasks_of_one_thread() -> None:
    model = tiny.model("llama")
    bare = said(model, ids())

    async def other(started: asyncio.Event) -> torch.Tensor:
        await started.wait()
        return said(model, ids())

    async def main() -> None:
        started = asyncio.Event()
        outside = asyncio.create_task(other(started))
        with adaptr.pool(model) as pool:
            pool.add("lora", made(model, "lora"))
            with pool.rows(["lora"]):
                wanted = said(model, ids())
                started.set()
                with pytest.raises(UsageError, match="another thread or task"):
                    await outside
                assert torch.equal(await asyncio.to_thread(said, model, ids()), wanted)
        assert torch.equal(said(model, ids()), bare)

    asyncio.run(main())


def test_what_was_gathered_in_inference_mode_serves_gradients_after_it() -> None:
    model = tiny.model("llama")
    with torch.inference_mode():
        pool = adaptr.pool(model)
        for name in ("dora", "ia3"):
            pool.add(name, made(model, name))
        wanted = pool.forward(["dora", "ia3"], ids(2)).logits
    x = model.get_input_embeddings()(ids(2)).detach().requires_grad_()
    with pool.rows(["dora", "ia3"]):
        found = model(inputs_embeds=x).logits
        found.sum().backward()
    assert_close(found.detach(), wanted)
    assert x.grad is not None
    pool.detach()
