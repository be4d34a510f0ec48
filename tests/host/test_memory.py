"""A schedule goes on where it was: training saved, loaded and continued is training that was never interrupted."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adaptr
import tiny
from adaptr import Adapter
from adaptr.errors import LossyConversion
from adaptr.format import digest
from adaptr.format.io import open_tensors

CONFIG: dict[str, Any] = {"r": 6, "target_r": 2, "tinit": 2, "tfinal": 4, "interval": 2, "steps": 20}


def fresh(model: nn.Module) -> Adapter:
    return adaptr.create(model, "adalora", ["attn.q", "attn.v"], name="a", **CONFIG)


def run(model: nn.Module, adapter: Adapter, first: int, last: int) -> Adapter:
    """Steps `first` to `last`, each on data of its own."""
    with adaptr.train(model, adapter) as session:
        optimiser = torch.optim.SGD(session.parameters(), lr=0.5)
        for step in range(first, last + 1):
            x = torch.randint(0, 60, (2, 9), generator=torch.Generator().manual_seed(step))
            optimiser.zero_grad()
            loss = model(x).logits.float().log_softmax(-1)[..., step].mean().neg() + session.penalty()
            loss.backward()
            optimiser.step()
            session.after_step()
        return session.adapted()


def left(adapter: Adapter) -> int:
    return sum(int((t != 0).sum()) for key, t in adapter.tensors.items() if key.endswith("E"))


def through_a_file(adapter: Adapter, folder: Path) -> Adapter:
    adaptr.save(adapter, folder / "a", force=True)
    return adaptr.load(folder / "a")


def through_a_pickle(adapter: Adapter, folder: Path) -> Adapter:
    found: Adapter = pickle.loads(pickle.dumps(adapter))
    return found


def same(one: Adapter, other: Adapter) -> bool:
    return all(torch.equal(t, other.tensors[key]) for key, t in one.tensors.items())


@pytest.mark.parametrize("way", [through_a_file, through_a_pickle])
@pytest.mark.parametrize("at", [1, 7, 14, 17, 20])
def test_continued_is_uninterrupted(at: int, way: Callable[[Adapter, Path], Adapter], tmp_path: Path) -> None:
    model = tiny.model("llama")
    whole = run(model, fresh(model), 1, 22)
    half = way(run(model, fresh(model), 1, at), tmp_path)
    again = run(model, half, at + 1, 22)
    assert left(whole) == left(again) == 2 * len(whole.targets)
    assert same(whole, again)
    assert again.training["taken"] == 22


def test_a_part_of_a_stack_goes_on_too(tmp_path: Path) -> None:
    model = tiny.model("llama")
    start = adaptr.create(model, "stack", children={"one": fresh(model).replace(name="")})
    whole = run(model, start, 1, 20)
    half = through_a_file(run(model, start, 1, 14), tmp_path)
    assert same(whole, run(model, half, 15, 20))


def test_memory_is_no_part_of_the_weights(tmp_path: Path) -> None:
    model = tiny.model("llama")
    half = run(model, fresh(model), 1, 14)
    bare = half.remembering({})
    adaptr.save(half, tmp_path / "half")
    adaptr.save(bare, tmp_path / "bare")
    digests = {
        digest.of_weights(path, open_tensors(path).header) for path in (tmp_path / "half", tmp_path / "bare")
    } | {digest.of_adapter(half)}
    assert len(digests) == 1
    assert set(adaptr.load(tmp_path / "half").tensors) == set(bare.tensors)
    assert adaptr.inspect(tmp_path / "half").tensors == adaptr.inspect(tmp_path / "bare").tensors
    assert adaptr.load(tmp_path / "half").memory.keys() == half.memory.keys() != set()
    again = adaptr.load(tmp_path / "half")
    adaptr.save(again, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "half").read_bytes()


def test_a_finished_adapter_remembers_nothing() -> None:
    model = tiny.model("llama")
    done = run(model, fresh(model), 1, 20)
    assert (dict(done.memory), done.training) == ({}, {"taken": 20})
    plain = run(model, adaptr.create(model, "lora", name="l"), 1, 2)
    assert (dict(plain.memory), plain.training) == ({}, {})


def test_peft_has_no_place_for_it(tmp_path: Path) -> None:
    model = tiny.model("llama")
    adaptr.save(run(model, fresh(model), 1, 3), tmp_path / "a")
    with pytest.raises(LossyConversion, match="memory of its training"):
        adaptr.convert(tmp_path / "a", tmp_path / "p", "peft")


def test_a_copy_of_a_model_in_training_stands_alone() -> None:
    model = tiny.model("llama")
    whole = run(tiny.model("llama"), fresh(model), 1, 20)
    with adaptr.train(model, fresh(model)) as session:
        twin, stream = copy.deepcopy(model), io.BytesIO()
        pickle.dump(model, stream)
        stream.seek(0)
        x = torch.arange(8).view(1, 8)
        with torch.no_grad():
            assert torch.equal(twin(x).logits, model(x).logits)
            assert torch.equal(pickle.load(stream)(x).logits, model(x).logits)
            for parameter in twin.parameters():
                parameter.zero_()
        assert session.steps == 0
    assert same(whole, run(model, fresh(model), 1, 20))


def test_importances_do_not_vanish_in_fp16() -> None:
    model = tiny.model("llama").half()
    with adaptr.train(model, adaptr.create(model, "adalora", ["attn.q"], **CONFIG)) as session:
        for parameter in session.parameters():
            parameter.data = torch.full_like(parameter, 1e-4).half()
            parameter.grad = torch.full_like(parameter, 1e-4)
        session.after_step()
        assert all(bool((mean > 0).all()) for key, mean in session.memory.items() if key.endswith(".mean"))
