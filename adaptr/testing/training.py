"""The laws of training, by `Driver` or by a trainer of one's own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from adaptr import api, plugins
from adaptr.adapter import Adapter
from adaptr.host import Session
from adaptr.testing.closeness import bits_equal
from adaptr.testing.driver import Batch, Driver
from adaptr.testing.samples import logits, trained_keys
from adaptr.testing.skipping import skip

if TYPE_CHECKING:
    from torch import Tensor, nn


class TrainingLaws:
    """One test a law. What they are tried on is said by `Laws`, whose part this is."""

    method: ClassVar[str]
    #: How many steps training has: enough for all phases, and to stop in each.
    steps: ClassVar[int] = 4

    if TYPE_CHECKING:

        def model(self) -> nn.Module: ...
        def inputs(self) -> dict[str, Tensor]: ...
        def fresh(self, model: nn.Module) -> Adapter: ...

    def driver(self, session: Session) -> Driver:
        """What trains here."""
        half = len(next(iter(self.inputs().values()))) // 2 or 1
        batches = [{k: v[:half] for k, v in self.inputs().items()}, {k: v[-half:] for k, v in self.inputs().items()}]
        return Driver(session, batches, self.steps, _loss)

    def session(self) -> Session:
        """A session of a fresh adapter, its model in training; methods that learn nothing are skipped."""
        import torch

        model = self.model()
        adapter = self.fresh(model)
        if not trained_keys(adapter):
            skip(f"`{self.method}` learns nothing: all that it has follows from the adapters it is made of")
        torch.manual_seed(0)
        session: Session = api.train(model.train(), adapter)
        return session

    def test_law_14_training_that_goes_on_is_training_that_was_never_interrupted(self) -> None:
        import torch

        with torch.random.fork_rng(devices=[]):
            with self.session() as session:
                whole = self.driver(session)
                whole.fit()
                wanted = session.state()["tensors"]
                finished = session.finish()
            for at in (1, self.steps - 1):
                with self.session() as session:
                    first = self.driver(session)
                    first.fit(at)
                    kept = io.BytesIO()
                    torch.save(first.state(), kept)
                kept.seek(0)
                with self.session() as session:
                    then = self.driver(session)
                    then.load_state(torch.load(kept, weights_only=True))
                    then.fit()
                    found, again = session.state()["tensors"], session.finish()
                for one, other in ((found, wanted), (again.tensors, finished.tensors)):
                    assert one.keys() == other.keys()
                    assert all(bits_equal(one[key], other[key]) for key in one), f"stopped after {at} steps"

    def test_law_15_what_is_finished_is_whole_and_has_nothing_that_is_for_training_only(self, tmp_path: Path) -> None:
        import torch

        with torch.random.fork_rng(devices=[]), self.session() as session:
            self.driver(session).fit()
            finished = session.finish()
        assert not finished.memory
        for part in [finished, *(finished.part(name) for name in finished.parts)]:
            method = plugins.method(part.method)
            for path, target in part.targets.items():
                method.check(target, part.shapes(path))
        from adaptr.format import read

        api.save(finished, tmp_path / "a.safetensors")
        model, outputs = self.model(), []
        for adapter in (finished, read(tmp_path / "a.safetensors")):
            with api.attach(model, adapter), torch.no_grad():
                outputs.append(logits(model(**self.inputs())))
        assert bits_equal(*outputs)
        with api.train(model, finished) as session:
            session.detach()

    def test_law_16_groups_have_every_trained_tensor_once(self) -> None:
        with self.session() as session:
            found = [id(p) for group in session.groups() for p in group.params]
            assert sorted(found) == sorted(id(p) for p in session.named().values())
            assert set(found) == {id(p) for p in session.model.parameters() if p.requires_grad}
            assert all(p.requires_grad for p in session.parameters())


def _loss(output: object, batch: Batch) -> Tensor:
    return logits(output).float().log_softmax(-1)[..., 0].mean().neg()
