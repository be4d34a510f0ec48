"""What layers are given, and what comes back to them, in forwards of some batches before training begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.contract import Run
    from adaptr.host import Session

#: What is done with a target's path, the output of its layer, and which of its tokens are real, None for all.
Seen = Callable[[str, "Tensor", "Tensor", "Tensor | None"], None]


def inputs(session: Session, data: Iterable[Run], see: Callable[[str, Tensor], None]) -> None:
    """Run `data` without gradients; `see` gets each target's path and what its layer is given, (tokens, in) fp32.

    Where the model is told which tokens fill up rows (`attention_mask`), layers that get all tokens are seen without.
    """
    import torch

    def seen(path: str, x: Tensor, _: Tensor, real: Tensor | None) -> None:
        see(path, _rows(x, real).float())

    with _hooked(session, seen), torch.no_grad():
        for run in data:
            run()


def gradients(
    session: Session, data: Iterable[Run], squared: bool = False, paths: Iterable[str] | None = None
) -> dict[str, Tensor]:
    """The means over forwards of the gradients of the targets' weights, or of their squares, (out, in) fp32, by path.

    `paths`: of some of the targets. All at once, so that they take as much as these weights do. The weights themselves
    get none.
    """
    import torch

    found: dict[str, Tensor] = {}
    times: dict[str, int] = {}

    def seen(path: str, x: Tensor, y: Tensor, _: Tensor | None) -> None:
        if y.requires_grad:
            y.register_hook(lambda g: back(path, x, g))  # type: ignore[no-untyped-call]

    def back(path: str, x: Tensor, g: Tensor) -> None:
        one = g.detach().flatten(0, -2).float().mT @ _rows(x, None).float()
        one = one.square() if squared else one
        found[path] = found[path] + one if path in found else one
        times[path] = times.get(path, 0) + 1

    with _hooked(session, seen, paths), torch.enable_grad():
        for run in data:
            run()[0].backward()  # type: ignore[no-untyped-call]
    session.model.zero_grad()
    return {path: total / times[path] for path, total in found.items()}


@contextmanager
def _hooked(session: Session, seen: Seen, paths: Iterable[str] | None = None) -> Iterator[None]:
    real: list[Tensor | None] = [None]

    def told(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        real[0] = kwargs.get("attention_mask")

    def looking(path: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        return lambda _, args, y: seen(path, args[0], y, real[0])

    with ExitStack() as hooks:
        hooks.callback(session.model.register_forward_pre_hook(told, with_kwargs=True).remove)
        for path in session.adapter.targets if paths is None else paths:
            module = session.model.get_submodule(path)
            hooks.callback(module.register_forward_hook(looking(path)).remove)
        yield


def _rows(x: Tensor, real: Tensor | None) -> Tensor:
    x = x.detach()
    if real is not None and real.shape == x.shape[:-1]:
        return x[real.bool()]
    return x.flatten(0, -2)
