"""Where a model runs."""

from __future__ import annotations

from collections.abc import Sequence

from adaptr.errors import MachineError, UsageError

DEVICES = ("cuda", "mps", "cpu")


def device(asked: str, known: Sequence[str] = DEVICES) -> str:
    """The device that is asked for, the first of `known` that is here for `auto`. Raises `MachineError` for one that is
    not here, `UsageError` for what is none.
    """
    import torch

    if asked not in ("auto", *known):
        raise UsageError("the device", got=f"`{asked}`", want=f"auto, {', '.join(known)}")
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return next(name for name in known if has[name])
    if not has[asked]:
        raise MachineError(f"this machine has no {asked}", hint="say `auto`")
    return asked
