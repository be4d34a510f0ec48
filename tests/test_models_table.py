"""docs/models.md: a method of each family has been tried on each kind of model, and comes out as it says."""

from __future__ import annotations

import pytest

import adaptr
import tiny
from adaptr import errors
from adaptr.host.attach import attached
from methods_table import table
from models_table.table import FILE, METHODS, MODELS
from models_table.trials import tried

KEPT = {(one.what, one.method): one for one in table.load(FILE)}
#: What is tried again here; `make models` tries all.
AGAIN = [
    ("deberta", "lora"), ("qwen2-moe", "houlsby"), ("phi3", "parallel"), ("whisper", "prompt"),
    ("modernbert", "prefix"), ("deberta-v2", "prefix"), ("falcon", "prefix"),
]  # fmt: skip


def test_every_model_has_been_tried_with_a_method_of_each_family() -> None:
    wanted = {(model, method) for model in MODELS for method in METHODS}
    assert wanted == KEPT.keys(), "run `make models`"
    assert MODELS.keys() <= tiny.MAKERS.keys()


def test_no_trial_is_a_crash_and_each_no_says_why() -> None:
    assert not [one for one in KEPT.values() if one.verdict not in {"yes", "no"}]
    assert all(one.why for one in KEPT.values() if one.verdict == "no")


@pytest.mark.parametrize(("model", "method"), AGAIN)
def test_it_comes_out_as_the_table_says(model: str, method: str) -> None:
    assert tried(model, method) == KEPT[model, method]


def test_a_model_without_a_place_says_which_it_has() -> None:
    with pytest.raises(errors.TargetNotFound, match="the model has no `attention` that is known by its name") as caught:
        adaptr.create(tiny.model("bloom"), "prefix")
    assert all(role in str(caught.value) for role in ("`attn.qkv`", "`attn_out`", "`ffn_out`"))


def test_an_attention_that_asks_nobody_for_its_function_is_refused() -> None:
    """transformers warns that it can't be set, and a prefix would do nothing."""
    model = tiny.model("deberta-v2")
    adapter = adaptr.create(model, "prefix")
    with pytest.raises(errors.Unsupported, match="computes its own without asking"):
        adaptr.attach(model, adapter)
    assert not attached(model)
    assert model.config._attn_implementation == "eager"
