"""All that a training depends on, as a value. Options, schema and documentation come from its fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

#: A range of what a field may be: the least, the most, and whether the least itself is out.
Bounds = tuple[float | None, float | None, bool]
#: Fields that name files, folders or artifacts, which have no place in a recipe's resolved form.
PLACES = frozenset({"base", "adapter", "over", "below", "data", "valid", "second"})
#: Fields of a fresh adapter, which one that is gone on from has already.
FRESH = ("config", "targets", "also", "over")


def said(
    help: str,
    default: Any = dataclasses.MISSING,
    *,
    group: str = "",
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
) -> Any:
    """A field with what is said of it. `group`: the heading it is shown below; the one before if none is given."""
    bounds: Bounds = (least if above is None else above, most, above is not None)
    about = {"help": help, "group": group, "bounds": bounds}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=about)
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Recipe:
    """One training. Texts that name files are meant from the recipe's own folder; `-` is standard input."""

    base: str = said("Folder or reference of a transformers model.", group="What")
    data: str = said("What to learn from: JSONL, JSON, CSV, TSV, text, Parquet, a datasets folder or hub name.")
    task: Literal["auto", "lm", "classify", "regress", "tag", "qa", "seq2seq", "speech", "image"] = said(
        "What is learned; by itself from base and columns.", "auto"
    )
    objective: Literal["sft", "dpo"] = said("Imitate answers, or prefer chosen to rejected ones.", "sft")
    method: str = said("Method of the adapter; several that learn together: `lora+prefix`.", "lora")
    config: Mapping[str, Any] = said("Fields of the method: `r: 16`; of one of several: `lora.r: 16`.", {})
    targets: str | Sequence[str] | None = said("Roles or patterns of layers; the method's own if none.", None)
    also: str | Sequence[str] = said("Trained whole beside it: head, norm, embed, or paths.", ())
    over: Sequence[str] = said("Adapters that it is made of, frozen: of a method that weighs or combines others.", ())
    below: Sequence[str] = said("Adapters that are on the base while it learns, frozen, the first lowest.", ())
    adapter: str | None = said("Go on from this adapter instead of a fresh one.", None)
    name: str = said("Name of the adapter.", "")

    valid: str | None = said("A file to measure on, or a share of the data: `5%`.", None, group="Data")
    second: str | None = said("A second text, on which forgetting is measured.", None)
    map: Mapping[str, str] = said("Columns by what they are called here: `prompt: question`.", {})
    length: int = said("Tokens of an example, at most.", 1024, least=2)
    pack: bool = said("Put several records into one row, each seeing only itself.", False)
    strict: bool = said("Refuse records that are cut.", False)

    steps: int | None = said("Steps of the optimiser.", None, least=1, group="Course")
    epochs: float = said("Passes over the data, where no steps are given.", 1.0, above=0)
    batch: int = said("Examples of one forward on one device.", 4, least=1)
    accumulate: int = said("Forwards of one step.", 1, least=1)
    rate: float | None = said("Learning rate; the method's own if none.", None, above=0)
    rates: Mapping[str, float] = said("Factors of the rate by the letters of tensors: `B: 16` is LoRA+.", {}, above=0)
    schedule: Literal["linear", "cosine", "constant", "polynomial", "inverse_sqrt", "wsd"] = said(
        "Of the learning rate.", "linear"
    )
    warmup: float = said("Steps of rising rate, or a share of all below 1.", 0.0, least=0)
    decay: float = said("Weight decay, on what the method says.", 0.0, least=0)
    clip: float = said("Norm that gradients are clipped to; 0 for none.", 1.0, least=0)
    optimizer: Literal["adamw", "adafactor", "sgd", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"] = said(
        "What takes the steps.", "adamw"
    )
    beta: float = said("Of DPO: how far the preference may move the model.", 0.1, above=0)
    smoothing: float = said("Label smoothing.", 0.0, least=0, most=1)
    seed: int = said("Of the adapter, the order and dropout.", 0, least=0, most=2**32 - 1)

    dtype: Literal["auto", "fp32", "bf16", "fp16"] = said("What the forward computes in.", "auto", group="Machine")
    base_quant: Literal["none", "nf4", "int8"] = said("Load the base in fewer bits.", "none")
    double_quant: bool = said("Quantise nf4's scales as well.", False)
    checkpointing: bool = said("Compute activations twice instead of keeping them.", False)
    compile: bool = said("Compile the model.", False)
    device: Literal["auto", "cpu", "cuda", "mps"] = said("Where.", "auto")

    save_every: int = said(
        "Steps between checkpoints; 0: only where training is interrupted.", 100, least=0, group="Output"
    )
    eval_every: int = said("Steps between measurements on the validation data; 0: before and after only.", 0, least=0)
    log_every: int = said("Steps between points of the curves.", 1, least=1)
    report_to: Sequence[str] = said("tensorboard, wandb, where installed.", ())
    samples: int = said("Answers shown before and after.", 3, least=0)


def places(value: str | Sequence[str] | None) -> list[str]:
    """Those that a field of places has."""
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def resolved(recipe: Recipe, digests: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe as the manifest keeps it: no places, data by digest. `digests`: of `base`, `data`, `valid` ..."""
    found = {key: value for key, value in dataclasses.asdict(recipe).items() if key not in PLACES}
    return {**found, **digests}
