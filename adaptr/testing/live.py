"""The laws of merging into a live model's own weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import adaptr
from adaptr.adapter import Adapter
from adaptr.testing.closeness import assert_close, bits_equal
from adaptr.testing.merging import mergeable
from adaptr.testing.skipping import skip

if TYPE_CHECKING:
    from torch import Tensor, nn


class LiveLaws:
    """What `attach(merged=True)` promises of every method."""

    method: ClassVar[str]

    if TYPE_CHECKING:

        def model(self) -> nn.Module: ...
        def adapter(self, model: nn.Module, seed: int = 1) -> Adapter: ...
        def output(self, model: nn.Module) -> Tensor: ...
        def require_weight(self, adapter: Adapter) -> None: ...

    def test_law_18_merged_is_attached_and_comes_out_bit_for_bit(self) -> None:
        model = self.model()
        adapter = self.adapter(model)
        self.require_weight(adapter)
        before, values = self.output(model), copy.deepcopy(model.state_dict())
        classes = [type(m) for m in model.modules()]
        for weight in (1.0, 0.5):
            with adaptr.attach(model, adapter, weight):
                attached = self.output(model)
            handle = adaptr.attach(model, adapter, weight, merged=True)
            assert [type(m) for m in model.modules()] == classes
            assert_close(self.output(model), attached)
            handle.detach()
            assert_same(model.state_dict(), values)
            assert bits_equal(self.output(model), before)

    def test_law_19_merged_ones_come_out_in_any_order(self) -> None:
        model = self.model()
        one, two = self.adapter(model, 1), self.adapter(model, 2)
        self.require_weight(one)
        values = copy.deepcopy(model.state_dict())
        with adaptr.attach(model, two, 0.5, merged=True):
            alone = copy.deepcopy(model.state_dict())
        first = adaptr.attach(model, one, merged=True)
        second = adaptr.attach(model, two, 0.5, merged=True)
        first.detach()
        assert_same(model.state_dict(), alone)
        second.detach()
        assert_same(model.state_dict(), values)

    def test_law_20_the_weights_are_what_merging_a_checkpoint_writes(self, tmp_path: Path) -> None:
        model: Any = self.model()
        adapter = self.adapter(model)
        self.require_weight(adapter)
        if not hasattr(model, "save_pretrained"):
            skip("the model is none of transformers, which has checkpoints")
        model.save_pretrained(tmp_path / "base")
        adaptr.merge(tmp_path / "base", adapter, tmp_path / "merged")
        written = type(model).from_pretrained(tmp_path / "merged")
        with adaptr.attach(model, adapter, merged=True):
            assert_same(model.state_dict(), written.state_dict())

    def test_law_21_what_has_no_weight_is_refused_and_nothing_changes(self) -> None:
        import pytest

        model = self.model()
        adapter = self.adapter(model)
        if mergeable(adapter):
            skip(f"`{self.method}` can be merged")
        values = copy.deepcopy(model.state_dict())
        with pytest.raises(adaptr.errors.NotMergeable, match="Possible:"):
            adaptr.attach(model, adapter, merged=True)
        assert_same(model.state_dict(), values)
        adaptr.attach(model, adapter).detach()


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Two state dicts, bit for bit."""
    assert list(found) == list(wanted)
    wrong = [key for key, value in found.items() if not bits_equal(value, wanted[key])]
    assert not wrong, wrong
