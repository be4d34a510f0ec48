"""Parameters that an adapter replaces as a whole, merged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import checkpoints as c
import tiny
from adaptr import api
from adaptr.adapter import Target
from adaptr.errors import (
    NotPossible,
)
from merging.round_trips import BF16, replacing, round_trip


@pytest.mark.parametrize("shard", ["5GB", "40KB"])
@pytest.mark.parametrize("classes", [2, 5])
def test_replaced_parameters_of_the_same_and_of_another_shape(tmp_path: Path, classes: int, shard: str) -> None:
    base = c.saved("bert", tmp_path / "base", BF16, shard=shard)
    values = {"classifier.weight": torch.randn(classes, tiny.WIDTH), "classifier.bias": torch.randn(classes)}
    report = round_trip(base, [replacing(values)], tmp_path / "out")
    assert report.added == ([] if classes == 2 else sorted(values))
    found = c.tensors_of(tmp_path / "out")
    assert all(torch.equal(found[k], v.to(BF16)) for k, v in values.items())


def test_a_replaced_parameter_that_the_base_lacks_is_added_and_loads(tmp_path: Path) -> None:
    whole = c.saved("bert", tmp_path / "whole", shard="40KB")
    headless = c.model_of(whole).bert
    headless.save_pretrained(tmp_path / "base", max_shard_size="40KB")
    values = {"classifier.weight": torch.randn(2, tiny.WIDTH), "classifier.bias": torch.randn(2)}
    report = round_trip(tmp_path / "base", [replacing(values)], tmp_path / "out")
    assert report.added == sorted(values)
    from transformers import BertForSequenceClassification

    model, told = BertForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert torch.equal(model.classifier.weight, values["classifier.weight"])


def test_two_hands_on_one_parameter_are_refused(tmp_path: Path) -> None:
    base = c.saved("bert", tmp_path / "base")
    one, two = (replacing({"classifier.weight": torch.randn(2, tiny.WIDTH)}, seed=i) for i in (0, 1))
    lora = c.lora_at(Target("classifier", "linear", (2, tiny.WIDTH)))
    for stack in ([one, two], [one, lora], [lora, one]):
        with pytest.raises(NotPossible, match="replaced as a whole by one adapter"):
            api.merge(base, stack, tmp_path / "out")
    with pytest.raises(NotPossible, match=r"no strength 0\.5"):
        api.merge(base, [(one, 0.5)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
