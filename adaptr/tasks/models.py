"""Bases with the head of a task, and which of their modules were drawn and not read."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import CheckpointError
from adaptr.models.load import explained, model_at, quiet_transformers
from adaptr.tasks.labels import tells

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig
    from transformers.models.auto.auto_factory import _BaseAutoModelClass
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
    """The base as `auto` ("AutoModelForCausalLM", ...) loads it. `labels`: of its head, fresh unless it tells these.
    `load`: what `from_pretrained` gets; `options`: what its configuration gets; `head`: whether the head may be fresh
    without names.

    Raises `CheckpointError`, also where more is missing than a head.
    """
    transformers = quiet_transformers()
    given, kind = {}, getattr(transformers, auto)
    if labels:
        ids = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
        given["config"] = explained(base, transformers.AutoConfig.from_pretrained, **ids, **(options or {}))
    model, info = model_at(
        base,
        kind.from_pretrained,
        output_loading_info=True,
        ignore_mismatched_sizes=bool(labels),
        **{**given, **_floats(base, kind, given.get("config"), load or {}, head or bool(labels))},
    )
    drawn = {*info["missing_keys"], *(str(key[0]) for key in info["mismatched_keys"])}
    if len(labels) > 1 and not tells(base, labels):  # one output is a number, whatever it is called
        drawn |= _anew(model, {*_of_labels(kind, given["config"])} - drawn)
    _require_head(model, base, drawn if not (labels or head) else {n for n in drawn if not of_head(model, n)})
    setattr(model, FRESH, tuple(sorted(drawn)))
    found: nn.Module = model
    return found


def _floats(
    base: Path, kind: type[_BaseAutoModelClass], config: PretrainedConfig | None, load: Mapping[str, object], head: bool
) -> dict[str, object]:
    """`load` with what may be fresh left out of the packing: codes learn nothing, and transformers leaves out no head
    that has a bias.
    """
    found, packing = dict(load), copy.copy(load.get("quantization_config"))
    if packing is not None and head:
        import torch
        import transformers

        with torch.device("meta"):
            own = kind.from_config(config or explained(base, transformers.AutoConfig.from_pretrained))
        names = {name.rpartition(".")[0] for name, _ in own.named_parameters() if of_head(own, name)}
        packing.llm_int8_skip_modules = sorted(names)  # type: ignore[attr-defined]
        found["quantization_config"] = packing
    return found


def _anew(model: nn.Module, names: Iterable[str]) -> set[str]:
    """Draw the parameters of the modules that have these, as transformers draws what a base has not; all of them."""
    import torch

    found = {name.rpartition(".")[0]: model.get_submodule(name.rpartition(".")[0]) for name in names}
    with torch.no_grad():
        for module in found.values():
            for p in module.parameters(recurse=False):
                p._is_hf_initialized = False  # type: ignore[attr-defined]
            model._init_weights(module)  # type: ignore[operator]
    return {f"{path}.{name}" for path, module in found.items() for name, _ in module.named_parameters(recurse=False)}


def _of_labels(kind: type[_BaseAutoModelClass], config: PretrainedConfig) -> list[str]:
    """The parameters that are for as many outputs as there are labels."""
    import torch

    wider = copy.deepcopy(config)
    wider.num_labels += 1
    with torch.device("meta"):
        own, other = (dict(kind.from_config(one).named_parameters()) for one in (config, wider))
    return [name for name, p in own.items() if p.shape != other[name].shape]


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
    """The model told which token fills rows, whatever its configuration says: a decoder answers at the last token that
    is none.
    """
    from adaptr.tasks.tools import tools

    config: PretrainedConfig = model.config.get_text_config()  # type: ignore[union-attr, operator]
    config.pad_token_id = tools(base).pad
    return model


def placed(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """A batch where the model is."""
    device = next(model.parameters()).device
    return {name: tensor.to(device) for name, tensor in batch.items()}
