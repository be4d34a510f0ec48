"""What a pool does to its model: nothing that stays."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import (
    AlreadyAttached,
    UsageError,
)
from adaptr.testing import assert_close, bits_equal
from runtime.pools import CLOSE, alone


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
