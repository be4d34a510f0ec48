"""Bases with the head of a task, and which of their modules were drawn and not read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import CheckpointError
from adaptr.models.load import explained, quiet_transformers

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig
    from transformers.utils import ModelOutput

    from adaptr.tasks.base import Batch

#: Where `loaded` notes on a model which of its parameters are fresh; transformers says it once, while it loads.
FRESH = "adaptr_fresh"
#: What a batch says of the right answers.
LABELS = frozenset({"labels", "start_positions", "end_positions"})


def loaded(
    base: Path,
    auto: str,
    labels: Sequence[str] = (),
    load: Mapping[str, object] | None = None,
    options: Mapping[str, object] | None = None,
    head: bool = False,
) -> nn.Module:
    """The base as `auto` ("AutoModelForCausalLM", ...) loads it. `labels`: of its head, fresh unless it has as many.
    `load`: what `from_pretrained` gets; `options`: what its configuration gets; `head`: whether the head may be fresh
    without names.

    Raises `CheckpointError`, also where more is missing than a head.
    """
    transformers = quiet_transformers()
    given = {}
    if labels:
        ids = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
        given["config"] = explained(base, transformers.AutoConfig.from_pretrained, **ids, **(options or {}))
    model, info = explained(
        base,
        getattr(transformers, auto).from_pretrained,
        output_loading_info=True,
        ignore_mismatched_sizes=bool(labels),
        **{**given, **(load or {})},
    )
    drawn = {*info["missing_keys"], *(str(key[0]) for key in info["mismatched_keys"])}
    _require_head(model, base, drawn if not (labels or head) else {n for n in drawn if not of_head(model, n)})
    setattr(model, FRESH, tuple(sorted(drawn)))
    found: nn.Module = model
    return found


def of_head(model: nn.Module, name: str) -> bool:
    """Whether a parameter is outside the body that models of all tasks share, or of the pooler at its end."""
    body = str(getattr(model, "base_model_prefix", ""))
    return not name.startswith(f"{body}.") or ".pooler." in name


def _require_head(model: nn.Module, base: Path, missing: Iterable[str]) -> None:
    absent = sorted(missing)
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise CheckpointError(
            f"`{base}` has no `{absent[0]}`{more}, which {type(model).__name__} needs and would draw at random",
            hint="take a base that was trained for this task",
        )


def fresh(model: nn.Module) -> tuple[str, ...]:
    """Paths of the modules of `loaded` with parameters that the base has not."""
    names: tuple[str, ...] = getattr(model, FRESH, ())
    return tuple(sorted({name.rpartition(".")[0] for name in names}))


def answering(model: nn.Module, batch: Batch) -> ModelOutput:
    """What the model says to a batch, its labels left aside, without gradients."""
    import torch

    with torch.no_grad():
        return model(**{name: tensor for name, tensor in placed(model, batch).items() if name not in LABELS})


def with_filling(model: nn.Module, base: Path) -> nn.Module:
    """The model told which token fills rows: a decoder answers at the last token that is none."""
    config: PretrainedConfig = model.config
    if getattr(config, "pad_token_id", None) is None:
        from adaptr.tasks.tools import tools

        config.pad_token_id = tools(base).pad
    return model


def placed(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """A batch where the model is."""
    device = next(model.parameters()).device
    return {name: tensor.to(device) for name, tensor in batch.items()}
