"""What a forward knows: ids, padding, positions; refused where it can't know. `tests/knowing.py` has the methods."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import errors
from adaptr.host import entrance
from adaptr.host.context import Context
from adaptr.testing import assert_close
from host.forwards import TEXT, alone, fresh, padded, said
from knowing import knowing  # noqa: F401

pytestmark = pytest.mark.usefixtures("knowing")


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


def test_real_columns_are_the_last_of_the_mask() -> None:
    mask = torch.tensor([[0, 1, 1], [1, 1, 0]])
    given = {"input_ids": torch.ones(2, 1, dtype=torch.long), "attention_mask": mask}
    assert Context(given, False, {}, False).real().tolist() == [[True], [False]]


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
