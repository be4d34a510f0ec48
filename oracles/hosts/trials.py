"""What is tried of each host with each method, against the dense model of the same weights.

A trial gives an error: 0 where it is right. It raises an `AdaptrError` where adaptr refuses, and anything else where
adaptr is wrong.
"""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import torch
from made import MAKERS
from torch import Tensor

import adaptr
from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.testing import shaken

IDS = torch.arange(3, 35).view(2, 16)
#: How far adapters are from their start: far enough that what they do is not small beside what rounding does; and less
#: far where they learn, as gradients of outputs that are certain of a wrong token are nothing but rounding.
BY, MILD = 0.3, 0.1


class Host:
    """One packing. `fresh()` is a host that nobody has called yet, `dense` the same weights unpacked."""

    def __init__(self, name: str, base: Any, folder: Path) -> None:
        weights, self.fresh = MAKERS[name](copy.deepcopy(base), folder)
        self.dense = copy.deepcopy(base)
        with torch.no_grad():
            for path, weight in weights.items():
                self.dense.get_submodule(path).weight.copy_(weight)

    @functools.cached_property
    def used(self) -> Any:
        """One that has run in evaluation; what is put on it comes off again."""
        model = self.fresh()
        logits(model)
        return model


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits.float()


def adapter(model: Any, name: str, by: float = BY, seed: int = 1) -> Adapter:
    """An adapter of a method, away from its start, made on this model."""
    own = plugins.method(name)
    if not own.examples:
        return shaken(adaptr.create(model, name, seed=seed, **own.small), seed, by)
    parts = {
        part: shaken(adaptr.create(model, method, targets, **config), number, by)
        for number, (part, (method, targets, config)) in enumerate(own.examples.items(), 11)
    }
    return shaken(adaptr.create(model, name, children=parts, **own.small), seed, by)


def off(found: Tensor, wanted: Tensor, bare: Tensor) -> float:
    """How far an adapter's effect is from what it should be, relative to that."""
    return float((found - wanted).norm() / (wanted - bare).norm())


class Trials:
    """All that is tried of one method on one host. What was right on the dense model is kept."""

    def __init__(self, host: Host, method: str) -> None:
        self.host, self.method = host, method

    @functools.cached_property
    def one(self) -> Adapter:
        return adapter(self.host.dense, self.method)

    @functools.cached_property
    def mild(self) -> Adapter:
        return adapter(self.host.dense, self.method, MILD)

    @functools.cached_property
    def other(self) -> Adapter:
        return shaken(adaptr.create(self.host.dense, "lora", ["mlp.down", "attn.o"], r=4, seed=5), 5)

    @functools.cached_property
    def bare(self) -> Tensor:
        return logits(self.host.dense)

    def _compared(self, model: Any, on: Callable[[Any], AbstractContextManager[Any]]) -> float:
        """Of what `on` puts on a model, on the host and on the dense one."""
        with on(self.host.dense):
            wanted = logits(self.host.dense)
        with on(model):
            found = logits(model)
        return off(found, wanted, self.bare)

    def attach(self) -> float:
        """Before any forward."""
        return self._compared(self.host.fresh(), lambda m: adaptr.attach(m, self.one))

    def attach_used(self) -> float:
        """After forwards of evaluation; detached, the host is what it was."""
        model = self.host.used
        before = logits(model)
        error = self._compared(model, lambda m: adaptr.attach(m, self.one))
        return error + float((logits(model) - before).norm() / before.norm())

    def create(self) -> float:
        """Made on a host, whose weights a method may read, before any forward."""
        return self._created(self.host.fresh())

    def create_used(self) -> float:
        return self._created(self.host.used)

    def _created(self, model: Any) -> float:
        """It does the same on both models; and fresh, nothing, where a method starts from nothing."""
        made = adapter(model, self.method)
        error = self._compared(model, lambda m: adaptr.attach(m, made))
        own = plugins.method(self.method)
        if not own.can.identity or own.examples:
            return error
        with adaptr.attach(self.host.dense, adaptr.create(model, self.method, **own.small)):
            found = logits(self.host.dense)
        return max(error, float((found - self.bare).norm() / self.bare.norm()))

    def train(self) -> float:
        return self._learned(self.host.fresh())

    def train_used(self) -> float:
        """After forwards of evaluation, and with another before the step."""
        return self._learned(self.host.used, measured=True)

    def checkpointing(self) -> float:
        model = self.host.fresh()
        model.gradient_checkpointing_enable({"use_reentrant": False})
        return self._learned(model.train())

    @functools.cached_property
    def learned(self) -> dict[str, Tensor]:
        return self._gradients(copy.deepcopy(self.host.dense))

    def _learned(self, model: Any, measured: bool = False) -> float:
        wanted = self.learned
        found = self._gradients(model, measured)
        size = sum(float(g.square().sum()) for g in wanted.values()) ** 0.5
        if not size:  # nothing learns, as in a gate that routes without
            return 0.0
        missing = [key for key, g in wanted.items() if bool(g.any()) and not bool(found[key].any())]
        assert not missing, f"no gradient for {missing[:2]}"
        return sum(float((found[key] - g).square().sum()) for key, g in wanted.items()) ** 0.5 / size

    def _gradients(self, model: Any, measured: bool = False) -> dict[str, Tensor]:
        with adaptr.train(model, self.mild) as session:
            if measured:
                logits(model)
            loss = model(input_ids=IDS, labels=IDS).loss
            learning = session.named()
            if learning:
                loss.backward()
            found = {k: torch.zeros_like(p) if p.grad is None else p.grad.float().clone() for k, p in learning.items()}
            if learning:
                torch.optim.SGD(session.parameters(), lr=1e-3).step()
                session.after_step()
            session.adapted()
        return found

    def generate(self) -> float:
        """How many tokens are others with a cache than without."""
        model = self.host.used
        told = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
        with adaptr.attach(model, self.one):
            found, wanted = (model.generate(IDS[:1], use_cache=cache, **told) for cache in (True, False))
        return float((found != wanted).float().mean())

    def stack(self) -> float:
        """Under a LoRA, at strengths of their own, changed while they are on."""

        def on(model: Any) -> Any:
            made = adaptr.stack(model, {"one": (self.one, 0.3), "other": (self.other, 1.0)})
            made["one"] = 1.0
            return made

        return self._compared(self.host.used, on)

    def pool(self) -> float:
        """Rows of a batch with this one, and with none."""

        def rows(model: Any) -> Tensor:
            with closing(_Detached(adaptr.pool(model, slots=2))) as made:
                made.pool.add("one", self.one)
                with made.pool.rows(["one", None]):
                    return logits(model)

        wanted = rows(copy.deepcopy(self.host.dense))
        return off(rows(self.host.used), wanted, self.bare)

    def merged(self) -> float:
        return self._compared(self.host.used, lambda m: adaptr.attach(m, self.one, merged=True))


class _Detached:
    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def close(self) -> None:
        self.pool.detach()


#: The columns of the table; those where something learns.
LEARNING = frozenset({"train", "train_used", "checkpointing"})
NAMES = (
    "attach", "attach_used", "create", "create_used", "train", "train_used", "checkpointing", "generate", "stack",
    "pool", "merged",
)  # fmt: skip


def tried(name: str, base: Any, methods: list[str]) -> Iterator[tuple[str, str, float | None, str]]:
    """(method, trial, error, why not) of everything on one host."""
    with tempfile.TemporaryDirectory() as folder:
        host = Host(name, base, Path(folder))
        for method in methods:
            trials = Trials(host, method)
            for trial in NAMES:
                error, why = _outcome(getattr(trials, trial))
                yield method, trial, error, why
                if error is not None and error != error:
                    host.__dict__.pop("used", None)  # who knows what is left on it


def _outcome(trial: Callable[[], float]) -> tuple[float | None, str]:
    try:
        return trial(), ""
    except adaptr.AdaptrError as error:
        return None, f"{type(error).__name__}: {error}"
    except Exception as error:
        return float("nan"), f"{type(error).__name__}: {error}"
