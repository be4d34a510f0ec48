"""The contract: five verbs that every adapter method answers. Read this file first.

A method is an object with a `name`, a `Config`, a table of `params` and these five hooks. Its *family*
(`adaptr.families`) answers them once for all methods that work alike; a method overrides what it must. No decorator is
needed: a method of one of these names is a hook. What a method supplies for them, typed, is `adaptr.contract`, which is
read next; what others may ask it is `adaptr.contract.Capabilities`.

Each method has a plugin manager of its own (`adaptr.plugins`), so a call goes to the method named in the adapter and to
the observers, and to nobody else. Observers are hook wrappers (timing, policy, audit) registered for all methods with
`adaptr.plugins.observe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter, Target
    from adaptr.contract import View
    from adaptr.host import Handle, Session

PROJECT = "adaptr"
HOOKS = ("train", "apply", "merge", "unmerge", "quantize")

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# ---------------------------------------------------------------- on a live model


@hookspec(firstresult=True)
def train(model: nn.Module, adapter: Adapter) -> Session:  # type: ignore[empty-body]
    """Attach `adapter` to `model` with gradients and freeze everything else.

    Returns a `Session`. At the least its `parameters()` go to an optimiser, `after_step()` is called after each step,
    and `adapted()` is the adapter at any time. A whole course, for every method: `prepare(data)` once; for each of
    `phases()` `begin(number)` and an optimiser of `groups()`; for each batch `objective(run)`, and `after_step()`;
    `finish()` is the adapter that is kept. `state()` and `load_state` go on after an interruption, to the bit. Leaving
    it (`with`) or `detach()` restores the model, `requires_grad` flags included.
    """


@hookspec(firstresult=True)
def apply(model: nn.Module, adapter: Adapter, weight: float) -> Handle:  # type: ignore[empty-body]
    """Attach `adapter` to `model` without gradients, at strength `weight` (1.0 is as trained, 0.0 is the base).

    Returns a `Handle`; `detach()` leaves the model bit for bit as it was. Raises `TargetNotFound` or `TargetMismatch`
    before anything is changed.
    """


# ---------------------------------------------------------------- on weights


@hookspec(firstresult=True)
def merge(adapter: Adapter, target: Target, base: View, weight: float) -> View:  # type: ignore[empty-body]
    """The View of `target` with `adapter` in it, at strength `weight`. Pure and lazy.

    The caller reads `rows` or `weight` of the result once, in fp32, after all adapters of a stack. Raises
    `NotMergeable`, with the reason and what is possible instead, if no weight does what the adapter does.
    """


@hookspec(firstresult=True)
def unmerge(  # type: ignore[empty-body]
    adapter: Adapter, target: Target, merged: View, kept: Mapping[str, Tensor], weight: float
) -> View:
    """The View below: the algebraic inverse of `merge`, to fp32 rounding. `kept` is what the method asked to keep.

    Bit-exactness is not the method's business: no arithmetic can give it. The caller rounds, applies the receipt's
    patch and checks the digest (decision 0003). Raises `NotPossible` where there is no inverse even with `kept`.
    """


# ---------------------------------------------------------------- on the adapter


@hookspec(firstresult=True)
def quantize(adapter: Adapter, scheme: str) -> Adapter:  # type: ignore[empty-body]
    """The same adapter with its tensors stored in `scheme`: same targets, same method, a new digest.

    The relative error it caused, against what was quantised first, is declared in `adapter.quantization["error"]`, and
    of what it is in `["of"]`: `delta`, `change`, `tensors` or `parts` (decision 0016). Raises `UsageError` for an
    unknown scheme, `NonFinite`, and `Unsupported` where a method's tensors must not be quantised.
    """


def parse_mark(name: str) -> Mapping[str, Any] | None:
    """The hook options of an undecorated method called `name`, or None if it is no hook."""
    if name not in HOOKS:
        return None
    return {
        "wrapper": False,
        "hookwrapper": False,
        "optionalhook": False,
        "tryfirst": False,
        "trylast": False,
        "specname": None,
    }
