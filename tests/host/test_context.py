"""What a forward knows: padding, caches, threads, recomputation, copies, traces. `tests/knowing.py` has the methods."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import adaptr
import tiny
from adaptr import errors
from adaptr.host import entrance
from adaptr.host.context import Context
from adaptr.testing import assert_close, shaken
from knowing import knowing  # noqa: F401

pytestmark = pytest.mark.usefixtures("knowing")
TEXT = [[5, 7, 4, 9, 3, 11], [8, 6, 7, 12]]


def padded(left: bool = True) -> dict[str, torch.Tensor]:
    """Two texts, one shorter."""
    longest = max(map(len, TEXT))
    ids, mask = torch.zeros(2, longest, dtype=torch.long), torch.zeros(2, longest, dtype=torch.long)
    for i, text in enumerate(TEXT):
        at = slice(longest - len(text), None) if left else slice(len(text))
        ids[i, at], mask[i, at] = torch.tensor(text), 1
    return {"input_ids": ids, "attention_mask": mask}


def alone(i: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([TEXT[i]])}


def said(model: Any, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(**inputs).logits
    return logits


def elsewhere(run: Callable[[], Any]) -> Any:
    """What `run` gives in another thread, or its error here."""
    found: list[Any] = []

    def go() -> None:
        try:
            found.append((run(), None))
        except Exception as error:
            found.append((None, error))

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if found[0][1] is not None:
        raise found[0][1]
    return found[0][0]


def fresh(model: Any, method: str, **more: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, **more), 2, by=0.5)


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize("left", [True, False], ids=["left", "right"])
def test_padding_is_no_text(left: bool) -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, fresh(model, "ends")):
        both, inputs = said(model, padded(left)), padded(left)
        for i, text in enumerate(TEXT):
            real = both[i][inputs["attention_mask"][i].bool()]
            assert_close(real, said(model, alone(i))[0])
            assert len(real) == len(text)


@pytest.mark.parametrize("method", ["ends", "word", "rung"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("options", [{}, {"cache_implementation": "static", "disable_compile": True}, {"num_beams": 2}])
def test_generating_from_a_padded_batch_is_generating_from_each_alone(
    kind: str, method: str, options: dict[str, Any]
) -> None:
    model = tiny.model(kind)
    with adaptr.attach(model, fresh(model, method)):
        more = {"max_new_tokens": 4, "do_sample": False, **options}
        if kind == "gpt2" and "cache_implementation" in options:
            more.pop("disable_compile")
        both = model.generate(**padded(), **more)
        for i in range(2):
            assert torch.equal(both[i, -4:], model.generate(**alone(i), **more)[0, -4:])


def test_sliding_windows_know_their_prompt_too() -> None:
    model = tiny.model("mistral")
    model.config.sliding_window = 3
    with adaptr.attach(model, fresh(model, "ends")):
        more = {"max_new_tokens": 4, "do_sample": False}
        both = model.generate(**padded(), **more)
        static = model.generate(**padded(), **more, cache_implementation="static", disable_compile=True)
        assert torch.equal(both[1, -4:], model.generate(**alone(1), **more)[0, -4:])
        assert torch.equal(static, both)


def test_what_is_left_on_a_cache_is_found_by_the_next_call_over_it() -> None:
    model = tiny.model("llama")
    ids = alone(0)["input_ids"]
    with adaptr.attach(model, fresh(model, "word")), torch.no_grad():
        whole = model(input_ids=ids).logits
        first = model(input_ids=ids[:, :3])  # the word is in here
        then = model(input_ids=ids[:, 3:], past_key_values=first.past_key_values)
        other = model(input_ids=ids[:, 3:]).logits
    assert_close(then.logits, whole[:, 3:])
    assert not torch.allclose(other, whole[:, 3:], atol=1e-3)


def test_a_cache_that_was_emptied_carries_nothing() -> None:
    from transformers import StaticCache

    model = tiny.model("llama")
    cache = StaticCache(config=model.config, max_cache_len=16)
    without = {"input_ids": torch.tensor([[5, 6, 4]])}
    with adaptr.attach(model, fresh(model, "word")):
        wanted = said(model, without)
        said(model, {**alone(0), "past_key_values": cache})
        cache.reset()
        assert_close(said(model, {**without, "past_key_values": cache}), wanted)


def test_positions_are_those_given_or_those_without_padding() -> None:
    model, found = tiny.model("llama"), []
    with adaptr.attach(model, fresh(model, "ends")) as handle:
        hook = model.model.layers[0].register_forward_hook(lambda *_: found.append(handle.entrance.now().positions()))
        said(model, padded())
        said(model, {"input_ids": torch.ones(1, 3, dtype=torch.long), "position_ids": torch.tensor([[0, 1, 0]])})
        hook.remove()
    assert found[0].tolist() == [[0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 2, 3]]
    assert found[1].tolist() == [[0, 1, 0]]


# ---------------------------------------------------------------- stacks


@pytest.mark.parametrize("method", ["ends", "word"])
def test_both_stacks_of_t5_know_their_own_text(method: str) -> None:
    model = tiny.model("t5")
    inputs = {"decoder_input_ids": torch.tensor([[0, 9, 7, 4, 5, 6]])}
    with adaptr.attach(model, fresh(model, method)):
        together = said(model, {**alone(0), **inputs})
        states = model.encoder(**alone(0)).last_hidden_state
        hidden = model.decoder(input_ids=inputs["decoder_input_ids"], encoder_hidden_states=states)[0]
        scale = model.model_dim**-0.5 if model.config.tie_word_embeddings else 1.0
        assert_close(model.lm_head(hidden * scale).detach(), together)
        assert not torch.equal(together, said(tiny.model("t5"), {**alone(0), **inputs}))


def test_t5_generates_as_it_does_without_a_cache() -> None:
    model = tiny.model("t5")
    with adaptr.attach(model, fresh(model, "word")):
        more = {"max_new_tokens": 5, "do_sample": False}
        assert torch.equal(model.generate(**alone(0), **more), model.generate(**alone(0), **more, use_cache=False))


def test_two_adapters_at_once_know_the_same_forward_and_pay_for_it_once() -> None:
    model = tiny.model("llama")
    before = len(model._forward_pre_hooks)
    one, two = fresh(model, "ends"), fresh(model, "rung")
    with adaptr.attach(model, one) as handle, adaptr.attach(model, two) as other:
        assert handle.entrance is other.entrance
        assert len(model._forward_pre_hooks) == before + 1
        both, both_alone = said(model, padded()), said(model, alone(1))
        assert_close(both[1, 2:], both_alone[0])
        other.detach()
        assert_close(said(model, padded())[1, 2:], said(model, alone(1))[0])
    assert len(model._forward_pre_hooks) == before


def test_expert_stacks_beside_one_that_asks() -> None:
    model = tiny.model("mixtral")
    lora = shaken(adaptr.create(model, "lora", ["*experts*"], r=2))
    with adaptr.attach(model, lora), adaptr.attach(model, fresh(model, "ends")):
        assert_close(said(model, padded())[1, 2:], said(model, alone(1))[0])


def test_a_gate_and_one_that_taps_are_what_they_are_apart() -> None:
    """The gate's pass of the base runs the blocks before they run."""
    model = tiny.model("llama")
    children = {n: shaken(adaptr.create(model, "lora", r=4, seed=i), i) for i, n in enumerate("ab")}
    gate = shaken(adaptr.create(model, "xlora", children=children, dropout=0.0), 3, by=2.0)
    with adaptr.attach(model, fresh(model, "rung")), adaptr.attach(model, gate):
        with_gate = said(model, alone(0))
        assert_close(said(copy.deepcopy(model).double(), alone(0)).float(), with_gate, to=1e-4)
        assert_close(said(model, padded())[0], with_gate[0], to=1e-4)


@pytest.mark.parametrize("recompute", [False, True])
def test_each_row_of_a_batch_may_have_a_strength_of_its_own(recompute: bool) -> None:
    model, strengths = tiny.model("llama"), [0.0, 0.7]
    inputs = {"input_ids": torch.tensor([[5, 7, 4], [8, 6, 7]]), "use_cache": False}
    with adaptr.attach(model, fresh(model, "rung")) as handle:
        wanted = []
        for i, strength in enumerate(strengths):
            handle.weight = strength
            wanted.append(said(model, inputs)[i])
        handle.weight = 1.0
        plain = said(model, inputs)
        if recompute:
            model.train()
            model.activation_checkpointing_enable({"use_reentrant": False})
        embeds = model.get_input_embeddings()(inputs["input_ids"]).detach().requires_grad_()
        with handle.rows(strengths):
            found = model(inputs_embeds=embeds, use_cache=False).logits
            assert torch.equal(elsewhere(lambda: said(model, inputs)), plain)
        elsewhere(lambda: found.square().sum().backward() or True)
        assert_close(found.detach(), torch.stack(wanted))
        assert torch.equal(said(model, inputs), plain)


def test_strengths_of_rows_are_refused_where_they_would_do_nothing() -> None:
    model = tiny.model("llama")
    lora = shaken(adaptr.create(model, "lora"))
    with (
        adaptr.attach(model, lora) as handle,
        pytest.raises(errors.Unsupported, match="one strength for all rows"),
        handle.rows([1.0]),
    ):
        pass
    with (
        adaptr.attach(model, fresh(model, "ends")) as handle,
        handle.rows([1.0, 0.5]),
        pytest.raises(errors.UsageError, match=r"for \(2,\) rows, and the batch has 1"),
    ):
        said(model, alone(0))


# ---------------------------------------------------------------- refusals


def test_a_layer_called_past_its_model_is_refused_by_name() -> None:
    model = tiny.model("llama")
    with (
        adaptr.attach(model, fresh(model, "ends")),
        pytest.raises(errors.MissingContext, match=r"`ends` at `model\.layers\.0\.mlp`.*came past it"),
    ):
        model.model.layers[0].mlp(torch.zeros(1, 2, 32))


def test_a_method_that_does_not_say_that_it_asks_is_refused() -> None:
    model = tiny.model("llama")
    with (
        adaptr.attach(model, fresh(model, "forgetful")),
        pytest.raises(errors.MissingContext, match="without `context = True`"),
    ):
        said(model, alone(0))


def test_a_mount_says_whether_it_asks_and_nobody_pays_where_none_does() -> None:
    model = tiny.model("llama")
    bare = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
    with adaptr.attach(model, fresh(model, "some", first=0, last=0)) as handle:
        assert handle.entrance is None
        assert sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()) == bare
        said(model, alone(0))
        with pytest.raises(errors.Unsupported, match="one strength for all rows"), handle.rows([1.0]):
            pass
    first = "model.layers.0.mlp"
    ends, some = fresh(model, "ends"), fresh(model, "some", overrides={first: {"first": 0, "last": 0}})
    with adaptr.attach(model, some.replace(tensors=ends.tensors)) as handle:
        assert [path for path, state in handle.states.items() if state.entrance is None] == [first]
        said(model, padded())


def test_what_is_fused_may_ask() -> None:
    model = tiny.model("llama")
    part = fresh(model, "branched")
    with adaptr.attach(model, part):
        wanted = said(model, padded())
    with adaptr.attach(model, adaptr.create(model, "summed", children={"a": part})) as handle:
        assert_close(said(model, padded()), wanted)
    assert handle.entrance is not None
    assert not model.__dict__.get(entrance.SLOT)


def test_ids_are_refused_where_there_are_none() -> None:
    model = tiny.model("llama")
    embeds = model.get_input_embeddings()(alone(0)["input_ids"]).detach()
    with (
        adaptr.attach(model, fresh(model, "word")),
        pytest.raises(errors.MissingContext, match="knows no ids of tokens: the call gave none"),
    ):
        said(model, {"inputs_embeds": embeds})


def test_a_forward_that_fails_leaves_no_context() -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, fresh(model, "ends")) as handle:
        with pytest.raises(IndexError):
            said(model, {"input_ids": torch.tensor([[999]])})
        assert handle.entrance is not None
        assert handle.entrance.now() is None


@pytest.mark.parametrize("method", ["lora", "parallel"])
def test_nobody_else_pays(method: str) -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, adaptr.create(model, method)):
        assert entrance.SLOT not in model.__dict__
        assert not any(m._forward_pre_hooks for m in (model, model.model))


def test_detaching_leaves_nothing() -> None:
    model = tiny.model("llama").train()
    model.activation_checkpointing_enable({"use_reentrant": False})
    kept = [(type(m), sorted(m.__dict__), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    functions = [m.__dict__.get("_gradient_checkpointing_func") for m in model.modules()]
    with adaptr.train(model, fresh(model, "routed")):
        model(**alone(0), use_cache=False).logits.sum().backward()
    assert functions == [m.__dict__.get("_gradient_checkpointing_func") for m in model.modules()]
    assert kept == [
        (type(m), sorted(m.__dict__), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()
    ]


# ---------------------------------------------------------------- threads and recomputation


@pytest.mark.parametrize("method", ["ends", "word", "rung"])
def test_a_forward_in_another_thread_leaves_the_one_under_way_alone(method: str) -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, fresh(model, method)):
        wanted, other, seen = said(model, padded()), said(model, alone(1)), []

        def between(*_: object) -> None:
            if not seen:
                seen.append(None)
                seen[0] = elsewhere(lambda: said(model, alone(1)))

        hook = model.model.layers[1].register_forward_pre_hook(between)
        assert torch.equal(said(model, padded()), wanted)
        hook.remove()
        assert torch.equal(seen[0], other)


def gradients(model: Any, adapter: adaptr.Adapter, apart: bool = False) -> dict[str, torch.Tensor]:
    """Of a session after a loss over two forwards, the backward pass here or in another thread."""
    with adaptr.train(model, adapter) as session:
        forwards = [model(**inputs, use_cache=False).logits for inputs in (alone(0), alone(1))]
        loss = forwards[0].square().mean() + 3 * forwards[1].square().mean()
        (elsewhere if apart else lambda run: run())(loss.backward)
        states = session.states.items()
        return {f"{path}:{n}": state[n].grad.clone() for path, state in states for n in state.learning}


@pytest.mark.parametrize(
    ("method", "reentrant"), [(m, on) for m in ("ends", "routed", "word") for on in (False, True)] + [("rung", False)]
)
@pytest.mark.parametrize("apart", [False, True], ids=["here", "elsewhere"])
def test_recomputed_blocks_find_their_forward(method: str, reentrant: bool, apart: bool) -> None:
    adapter = fresh(tiny.model("llama"), method)
    wanted = gradients(tiny.model("llama").train(), adapter)
    model = tiny.model("llama").train()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    found = gradients(model, adapter, apart)
    assert wanted.keys() == found.keys()
    for key, one in wanted.items():
        assert float(one.abs().max()) > 0
        assert_close(found[key], one)


def test_taps_under_reentrant_checkpointing_are_refused() -> None:
    model = tiny.model("llama").train()
    model.activation_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    with (
        adaptr.train(model, fresh(model, "rung")),
        pytest.raises(errors.Unsupported, match=r"has no graph.*use_reentrant"),
    ):
        model(**alone(0), use_cache=False)


def test_checkpointing_of_ones_own_says_how_or_is_refused() -> None:
    adapter = fresh(tiny.model("llama"), "routed")
    wanted = gradients(tiny.model("llama").train(), adapter)
    for more in ({"context_fn": adaptr.checkpointing}, {}):
        model = tiny.model("llama").train()
        for layer in model.model.layers:
            layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False, **more)
        if more:
            found = gradients(model, adapter, apart=True)
            for key, one in wanted.items():
                assert_close(found[key], one)
        else:
            with pytest.raises(errors.MissingContext, match=r"context_fn=adaptr\.checkpointing"):
                gradients(model, adapter, apart=True)


# ---------------------------------------------------------------- draws


def drawn(model: Any, session: Any, inputs: Any) -> tuple[int, ...]:
    """What the places of one forward draw."""
    found: list[int] = []
    state = next(iter(session.states.values()))
    hook = model.model.layers[1].register_forward_hook(
        lambda *_: found.extend(int(s.draw(1000)) for s in session.states.values())
    )
    try:
        model(**inputs, use_cache=False)
    finally:
        hook.remove()
    assert state.training
    return tuple(found)


def test_draws_are_of_the_forward_and_the_place() -> None:
    model = tiny.model("llama").train()
    with adaptr.train(model, fresh(model, "routed")) as session:
        found = [drawn(model, session, alone(0)) for _ in range(20)]
        assert session.draws.number == 20
    assert len(set(found)) == 20
    assert all(one != two for one, two in found)
    with adaptr.train(model, fresh(model, "routed")) as again:
        assert [drawn(model, again, alone(0)) for _ in range(20)] == found
    with adaptr.train(model, fresh(model, "routed")) as other:
        other.draws.seed = 1
        assert drawn(model, other, alone(0)) != found[0]


def test_draws_are_spread_evenly() -> None:
    from adaptr.host.draws import hashed, place_of

    for stream in (0, 1):
        found = torch.stack([hashed(torch.arange(1, 2001), 0, place_of(f"layers.{i}"), stream) % 4 for i in range(4)])
        counts = torch.stack([(found == k).sum(1) for k in range(4)])
        assert int((counts - 500).abs().max()) < 80
        pairs = (found[0] * 4 + found[1]).bincount(minlength=16)
        assert int((pairs - 125).abs().max()) < 50


def test_evaluating_changes_no_draw_and_draws_nothing() -> None:
    model = tiny.model("llama")
    with adaptr.train(model, fresh(model, "routed")) as session:
        model.eval()
        said(model, alone(0))
        assert session.draws.number == 0
        asking = next(iter(session.states.values()))
        hook = model.model.layers[0].register_forward_hook(lambda *_: asking.draw(5))
        with pytest.raises(errors.MissingContext, match="not in training"):
            said(model, alone(0))
        hook.remove()


def test_forwards_in_training_in_many_threads_have_numbers_of_their_own() -> None:
    model, seen = tiny.model("llama").train(), []
    with adaptr.train(model, fresh(model, "routed")) as session:
        numbers = session.draws
        hook = model.model.layers[0].register_forward_hook(
            lambda *_: seen.append(int(session.entrance.now()._numbers[numbers]))
        )

        def run() -> None:
            for _ in range(10):
                model(**alone(0), use_cache=False).logits.square().mean().backward()

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        hook.remove()
    assert sorted(seen) == list(range(1, 41))


# ---------------------------------------------------------------- copies and traces


@pytest.mark.parametrize("method", ["ends", "rung", "routed"])
def test_copies_and_pickles_know_their_own_forwards(method: str) -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, fresh(model, method)) as handle:
        wanted = said(model, padded())
        twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        for twin in twins:
            assert torch.equal(said(twin, padded()), wanted)
            assert twin.__dict__[entrance.SLOT] is not handle.entrance
        twins[0].train()
        twins[0](**alone(0))
        assert handle.draws.number == 0


@pytest.mark.parametrize("method", ["ends", "rung"])
def test_autocast_changes_no_context(method: str) -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, fresh(model, method)):
        wanted = said(model, padded())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = said(model, padded())
    assert_close(found.float(), wanted, to=0.1)


@pytest.mark.parametrize("method", ["ends", "word", "rung", "routed"])
def test_it_compiles_without_a_break_and_once_for_all_forwards(method: str) -> None:
    model = tiny.model("llama")
    if method == "routed":
        model.train()
    adapter, inputs = fresh(model, method), padded()
    with adaptr.train(model, adapter) as session:
        wanted = [said(model, inputs) for _ in range(4)]
        session.draws.number = 0
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        for one in wanted:
            assert_close(said(compiled, inputs), one)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
        elsewhere(lambda: said(compiled, inputs))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3


@pytest.mark.parametrize("method", ["ends", "routed"])
def test_a_trace_of_checkpointed_blocks_is_what_they_are(method: str) -> None:
    """By hand: `activation_checkpointing_enable` leaves a hook on embeddings that no trace takes."""
    model = tiny.model("llama").train()
    for block in model.modules():
        if hasattr(block, "gradient_checkpointing"):
            block.gradient_checkpointing = True
            block._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)
    with adaptr.train(model, fresh(model, method)) as session:
        found = []
        torch._dynamo.reset()
        for run in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
            session.draws.number = 0
            for p in session.parameters():
                p.grad = None
            run(**alone(0), use_cache=False).logits.square().mean().backward()
            found.append([p.grad.clone() for p in session.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) == 2
    for one, other in zip(*found, strict=True):
        assert_close(other, one)


def test_two_forwards_in_one_graph_are_two() -> None:
    from adaptr.host.draws import Draws

    draws = Draws()
    torch._dynamo.reset()
    twice = torch.compile(lambda x: (x + draws.next(), x + draws.next()), backend="aot_eager", fullgraph=True)
    assert [tuple(int(n) for n in twice(torch.zeros(()))) for _ in range(2)] == [(1, 2), (3, 4)]


def test_what_comes_behind_a_stack_finds_the_forward_again() -> None:
    """The context of the call around a stack is there when the stack has run."""
    model = tiny.model("llama")
    with adaptr.attach(model, fresh(model, "ends", targets=["lm_head"])):
        said(model, padded())


def test_an_encoder_and_a_decoder_are_one_forward() -> None:
    model = tiny.model("t5").train()
    with adaptr.train(model, fresh(model, "routed")) as session:
        model(**tiny.inputs("t5"))
        model(**tiny.inputs("t5"))
        assert session.draws.number == 2


def test_real_columns_are_the_last_of_the_mask() -> None:
    mask = torch.tensor([[0, 1, 1], [1, 1, 0]])
    given = {"input_ids": torch.ones(2, 1, dtype=torch.long), "attention_mask": mask}
    assert Context(given, False, {}, False).real().tolist() == [[True], [False]]


def test_a_fusion_in_training_numbers_its_own_draws() -> None:
    model = tiny.model("llama").train()
    whole = adaptr.create(model, "summed", children={"a": fresh(model, "branched")})
    with adaptr.train(model, whole) as session:
        model(**padded())
        assert session.entrance is not None
        assert [state.mount.context for state in session.entrance.states] == [True]


# ---------------------------------------------------------------- generation without a cache


def generated(model: Any, cached: bool, **more: Any) -> torch.Tensor:
    given = {**padded(), "max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    found: torch.Tensor = model.generate(
        **given, use_cache=cached, output_logits=True, return_dict_in_generate=True, **more
    )
    return torch.stack(found.logits)


def test_without_a_cache_a_prompt_is_what_generation_began_with() -> None:
    model = tiny.model("llama")
    plain = model.generate
    with adaptr.attach(model, fresh(model, "prompted")):
        wanted = generated(model, True)
        assert_close(generated(model, False), wanted)
        assert_close(elsewhere(lambda: generated(model, False)), wanted)
        assert_close(generated(copy.deepcopy(model), False), wanted)
        assert_close(generated(pickle.loads(pickle.dumps(model)), False), wanted)
        assert inspect.signature(model.generate) == inspect.signature(plain)
    assert model.generate == plain


def test_each_invocation_begins_anew_and_a_call_alone_is_a_prompt() -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, fresh(model, "prompted")):
        short = model.generate(**alone(1), max_new_tokens=2, use_cache=False, do_sample=False, pad_token_id=0)
        longer = {"input_ids": short}
        whole = said(model, longer)
        generated(model, False)
        assert_close(said(model, longer), whole)


def test_encoder_and_decoder_each_have_a_beginning_of_their_own() -> None:
    model = tiny.model("t5")
    with adaptr.attach(model, fresh(model, "prompted")):
        assert_close(generated(model, False), generated(model, True))


def test_generation_by_a_model_around_is_refused_without_a_cache() -> None:
    model = tiny.model("llama")
    with adaptr.attach(model.model, fresh(model.model, "prompted")):
        wanted = generated(model, True)
        assert wanted is not None
        with pytest.raises(errors.Unsupported, match="attach it to the model that generates, or say `use_cache=True`"):
            generated(model, False)


def test_a_generate_of_ones_own_is_called_and_comes_back() -> None:
    model = tiny.model("llama")
    model.generate = own = lambda: "mine"
    with adaptr.attach(model, fresh(model, "prompted")):
        assert model.generate() == "mine"
    assert model.generate is own
