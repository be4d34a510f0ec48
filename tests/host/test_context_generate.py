"""What a forward knows in generation without a cache: its prompt is what generation began with."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import errors
from adaptr.testing import assert_close
from host.forwards import alone, elsewhere, fresh, padded, said
from knowing import knowing  # noqa: F401

pytestmark = pytest.mark.usefixtures("knowing")


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
