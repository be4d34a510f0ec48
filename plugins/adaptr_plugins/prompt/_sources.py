"""Prompts of source tasks that another learns of, all in one training: which rows are of which, and what they have."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from adaptr import SoftPrompt, plugins
from adaptr.contract.lifecycle import TASKS
from adaptr.errors import Unsupported, UsageError
from adaptr.families.prompt import placed_otherwise, require_in_front

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter
    from adaptr.contract import Live, Run
    from adaptr.host import Session

TAUGHT = "taught"


def fronts(method: str, children: Adapter, said: Mapping[str, Any]) -> Tensor:
    """The rows (n, tokens, d) of the prompts that `children` has. Raises `Unsupported` for what is none of a length, or
    stands elsewhere than what learns of them, by what is `said` of that.
    """
    import torch

    rows = [_front(method, name, children.part(name), said) for name in children.parts]
    if any(P.shape != rows[0].shape for P in rows):
        lengths = ", ".join(sorted({str(len(P)) for P in rows}))
        raise Unsupported(f"`{method}` learns of prompts of one length", got=f"{lengths} tokens")
    return torch.stack(rows)


def _front(method: str, name: str, part: Adapter, said: Mapping[str, Any]) -> Tensor:
    own = plugins.method(part.method)
    if not isinstance(own, SoftPrompt):
        raise Unsupported(f"`{method}` learns of prompts, and `{name}` is `{part.method}`", hint="leave it out")
    if any(part.config[field] != said.get(field) for field in placed_otherwise(part)):
        require_in_front(part, f"`{method}` learns of prompts that stand where it does")
    cfg = own.config(part.config)
    return own.front(part.at(""), cfg)["P"][: part.config["tokens"]].float()


def staged(adapter: Adapter, said: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Adapter:
    """`adapter` at another stage: with these fields of the configuration, and these tensors for its own."""
    targets = {path: dataclasses.replace(t, config={**t.config, **said}) for path, t in adapter.targets.items()}
    whole = {key: tensor for key, tensor in adapter.tensors.items() if key.endswith(":=")}
    own = {f":{name}": tensor.contiguous() for name, tensor in tensors.items()}
    return adapter.replace(config={**adapter.config, **said}, targets=targets, tensors={**whole, **own})


def ungiven(method: str) -> UsageError:
    """The refusal of a stage over sources that has none."""
    return UsageError(
        f"`{method}` learns of prompts of source tasks, and none was given",
        hint="name them by `over`, or give them as `children={name: adapter}`",
    )


def tasks_of(p: Live) -> Tensor | None:
    """The task of each row of the batch, None in a forward of which nobody says it."""
    return cast("Tensor | None", p.context.said(p, TASKS))  # type: ignore[arg-type]


def taught(p: Live) -> bool:
    """Whether the forward is one with the sources' own prompts."""
    return bool(p.context.said(p, TAUGHT))  # type: ignore[arg-type]


# ---------------------------------------------------------------- what the sources' own prompts do


class Seen(NamedTuple):
    """What a forward puts out: logits (batch, ..., classes), states of the last layer (batch, T, d), and where in both
    something is learned, or read.
    """

    logits: Tensor
    states: Tensor
    learned: Tensor
    real: Tensor


def distilled(session: Session, run: Run) -> tuple[Tensor, Tensor]:
    """The loss of a forward, and how far it is from one with the sources' own prompts: KL of what is predicted, and the
    squared distance of the last layer's states, each a mean over tokens.
    """
    import torch

    with _watched(session.model) as given:
        with torch.no_grad(), session.saying(**{TAUGHT: True}):
            theirs = _seen(session.model, run()[1], given)
        loss, output = run()
        own = _seen(session.model, output, given)
    p, q = theirs.logits.float().log_softmax(-1), own.logits.float().log_softmax(-1)
    apart = _mean((p.exp() * (p - q)).sum(-1), own.learned)
    return loss, apart + _mean((theirs.states - own.states).float().square().mean(-1), own.real)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp(min=1)


@contextmanager
def _watched(model: nn.Module) -> Iterator[dict[str, Any]]:
    """What the model is given, which puts out its states as well."""
    given: dict[str, Any] = {}

    def before(
        module: nn.Module, args: tuple[object, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[object, ...], dict[str, Any]]:
        given.update(kwargs)
        return args, {**kwargs, "output_hidden_states": True}

    hook = model.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
    try:
        yield given
    finally:
        hook.remove()


def _seen(model: nn.Module, output: Mapping[str, Any] | None, given: dict[str, Any]) -> Seen:
    """Raises `Unsupported` where a task's output has no logits or no states."""
    import torch

    said = vars(model.config)
    two, output = bool(said["is_encoder_decoder"]), output or {}
    states = output.get("decoder_hidden_states" if two else "hidden_states")
    logits, labels = output.get("logits"), given.get("labels")
    if logits is None or not states:
        raise Unsupported("this task's output has no logits or states to compare", hint="say `distill=0`")
    h = states[-1]
    learned = torch.ones(logits.shape[:-1], dtype=torch.bool, device=logits.device)
    if labels is not None and labels.shape == learned.shape:
        goes_on = logits.ndim == 3 and not two and logits.shape[-1] == said.get("vocab_size")
        learned = labels != -100
        learned = torch.nn.functional.pad(learned[:, 1:], (0, 1)) if goes_on else learned
    mask = learned if two else given.get("attention_mask")
    real = mask.bool() if mask is not None and mask.shape == h.shape[:2] else h.new_ones(h.shape[:2], dtype=torch.bool)
    return Seen(logits, h, learned, real)
