"""Differences of weights at few places, and blocks of which some are chosen: how they begin, settle and end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from adaptr.errors import UsageError
from adaptr_plugins.delta._looking import gradients

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr import Adapter, Target
    from adaptr.contract import Run
    from adaptr.host import Session

#: How large c is where it is chosen for good.
SURE = 64.0


def drawn(v: Tensor, target: Target, seed: int) -> Tensor:
    """Places of a weight at random, as many as there are values, until there are batches to look at."""
    import torch

    from adaptr.algebra import stream

    if v.is_meta:
        return torch.empty(v.shape, dtype=torch.int64, device="meta")
    return stream.choose(seed, f"lets.{target.path}", target.shape[0] * target.shape[1], len(v))


def placed(session: Session, data: Iterable[Run]) -> None:
    """Choose the places where the mean gradient of a difference is largest; of equals the first. Without dropout."""
    import torch

    wanted = {path: t.config["n"] for path, t in session.adapter.targets.items() if t.config["n"]}
    if not wanted:
        return
    training = session.model.training
    session.model.eval()
    found = gradients(session, data, paths=wanted)
    session.model.train(training)
    if not found:
        raise UsageError(
            f"`{session.adapter.method}` looks at some batches before training", hint="train by `adaptr.fit`"
        )
    for path, g in found.items():
        order = torch.sort(g.abs().flatten(), descending=True, stable=True).indices
        session.put(path, "i", torch.sort(order[: wanted[path]]).values)


def settled(session: Session) -> None:
    """The choices are made for good, and the differences begin again."""
    for state in session.states.values():
        if "c" in state:
            sure = SURE * (2.0 * (state["c"].detach() >= 0) - 1)
            session.put(state.target.path, "c", sure)
            session.mask(state.key("c"), sure != sure)
        if "v" in state:
            session.put(state.target.path, "v", 0 * state["v"].detach())


def without_reused(adapter: Adapter) -> Adapter:
    """`adapter` with its choices said, and no layers in blocks where what the base put out is used again."""
    blocks = [path for path, target in adapter.targets.items() if target.config["block"]]
    reused = {path for path in blocks if float(adapter.tensors[f"{path}:c"]) < 0}
    alone = {"depth": 0} if reused == {*blocks} else {}
    targets = {
        path: replace(target, config={**target.config, "reused": path in reused, **alone})
        for path, target in adapter.targets.items()
        if path in blocks or not any(path.startswith(f"{block}.") for block in reused)
    }
    gone = adapter.targets.keys() - targets.keys()
    tensors = {key: t for key, t in adapter.tensors.items() if key.rpartition(":")[0] not in gone}
    return adapter.replace(targets=targets, tensors=tensors)
