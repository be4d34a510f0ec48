"""Run a base model with adapters attached: generate or classify. The model comes from transformers.

Adapters are attached through their hooks, never merged, so methods without a weight work as well.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from adaptr import foreign, plugins
from adaptr.adapter import weighting
from adaptr.converting.drop import dropped, numbered
from adaptr.errors import CheckpointError, Unsupported, UsageError
from adaptr.models import sizes
from adaptr.models.belonging import require_named
from adaptr.models.load import explained, model_at, quiet_transformers
from adaptr.report import Report
from adaptr.runtime import answer
from adaptr.runtime.answer import Answer, Told
from adaptr.sources.given import Several, opened, several
from adaptr.sources.resolve import Place, resolve

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from adaptr.adapter import Adapter

TASKS = ("auto", "generate", "classify")
DTYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
#: What an architecture's name ends in, and what such a model does.
_HEADS = {
    "ForSequenceClassification": "classify",
    "ForCausalLM": "generate",
    "LMHeadModel": "generate",
    "ForConditionalGeneration": "generate",
}
#: What PEFT's task types mean here; others are tasks that this can't run. `FEATURE_EXTRACTION` says nothing.
_TASK_TYPES = {"SEQ_CLS": "classify", "CAUSAL_LM": "generate", "SEQ_2_SEQ_LM": "generate"}
#: The last layer of a classifier, among the parameters that an adapter replaces.
_CLASSIFIER = re.compile(r"(.*\.)?(classifier|score|classifier\.out_proj)\.weight")
#: Files that tokenizers come in; vocabularies of a kind of their own have any name.
_TOKENIZERS = ("*tokeniz*", "vocab*", "*.model", "*.tiktoken", "*.bpe")


@dataclass(frozen=True)
class ApplyReport(Report):
    """The answers, and with what they were made."""

    base: str
    architecture: str
    task: str
    dtype: str
    adapters: tuple[Mapping[str, Any], ...]
    answers: tuple[Answer, ...]

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def apply(
    base: Place,
    adapters: Several = (),
    prompts: str | Sequence[str] = (),
    *,
    task: str = "auto",
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    dtype: str = "auto",
    any_base: bool = False,
    drop: str | Iterable[int] | None = None,
    told: Told | None = None,
) -> ApplyReport:
    """Answer `prompts`, one or several, with the model at `base` and `adapters` attached in their order.

    `adapters`: none, one or several, alone or with a weight. `task`: `generate` or `classify`; `auto` asks the model.
    `max_new_tokens`: of an answer, at most. `dtype`: of the base, `fp32`, `bf16` or `fp16`; `auto` for the one that its
    files have. `drop`: layers, such as "0-4", of each stack, in which no adapter is, as `adaptr.drop` writes it.
    `told`: gets the text of the answers while it comes.

    `temperature` 0 takes the likeliest token; above, tokens are drawn with `seed`. Raises `UsageError` without a prompt
    and for an unknown task or dtype, `MissingExtra` without transformers, `CheckpointError` for a base that can't be
    loaded or lacks weights, `Unsupported` if the model does neither task, `WrongBase` for an adapter that names another
    base and says nothing else of it, unless `any_base`, and whatever attaching raises.
    """
    asked = [prompts] if isinstance(prompts, str) else list(prompts)
    if not asked:
        raise UsageError("there is no prompt", hint="give one text or several")
    root, given = resolve(base), several(adapters, least=0)
    loaded = [(opened(each.what, root.path), weighting.number(each.weight, each.label)) for each in given]
    gone = numbered(drop) if drop is not None else set()
    if gone:
        loaded = [(dropped(adapter, gone, root.path), weight) for adapter, weight in loaded]
    model, tokenizer, chosen = ready(root.path, [adapter for adapter, _ in loaded], task, dtype, any_base)
    with _attached(model, loaded):
        if chosen == "classify":
            answers = [answer.classify(model, tokenizer, prompt) for prompt in asked]
        else:
            answers = [answer.generate(model, tokenizer, p, max_new_tokens, temperature, seed, told) for p in asked]
    return ApplyReport(
        base=root.given,
        architecture=type(model).__name__,
        task=chosen,
        dtype=str(model.dtype).removeprefix("torch."),
        adapters=tuple(
            {"source": each.label, "method": a.method, "weight": w, **({"dropped": sorted(gone)} if gone else {})}
            for each, (a, w) in zip(given, loaded, strict=True)
        ),
        answers=tuple(answers),
    )


def ready(
    base: Path, adapters: Sequence[Adapter], task: str, dtype: str, any_base: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """The model at `base` for these adapters, which are not attached yet, its tokenizer, and the task that it does."""
    transformers = quiet_transformers()
    require_named(base, adapters, any_base)
    config = explained(base, transformers.AutoConfig.from_pretrained)
    chosen = _task(base, task, config, adapters)
    tokenizer = _tokenizer(transformers, base)  # before the model, which takes longer to load
    return _model(transformers, base, chosen, config, adapters, dtype), tokenizer, chosen


def _tokenizer(transformers: ModuleType, base: Path) -> PreTrainedTokenizerBase:
    if base.is_dir() and not any(path for pattern in _TOKENIZERS for path in base.glob(pattern)):
        raise CheckpointError(
            f"`{base}` has no tokenizer (`tokenizer.json` or its kin), so prompts can't be read",
            hint="put the one that the model was trained with into the folder",
        )
    return explained(base, transformers.AutoTokenizer.from_pretrained)


def _task(base: Path, asked: str, config: PretrainedConfig, adapters: Sequence[Adapter]) -> str:
    if asked != "auto":
        return asked
    for adapter in adapters:
        said = adapter.foreign.get("peft", {}).get("config", {}).get("task_type") or "FEATURE_EXTRACTION"
        if said not in {*_TASK_TYPES, "FEATURE_EXTRACTION"}:
            raise Unsupported(
                f"`{adapter.label}` was trained for {said}, which is neither generating nor classifying text",
                hint="say what to do with `--task`",
            )
        if said in _TASK_TYPES or _labels(adapter):
            return _TASK_TYPES.get(said, "classify")
    names = config.architectures or []
    found = next((task for name in names for end, task in _HEADS.items() if name.endswith(end)), None)
    if found is None:
        raise Unsupported(
            f"`{base}` is a {' or '.join(names) or 'model of unknown architecture'}, which neither generates "
            "text nor classifies it",
            hint="say what to do with `--task`",
        )
    return found


def _labels(adapter: Adapter) -> int:
    """How many classes the classifier has that the adapter brings along; 0 without one."""
    return next((t.shape[0] for path, t in adapter.replaced.items() if _CLASSIFIER.fullmatch(path)), 0)


def _model(
    transformers: ModuleType, base: Path, task: str, config: PretrainedConfig, adapters: Sequence[Adapter], dtype: str
) -> PreTrainedModel:
    kind = "Seq2SeqLM" if config.is_encoder_decoder else "CausalLM"
    auto = getattr(transformers, f"AutoModelFor{'SequenceClassification' if task == 'classify' else kind}")
    labels = next((n for a in adapters if (n := _labels(a))), 0)
    if task == "classify" and labels and labels != config.num_labels:
        config.num_labels = labels
    model, info = model_at(base, auto.from_pretrained, config=config, dtype=_dtype(dtype), output_loading_info=True)
    brought = {path for a in adapters for path in a.replaced}
    missing = sorted(set(info["missing_keys"]) - brought)
    if missing:
        others = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise CheckpointError(
            f"`{base}` has no weights for `{missing[0]}`{others}, which a {type(model).__name__} needs, and no "
            "adapter brings them: their random values would make the answers noise",
            hint="give the adapter that was trained with them, or say another `--task`",
        )
    names = sizes.classes(adapters)
    if task == "classify" and len(names) == model.config.num_labels:  # the base's own are another head's
        model.config.id2label = dict(enumerate(names))
    return model.eval()


def _dtype(name: str) -> torch.dtype | str:
    import torch

    return "auto" if name == "auto" else getattr(torch, DTYPES[name])


@contextmanager
def _attached(model: nn.Module, adapters: Sequence[tuple[Adapter, float]]) -> Iterator[None]:
    with ExitStack() as stack:
        for adapter, weight in adapters:
            foreign.require(adapter, model)
            hooks = plugins.hooks(adapter.method)
            stack.enter_context(hooks.apply(model=model, adapter=adapter, weight=weight))
        yield
