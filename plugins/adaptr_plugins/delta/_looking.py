"""What layers are given in forwards of some batches, before training begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.contract import Run
    from adaptr.host import Session


def inputs(session: Session, data: Iterable[Run], see: Callable[[str, Tensor], None]) -> None:
    """Run `data` without gradients; `see` gets each target's path and what its layer is given, (tokens, in) fp32."""
    import torch

    def looking(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, args: see(path, args[0].detach().flatten(0, -2).float())

    with ExitStack() as hooks, torch.no_grad():
        for path in session.adapter.targets:
            module = session.model.get_submodule(path)
            hooks.callback(module.register_forward_pre_hook(looking(path)).remove)
        for run in data:
            run()
