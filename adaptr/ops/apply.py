"""Run a base model with adapters attached: generate or classify. The model comes from transformers.

Adapters are attached through their hooks, never merged, so methods without a weight work as well.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.errors import CheckpointError, MissingExtra, Unsupported, UsageError
from adaptr.ops.open import open_adapter

if TYPE_CHECKING:
    from adaptr.adapter import Adapter

Source = str | os.PathLike[str]

TASKS = ("auto", "generate", "classify")
DTYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
#: What an architecture's name ends in, and what such a model does.
_HEADS = {
    "ForSequenceClassification": "classify",
    "ForCausalLM": "generate",
    "LMHeadModel": "generate",
    "ForConditionalGeneration": "generate",
}
#: The last layer of a classifier, among the parameters that an adapter replaces.
_CLASSIFIER = re.compile(r"(.*\.)?(classifier|score|classifier\.(out_proj|dense))\.weight")


@dataclass(frozen=True)
class Answer:
    """What the model said to one prompt.

    When generating, `text` and `tokens`; when classifying, `text` is the label and `scores` each label's probability.
    """

    prompt: str
    text: str
    tokens: tuple[int, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ApplyReport:
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
    base: Source,
    adapters: Sequence[tuple[Source, float]],
    prompts: Sequence[str],
    *,
    task: str = "auto",
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    dtype: str = "auto",
) -> ApplyReport:
    """Answer `prompts` with the model at `base` and `adapters` ((source, weight) each) attached in their order.

    `temperature` 0 takes the likeliest token; above, tokens are drawn with `seed`. Raises `MissingExtra` without
    transformers, `CheckpointError` for a base that can't be loaded or lacks weights, `Unsupported` if the model does
    neither task, and whatever attaching raises.
    """
    transformers = _transformers()
    if not prompts:
        raise UsageError("there is no prompt")
    loaded = [(open_adapter(Path(source), base).adapter, weight) for source, weight in adapters]
    config = _explained(base, transformers.AutoConfig.from_pretrained)
    chosen = _task(base, task, config, [a for a, _ in loaded])
    model = _model(transformers, base, chosen, config, [a for a, _ in loaded], dtype)
    tokenizer = _explained(base, transformers.AutoTokenizer.from_pretrained)
    with _attached(model, loaded):
        if chosen == "classify":
            answers = [_classify(model, tokenizer, prompt) for prompt in prompts]
        else:
            answers = [_generate(model, tokenizer, p, max_new_tokens, temperature, seed) for p in prompts]
    return ApplyReport(
        base=str(base),
        architecture=type(model).__name__,
        task=chosen,
        dtype=str(model.dtype).removeprefix("torch."),
        adapters=tuple(
            {"source": str(s), "method": a.method, "weight": w} for (s, _), (a, w) in zip(adapters, loaded, strict=True)
        ),
        answers=tuple(answers),
    )


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra("running a model needs transformers: `pip install 'adaptr[train]'`") from error
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _explained(base: Source, load: Callable[..., Any], **options: Any) -> Any:
    """What `load` gives for the base, from this machine only."""
    try:
        return load(base, local_files_only=True, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"`{base}` can't be loaded by transformers: {reason}") from error


def _task(base: Source, asked: str, config: Any, adapters: Sequence[Adapter]) -> str:
    if asked != "auto":
        return asked
    if any(_labels(a) for a in adapters):
        return "classify"
    names = config.architectures or []
    found = next((task for name in names for end, task in _HEADS.items() if name.endswith(end)), None)
    if found is None:
        raise Unsupported(
            f"`{base}` is a {' or '.join(names) or 'model of unknown architecture'}, which neither generates text nor "
            "classifies it; say what to do with `--task`"
        )
    return found


def _labels(adapter: Adapter) -> int:
    """How many classes the classifier has that the adapter brings along; 0 without one."""
    return next((t.shape[0] for path, t in adapter.replaced.items() if _CLASSIFIER.fullmatch(path)), 0)


def _model(transformers: Any, base: Source, task: str, config: Any, adapters: Sequence[Adapter], dtype: str) -> Any:
    kind = "Seq2SeqLM" if config.is_encoder_decoder else "CausalLM"
    auto = getattr(transformers, f"AutoModelFor{'SequenceClassification' if task == 'classify' else kind}")
    labels = next((n for a in adapters if (n := _labels(a))), 0)
    if task == "classify" and labels and labels != config.num_labels:
        config.num_labels = labels
    model, info = _explained(base, auto.from_pretrained, config=config, dtype=_dtype(dtype), output_loading_info=True)
    brought = {path for a in adapters for path in a.replaced}
    missing = sorted(set(info["missing_keys"]) - brought)
    if missing:
        others = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise CheckpointError(
            f"`{base}` has no weights for `{missing[0]}`{others}, which a {type(model).__name__} needs, and no adapter "
            "brings them; their random values would make the answers noise"
        )
    return model.eval()


def _dtype(name: str) -> Any:
    import torch

    return "auto" if name == "auto" else getattr(torch, DTYPES[name])


@contextmanager
def _attached(model: Any, adapters: Sequence[tuple[Adapter, float]]) -> Iterator[None]:
    with ExitStack() as stack:
        for adapter, weight in adapters:
            hooks = plugins.hooks(adapter.method)
            stack.enter_context(hooks.apply(model=model, adapter=adapter, weight=weight))
        yield


def _generate(model: Any, tokenizer: Any, prompt: str, most: int, temperature: float, seed: int) -> Answer:
    import torch

    torch.manual_seed(seed)
    given = tokenizer(prompt, return_tensors="pt").to(model.device)
    sampling = {"do_sample": True, "temperature": temperature} if temperature else _GREEDY
    end = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    with torch.no_grad():
        made = model.generate(**given, max_new_tokens=most, pad_token_id=end, **sampling)[0]
    fresh = made if model.config.is_encoder_decoder else made[given["input_ids"].shape[1] :]
    return Answer(prompt, tokenizer.decode(fresh, skip_special_tokens=True), tuple(fresh.tolist()))


#: A model's own generation settings may ask for sampling; these take it back.
_GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def _classify(model: Any, tokenizer: Any, prompt: str) -> Answer:
    import torch

    given = tokenizer(prompt, return_tensors="pt", truncation=True).to(model.device)
    with torch.no_grad():
        logits = model(**given).logits[0].float()
    names = model.config.id2label
    if len(logits) == 1:
        return Answer(prompt, f"{logits.item():.4g}", scores={names.get(0, "value"): logits.item()})
    several = model.config.problem_type == "multi_label_classification"
    shares = logits.sigmoid() if several else logits.softmax(-1)
    scores = {names.get(i, str(i)): share for i, share in enumerate(shares.tolist())}
    return Answer(prompt, max(scores, key=scores.__getitem__), scores=scores)
