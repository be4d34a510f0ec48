"""Many adapters in one batch: each row is what it is alone."""

from __future__ import annotations

import copy
import gc
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adaptr
import tiny
from adaptr import Request
from adaptr.errors import (
    AlreadyAttached,
    ContentMismatch,
    FormatError,
    InputError,
    NoRoom,
    NotPossible,
    TargetNotFound,
    Unsupported,
    UsageError,
)
from adaptr.runtime.pool.live import Pool
from adaptr.runtime.pool.pages import Pages
from adaptr.testing import assert_close, bits_equal, logits, shaken

MIX = {
    "one": ("lora", {"r": 1}),
    "four": ("lora", {"r": 4, "rslora": True}),
    "nine": ("lora", {"r": 9, "bias": True}),
    "ada": ("adalora", {}),
    "loha": ("loha", {"r": 3}),
    "lokr": ("lokr", {}),
    "vera": ("vera", {"r": 8}),
    "dora": ("dora", {"r": 5}),
    "ia3": ("ia3", {}),
}
NAMES = [*MIX, "stack", None]
CLOSE = 1e-5


def adapters(model: Any, targets: Any = None) -> dict[str, adaptr.Adapter]:
    made = {
        name: shaken(adaptr.create(model, method, targets if method != "ia3" else None, seed=i, **config), i)
        for i, (name, (method, config)) in enumerate(MIX.items())
    }
    with adaptr.stack(model, {"a": (made["four"], 0.5), "b": (made["loha"], -1.5)}) as stack:
        made["stack"] = stack.adapted()
    return made


def alone(model: Any, adapter: adaptr.Adapter | None, **given: Any) -> torch.Tensor:
    """The output with one adapter attached, or none, in the usual way."""
    with torch.inference_mode():
        if adapter is None:
            return logits(model(**given)).clone()
        with adaptr.attach(model, adapter):
            return logits(model(**given)).clone()


@pytest.fixture
def model() -> Any:
    return tiny.model("llama")


@pytest.fixture
def made(model: Any) -> dict[str, adaptr.Adapter]:
    return adapters(model)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "bloom", "neox"])
def test_each_row_is_what_it_is_alone(kind: str) -> None:
    model = tiny.model(kind)
    found = adapters(model)
    ids = tiny.inputs(kind, batch=len(NAMES))["input_ids"]
    wanted = torch.cat([alone(model, found.get(n), input_ids=ids[i : i + 1]) for i, n in enumerate(NAMES)])
    assert len({tuple(row.flatten()[:5].tolist()) for row in wanted}) == len(NAMES)
    with adaptr.pool(model) as pool, torch.inference_mode():
        for name, one in found.items():
            pool.add(name, one)
        assert_close(logits(pool.forward(NAMES, ids)), wanted, CLOSE)


@settings(max_examples=8, deadline=None)
@given(names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_any_mix_in_any_order(names: list[str | None], seed: int) -> None:
    model = tiny.model("llama")
    found = adapters(model)
    ids = torch.randint(3, tiny.VOCAB, (len(names), 5), generator=torch.Generator().manual_seed(seed))
    wanted = torch.cat([alone(model, found.get(n), input_ids=ids[i : i + 1]) for i, n in enumerate(names)])
    with adaptr.pool(model) as pool, torch.inference_mode():
        for name, one in found.items():
            pool.add(name, one)
        assert_close(logits(pool.forward(names, ids)), wanted, CLOSE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_a_cache(model: Any, made: dict[str, adaptr.Adapter], side: str) -> None:
    """Rows of different lengths, whole and token by token behind a cache."""
    names, lengths = ["four", None, "dora", "ia3"], [3, 7, 5, 6]
    ids, mask = torch.full((4, 7), 3), torch.zeros((4, 7), dtype=torch.long)
    place = [slice(7 - n, 7) if side == "left" else slice(0, n) for n in lengths]
    rows = [torch.randint(3, tiny.VOCAB, (n,), generator=torch.Generator().manual_seed(n)) for n in lengths]
    for i, (at, row) in enumerate(zip(place, rows, strict=True)):
        ids[i, at], mask[i, at] = row, 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with adaptr.pool(model) as pool, torch.inference_mode():
        for name, one in made.items():
            pool.add(name, one)
        whole = pool.forward(names, input_ids=ids, attention_mask=mask, position_ids=positions).logits
        with pool.rows(names):
            past, steps = None, []
            for t in range(7):
                out = model(
                    input_ids=ids[:, t : t + 1],
                    attention_mask=mask[:, : t + 1],
                    position_ids=positions[:, t : t + 1],
                    past_key_values=past,
                    use_cache=True,
                )
                past = out.past_key_values
                steps.append(out.logits)
    for i, (name, at, row) in enumerate(zip(names, place, rows, strict=True)):
        wanted = alone(model, made.get(name or ""), input_ids=row[None])[0]
        assert_close(whole[i, at], wanted, CLOSE)
        assert_close(torch.cat(steps, 1)[i, at], wanted, CLOSE)


def test_a_base_in_half_precision_keeps_the_adapters_own(made: dict[str, adaptr.Adapter]) -> None:
    model = tiny.model("llama").to(torch.bfloat16)
    ids = tiny.inputs("llama")["input_ids"]
    one = made["four"].replace(base=adaptr.Base())
    with adaptr.pool(model) as pool, torch.inference_mode():
        pool.add("four", one)
        found = pool.forward(["four", None], ids).logits
    assert found.dtype is torch.bfloat16
    assert bits_equal(found[1], alone(model, None, input_ids=ids)[1])
    assert_close(found[0].float(), alone(model, one, input_ids=ids)[0].float(), 2e-2)


# ---------------------------------------------------------------- the host


def test_the_model_is_left_as_it_was(model: Any, made: dict[str, adaptr.Adapter]) -> None:
    ids = tiny.inputs("llama")["input_ids"]
    before, keys = alone(model, None, input_ids=ids), list(model.state_dict())
    types = [type(m) for m in model.modules()]
    with adaptr.pool(model) as pool:
        pool.add("dora", made["dora"])
        pool.forward(["dora", None], ids)
        assert list(model.state_dict()) == keys
        assert bits_equal(alone(model, None, input_ids=ids), before)  # outside `rows` it is the bare model
        twin = copy.deepcopy(model)
        with pool.rows(["dora", "dora"]):
            inside = copy.deepcopy(model)
        for other in (twin, inside):
            assert bits_equal(alone(other, None, input_ids=ids), before)
        with pytest.raises(UsageError, match="belongs to one model"):
            copy.deepcopy(pool)
    assert [type(m) for m in model.modules()] == types
    assert bits_equal(alone(model, None, input_ids=ids), before)
    pool.detach()
    with pytest.raises(UsageError, match="was detached"), pool.rows([None]):
        pass


def test_two_pools(model: Any, made: dict[str, adaptr.Adapter]) -> None:
    ids, other = tiny.inputs("llama")["input_ids"], tiny.model("llama")
    with adaptr.pool(model) as one, adaptr.pool(other) as two, torch.inference_mode():
        with pytest.raises(AlreadyAttached, match="a pool on this model"):
            adaptr.pool(model)
        one.add("x", made["four"])
        two.add("x", made["loha"])
        with one.rows(["x", None]), two.rows([None, "x"]):
            first, second = model(ids).logits, other(ids).logits
    assert_close(first[0], alone(model, made["four"], input_ids=ids)[0], CLOSE)
    assert_close(second[1], alone(other, made["loha"], input_ids=ids)[1], CLOSE)
    adaptr.pool(model).detach()
    with adaptr.attach(model, made["four"]), pytest.raises(AlreadyAttached, match="under all rows"):
        adaptr.pool(model)
    with adaptr.pool(model) as pool:
        with adaptr.attach(model, made["four"]), pytest.raises(AlreadyAttached, match="under all rows"):
            pool.forward([None, None], ids)
        pool.forward([None, None], ids)


def test_a_pool_does_not_keep_its_model_alive() -> None:
    import weakref

    model = tiny.model("llama")
    ref = weakref.ref(model)
    pool = adaptr.pool(model)
    del pool, model
    gc.collect()
    assert ref() is None


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("method", ["oft", "houlsby", "parallel", "prefix", "prompt", "mam"])
def test_what_can_not_be_a_row_is_refused_when_it_is_added(model: Any, method: str) -> None:
    one = adaptr.create(model, method)
    with adaptr.pool(model) as pool:
        with pytest.raises(Unsupported, match=r"can't be one row of a batch|kind `"):
            pool.add("x", one)
        assert "x" not in pool


@pytest.mark.parametrize("method", ["shira", "full"])
def test_a_delta_of_no_low_rank_is_refused(model: Any, method: str) -> None:
    with adaptr.pool(model) as pool:
        pool.add("x", shaken(adaptr.create(model, method)))
        with pytest.raises(NotPossible, match="rank"):
            pool.forward(["x"], tiny.inputs("llama", 1)["input_ids"])
        assert not pool.resident


def test_other_refusals(model: Any, made: dict[str, adaptr.Adapter]) -> None:
    ids = tiny.inputs("llama", 3)["input_ids"]
    four = made["four"]
    whole = four.replace(tensors={**four.tensors, "model.norm.weight:=": torch.ones(tiny.WIDTH)})
    moved = four.replace(base=adaptr.Base(content="sha256:" + "0" * 64))
    with adaptr.pool(model) as pool:
        with pytest.raises(Unsupported, match=r"replaces `model.norm.weight` as a whole"):
            pool.add("whole", whole)
        with pytest.raises(Unsupported, match="kind `embedding`"):
            pool.add("table", adaptr.create(model, "lora", "embed"))
        with pytest.raises(TargetNotFound):
            pool.add("gpt2", adaptr.create(tiny.model("gpt2"), "lora"))
        pool.add("moved", moved)
        with pytest.raises(ContentMismatch):
            pool.forward(["moved"], ids[:1])
        pool.add("four", four)
        with pytest.raises(UsageError, match="called `four` already"):
            pool.add("four", four)
        with pytest.raises(UsageError, match=r"no adapter `fuor`; did you mean `four`"):
            pool.forward(["fuor"], ids)
        with pytest.raises(UsageError, match=r"wanted \(2, tokens, features\)"):
            pool.forward(["four", None], ids)
        with pytest.raises(UsageError, match="another batch"), pool.rows(["four"]), pool.rows([None]):
            pass
        for call in (lambda: pool.update("fuor"), lambda: pool.remove("fuor")):
            with pytest.raises(UsageError, match="no adapter `fuor`"):
                call()
    with pytest.raises(UsageError, match="holds nothing"):
        adaptr.pool(model, slots=0)


def test_a_layer_that_does_not_see_rows_is_an_error() -> None:
    """OPT's feed-forward gets the tokens of all rows as one list."""
    model = tiny.model("opt")
    with adaptr.pool(model) as pool:
        pool.add("x", adaptr.create(model, "lora", "mlp.up"))
        with pytest.raises(UsageError, match=r"shape \(14, 32\), wanted \(2, tokens, features\)"):
            pool.forward(["x", None], tiny.inputs("opt")["input_ids"])


# ---------------------------------------------------------------- the device's budget


def test_eviction_goes_by_last_use_and_a_batch_too_large_is_an_error(model: Any) -> None:
    ids = tiny.inputs("llama", 3)["input_ids"]
    found = {f"a{i}": shaken(adaptr.create(model, "lora", r=i + 1, seed=i), i) for i in range(6)}
    with adaptr.pool(model, slots=3) as pool, torch.inference_mode():
        for name, one in found.items():
            pool.add(name, one)
        for names in (["a0", "a1", "a2"], ["a0", "a3", "a0"], ["a4", "a0", "a5"], ["a1", "a2", "a3"]):
            out = pool.forward(names, ids).logits
            for i, name in enumerate(names):
                assert_close(out[i], alone(tiny.model("llama"), found[name], input_ids=ids[i : i + 1])[0], CLOSE)
        assert pool.resident == ("a1", "a2", "a3")
        pool.prefetch(["a4", "a5"])
        assert pool.resident == ("a3", "a4", "a5")
        with pytest.raises(UsageError, match=r"no room for `a\d` .* the pool holds 3"):
            pool.forward(["a0", "a1", "a2", "a3"], tiny.inputs("llama", 4)["input_ids"])
    with adaptr.pool(model, memory=1 << 14) as pool:
        pool.add("a5", found["a5"])
        with pytest.raises(UsageError, match="more `slots` or `memory`"):
            pool.forward(["a5"], ids[:1])


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_pages_come_back(data: st.DataObject) -> None:
    """Runs of pages never overlap, and all of them are found again."""
    pages = Pages(40, 8, torch.float32, torch.device("cpu"))
    held: list[tuple[Any, torch.Tensor]] = []
    for _ in range(data.draw(st.integers(1, 20))):
        if held and data.draw(st.booleans()):
            run, wanted = held.pop(data.draw(st.integers(0, len(held) - 1)))
            into = pages.matrices(1, 3, 20)[0]
            pages.read(run, into)
            assert bits_equal(into[:2, :20], wanted)
            assert not into[2].any()
            pages.give(run)
        elif pages.free >= 6:
            run, wanted = pages.take(6), torch.rand(2, 20)
            pages.write(run, wanted)
            held.append((run, wanted))
        used = [int(i) for run, _ in held for i in run]
        assert len(set(used)) == len(used)
        assert pages.free == 40 - len(used)


# ---------------------------------------------------------------- files


def test_names_in_the_store_are_adapters_here_too(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adaptr.artifacts import handling

    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    adapter, file = shaken(adaptr.create(model, "lora", ["attn.q"], r=2)), tmp_path / "a.safetensors"
    adaptr.save(adapter, file)
    handling.tag(str(file), "style:1")
    ids = torch.arange(3, 9)[None]
    with adaptr.pool(model) as pool:
        pool.add("style", "style:1")
        alone = logits(pool.forward(["style"], ids))
    with adaptr.attach(model, adapter), torch.no_grad():
        assert_close(alone, logits(model(ids)))


def test_what_was_not_looked_at_is_refused_before_its_batch_runs(model: Any, tmp_path: Path) -> None:
    good, bad, odd = (tmp_path / f"{name}.safetensors" for name in ("good", "bad", "odd"))
    adaptr.save(shaken(adaptr.create(model, "lora", ["attn.q"], r=2)), good)
    adaptr.save(adaptr.create(model, "houlsby"), odd)
    bad.write_bytes(good.read_bytes()[:-4])
    ids = torch.arange(3, 9)[None]
    with adaptr.pool(model) as pool:
        for path in (good, bad, odd):
            pool.add(path.stem, path, look=False)
        with pytest.raises(InputError, match="there is nothing at"):
            pool.add("gone", tmp_path / "gone.safetensors", look=False)
        for name, error in (("bad", FormatError), ("odd", NotPossible)):
            with pytest.raises(error):
                pool.forward([name], ids)
        alone = logits(pool.forward(["good"], ids))
    with adaptr.attach(model, adaptr.load(good)), torch.no_grad():
        assert_close(alone, logits(model(ids)))


def test_files_in_every_format_and_their_updates(model: Any, made: dict[str, adaptr.Adapter], tmp_path: Path) -> None:
    ids = tiny.inputs("llama")["input_ids"]
    own, peft = tmp_path / "own.safetensors", tmp_path / "peft"
    adaptr.save(made["four"], own)
    adaptr.convert(own, peft, to="peft")
    with adaptr.pool(model) as pool, torch.inference_mode():
        pool.add("own", own)
        pool.add("peft", str(peft))
        found = pool.forward(["own", "peft"], ids).logits
        assert_close(found, alone(tiny.model("llama"), made["four"], input_ids=ids), CLOSE)
        adaptr.save(made["loha"], own, force=True)
        again = pool.forward(["own", "peft"], ids).logits
        assert_close(again[0], alone(tiny.model("llama"), made["loha"], input_ids=ids)[0], CLOSE)
        assert bits_equal(again[1], found[1])
        pool.update("peft", made["one"])
        assert_close(
            pool.forward([None, "peft"], ids).logits[1],
            alone(tiny.model("llama"), made["one"], input_ids=ids)[1],
            CLOSE,
        )
        os.unlink(own)
        with pytest.raises(adaptr.errors.InputError):
            pool.forward(["own", None], ids)
        pool.remove("own")
        assert list(pool) == ["peft"]
        assert len(pool) == 1


# ---------------------------------------------------------------- generation


def greedy(model: Any, adapter: adaptr.Adapter | None, prompt: list[int], count: int) -> list[int]:
    """Token by token without a cache."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(alone(model, adapter, input_ids=torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == 2:
            break
    return ids[len(prompt) :]


def prompts(count: int) -> list[list[int]]:
    draws = torch.Generator().manual_seed(5)
    lengths = torch.randint(1, 9, (count,), generator=draws).tolist()
    return [torch.randint(3, tiny.VOCAB, (n,), generator=draws).tolist() for n in lengths]


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
