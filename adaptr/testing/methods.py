"""The laws of adapter methods, on a tiny Llama-type model or another."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import adaptr
from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.testing.closeness import assert_close, bits_equal
from adaptr.testing.code import CodeLaws
from adaptr.testing.live import LiveLaws
from adaptr.testing.merging import assert_refused, mergeable, merged, round_trip, why_not
from adaptr.testing.quantising import QuantisingLaws
from adaptr.testing.samples import count, logits, shaken, tiny_llama, trained_keys
from adaptr.testing.skipping import skip
from adaptr.testing.training import TrainingLaws

if TYPE_CHECKING:
    from torch import Tensor, nn


class ModelLaws(LiveLaws):
    """The laws that the make of a model can break, to be tried on several. `config` and `targets` are what
    `adaptr.create` gets beside what the method calls `small`.
    """

    method: ClassVar[str]
    config: ClassVar[Mapping[str, Any]] = {}
    targets: ClassVar[Sequence[str] | None] = None
    #: For methods that are made of other adapters: name to (method, targets, config) of each, if not the method's own.
    children: ClassVar[Mapping[str, tuple[str, Sequence[str] | None, Mapping[str, Any]]]] = {}

    # ------------------------------------------------------------ what the laws are tried on

    def model(self) -> nn.Module:
        """A small model in eval mode, the same values at each call."""
        return tiny_llama()

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of the model's forward."""
        import torch

        return {"input_ids": torch.arange(14).reshape(2, 7) + 3}

    def adapter(self, model: nn.Module, seed: int = 1) -> Adapter:
        """An adapter whose tensors are all away from where they start, so that every law can fail."""
        return shaken(self.fresh(model), seed)

    def fresh(self, model: nn.Module) -> Adapter:
        """A fresh adapter. Methods that are made of other adapters get those of `children`, away from their start."""
        own = plugins.method(self.method)
        config, children = {**own.small, **self.config}, self.children or own.examples
        if not children:
            return adaptr.create(model, self.method, self.targets, **config)
        made = {
            name: shaken(adaptr.create(model, method, targets, **values), seed)
            for seed, (name, (method, targets, values)) in enumerate(children.items(), 11)
        }
        return adaptr.create(model, self.method, children=made, **config)

    def output(self, model: nn.Module) -> Tensor:
        import torch

        with torch.no_grad():
            return logits(model(**self.inputs()))

    def require_weight(self, adapter: Adapter) -> None:
        """Skips a law of merged weights where there are none."""
        if not mergeable(adapter):
            skip(f"`{self.method}` can't be merged: {why_not(adapter)}")

    # ------------------------------------------------------------ the laws

    def test_law_1_fresh_is_the_identity(self) -> None:
        model = self.model()
        before = self.output(model)
        with adaptr.attach(model, self.fresh(model)):
            after = self.output(model)
        if plugins.method(self.method).can.identity:
            assert_close(after, before)
        else:
            assert not bits_equal(after, before), "`identity` is False, and a fresh adapter changes nothing"

    def test_law_2_forward_is_the_merged_weight(self) -> None:
        model = self.model()
        adapter = self.adapter(model)
        self.require_weight(adapter)
        for weight in (1.0, 0.5):
            with adaptr.attach(model, adapter, weight):
                attached = self.output(model)
            assert_close(self.output(merged(model, [(adapter, weight)])), attached)

    def test_law_3_detached_is_bit_identical(self) -> None:
        model = self.model()
        before, keys, values = self.output(model), list(model.state_dict()), copy.deepcopy(model.state_dict())
        classes = [type(m) for m in model.modules()]
        handle = adaptr.attach(model, self.adapter(model))
        assert not bits_equal(self.output(model), before), "the attached adapter changes nothing"
        handle.detach()
        assert bits_equal(self.output(model), before)
        assert list(model.state_dict()) == keys
        assert [type(m) for m in model.modules()] == classes
        assert all(bits_equal(value, values[key]) for key, value in model.state_dict().items())

    def test_law_4_unmerge_gives_the_base_back(self) -> None:
        model = self.model()
        adapter = self.adapter(model)
        self.require_weight(adapter)
        if not plugins.method(self.method).can.inverse:
            skip(f"`{self.method}` has no inverse: unmerging it needs the base")
        for target in adapter.targets.values():
            W, b, back, bias = round_trip(model, adapter, target)
            assert_close(back, W)
            if b is not None:
                assert bias is not None
                assert_close(bias, b)

    def test_law_5_merging_a_stack_is_merging_the_composed_view(self) -> None:
        model = self.model()
        stack = [(self.adapter(model, 1), 1.0), (self.adapter(model, 2), 0.7)]
        self.require_weight(stack[0][0])
        handles = [adaptr.attach(model, adapter, weight) for adapter, weight in stack]
        attached = self.output(model)
        for handle in handles:
            handle.detach()
        assert_close(self.output(merged(model, stack)), attached)

    def test_law_6_save_load_save_is_the_same_bytes(self, tmp_path: Path) -> None:
        from adaptr.format import read

        model = self.model()
        adapter = self.adapter(model)
        first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
        adaptr.save(adapter, first)
        loaded = read(first)
        adaptr.save(loaded, second)
        assert first.read_bytes() == second.read_bytes()
        with adaptr.attach(model, adapter):
            before = self.output(model)
        with adaptr.attach(model, loaded):
            assert bits_equal(self.output(model), before)

    def test_law_7_only_its_own_tensors_learn(self) -> None:
        import torch

        model = self.model()
        if not trained_keys(self.adapter(model)):
            skip(f"`{self.method}` learns nothing: all that it has follows from the adapters it is made of")
        flags = [p.requires_grad for p in model.parameters()]
        with torch.random.fork_rng(devices=[]), adaptr.train(model, self.adapter(model)) as session:
            torch.manual_seed(0)
            optimiser = torch.optim.Adam(session.parameters(), lr=1e-2)
            for _ in range(5):
                optimiser.zero_grad()
                _loss(logits(model(**self.inputs()))).backward()  # type: ignore[no-untyped-call]
                own = {id(p) for p in session.parameters()}
                assert {id(p) for p in model.parameters() if p.grad is not None} == own
                optimiser.step()
                session.after_step()
            trained = session.adapted()
        losses = []
        for adapter in (self.adapter(model), trained):  # without the noise that some train with
            with adaptr.attach(model, adapter):
                losses.append(float(_loss(self.output(model))))
        assert losses[1] < losses[0]
        assert [p.requires_grad for p in model.parameters()] == flags
        assert any(not bits_equal(t, trained.tensors[k]) for k, t in self.adapter(model).tensors.items())

    def test_law_8_copies_are_independent_and_pickles_return(self) -> None:
        import torch

        model = self.model()
        handle = adaptr.attach(model, self.adapter(model))
        attached = self.output(model)
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    parameter.add_(0.1)
        assert bits_equal(self.output(twin), attached)
        stream = io.BytesIO()
        pickle.dump(twin, stream)
        stream.seek(0)
        assert bits_equal(self.output(pickle.load(stream)), attached)
        handle.detach()

    def test_law_17_what_has_no_weight_says_why(self) -> None:
        model = self.model()
        adapter = self.adapter(model)
        if mergeable(adapter):
            skip(f"`{self.method}` has a weight")
        assert_refused(adapter, model)

    def test_law_13_counts_what_it_trains(self) -> None:
        model = self.model()
        adapter = self.adapter(model)
        with adaptr.train(model, adapter) as session:
            trained = sum(p.numel() for p in session.parameters())
        assert trained == count(adapter) == sum(adapter.tensors[k].numel() for k in trained_keys(adapter))


def _loss(output: Tensor) -> Tensor:
    """What training makes smaller here: the surprise at the first of all outputs."""
    return output.float().log_softmax(-1)[..., 0].mean().neg()


class Laws(ModelLaws, TrainingLaws, QuantisingLaws, CodeLaws):
    """All of them, one test a law."""
