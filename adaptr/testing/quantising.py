"""The laws of adapters in fewer bits: their error is declared, and they do what the numbers do that they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import adaptr
from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.errors import Unsupported
from adaptr.families.encoding import SCHEMES
from adaptr.testing.closeness import bits_equal, error_of_change, relative, tensor_pairs
from adaptr.testing.merging import mergeable, merged
from adaptr.testing.samples import trained

if TYPE_CHECKING:
    from torch import Tensor, nn

#: The largest relative error of a tensor in each scheme.
BOUNDS = {"fp16": 1e-3, "bf16": 1e-2, "int8": 4e-2, "fp8": 7e-2, "nf4": 0.25, "int4-g32": 0.25}
#: Tensors of fewer numbers may have as many bytes of scales as they save.
FEW = 16


class QuantisingLaws:
    """What `Laws` has for `quantize`. `model`, `output` and `adapter` are those of `Laws`."""

    if TYPE_CHECKING:

        def model(self) -> nn.Module: ...
        def output(self, model: nn.Module) -> Tensor: ...
        def adapter(self, model: nn.Module, seed: int = 1) -> Adapter: ...

    def test_law_10_quantised_keeps_shapes_and_its_declared_error(self) -> None:
        model = self.model()
        adapter = self.adapter(model)
        assert set(BOUNDS) == set(SCHEMES)
        for scheme, small in quantised(adapter).items():
            assert small.method == adapter.method
            assert small.targets == adapter.targets
            worst = max(relative(after, before) for before, after in tensor_pairs(adapter, small))
            assert worst <= BOUNDS[scheme]
            truth = error_of_change(adapter, small)
            # deltas are formed in fp32, whose rounding is 1e-3 of the smallest errors
            assert 0.999 * truth <= small.quantization["error"] <= 2 * truth, truth
            with adaptr.attach(model, small):
                attached = self.output(model)
            with adaptr.attach(model, small.floats()):
                assert bits_equal(self.output(model), attached), f"`{scheme}` is not what it stands for"
            assert bool(attached.isfinite().all())

    def test_law_22_quantised_it_is_stored_and_merged_as_what_it_stands_for(self, tmp_path: Path) -> None:
        from adaptr.format import read

        model = self.model()
        adapter = self.adapter(model)
        for scheme, small in quantised(adapter).items():
            adaptr.save(small, tmp_path / f"{scheme}.safetensors")
            loaded, plain = read(tmp_path / f"{scheme}.safetensors"), small.floats()
            assert loaded.quantization == small.quantization
            again = loaded.floats().tensors
            assert again.keys() == plain.tensors.keys()
            assert all(bits_equal(again[key], tensor) for key, tensor in plain.tensors.items()), scheme
            if mergeable(adapter):
                stored, meant = (self.output(merged(model, [(one, 1.0)])) for one in (loaded, plain))
                assert bits_equal(stored, meant), scheme

    def test_law_23_quantised_it_is_trained_from_what_it_stands_for(self) -> None:
        model = self.model()
        small = list(quantised(self.adapter(model)).values())[-1]
        with adaptr.train(model, small) as session:
            began = session.adapted()
        learns = plugins.method(small.method).trains_parts
        wanted = small.floats() if learns else small
        assert began.quantization == wanted.quantization
        assert {*wanted.tensors} == {*began.tensors}
        assert all(bits_equal(began.tensors[key], tensor) for key, tensor in wanted.tensors.items())


def quantised(adapter: Adapter) -> dict[str, Adapter]:
    """The adapter in each scheme that makes something of it smaller; the others are refused."""
    found = {}
    for scheme in SCHEMES:
        try:
            found[scheme] = adaptr.quantize(adapter, scheme)
        except Unsupported:
            assert all(tensor.ndim < 2 or tensor.numel() < FEW for tensor in trained(adapter)), scheme
    return found
