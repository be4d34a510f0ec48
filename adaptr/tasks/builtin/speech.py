"""Speech to text: what is said in a sound, as Whisper writes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.data.records import Record
from adaptr.errors import DataError
from adaptr.tasks.base import Batch, Encoded, Example, Limits, Task, Tools
from adaptr.tasks.generating import written
from adaptr.tasks.media import Medium, sound
from adaptr.tasks.models import loaded
from adaptr.tasks.numbers import array
from adaptr.tasks.padding import IGNORED, padded
from adaptr.tasks.texts import needed, nonempty

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase


class Speech(Task):
    """`input_features` (bands, frames) as the model takes them, or `audio`: a file beside the data, or samples and
    their rate as `datasets` has them; with `text`. Sounds are turned into features as they are put into a batch.
    """

    name = "speech"
    summary = "Write down what is said."
    columns = (("input_features", "text"), ("audio", "text"))
    trainer = "seq2seq"
    metrics = ("wer",)

    def model(self, base: Path, labels: Sequence[str], **load: object) -> nn.Module:
        return loaded(base, "AutoModelForSpeechSeq2Seq", load=load)

    def encode(self, records: Iterable[Record], tools: Tools, limits: Limits) -> Iterator[Encoded]:
        tokenizer = needed(tools)
        for record in records:
            whole = _labels(nonempty(record, "text"), tokenizer)
            labels = whole[: limits.length]
            example = {**_sound(record, tools), "labels": labels}
            yield Encoded(example, record, len(whole) - len(labels), len(labels))

    def collate(self, examples: Sequence[Example], tools: Tools) -> Batch:
        import torch

        heard = torch.stack([_features(example, tools) for example in examples])
        return {"input_features": heard, **padded(examples, {"labels": IGNORED})}

    def predicted(self, model: nn.Module, batch: Batch, tools: Tools) -> Sequence[str]:
        """What the model writes, always the likeliest token."""
        return written(model, {"input_features": batch["input_features"]}, tools)

    def wanted(self, record: Record, limits: Limits) -> str:
        return record.text("text")


def _labels(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Without the first token that the tokenizer puts before: the model begins with it by itself."""
    ids: list[int] = tokenizer(text)["input_ids"]
    begins = list(getattr(tokenizer, "prefix_tokens", ()))[:1]
    ids = ids[1:] if begins and ids[:1] == begins else ids
    end = tokenizer.eos_token_id
    return ids if end is None or ids[-1:] == [end] else [*ids, end]


def _sound(record: Record, tools: Tools) -> Example:
    if "input_features" in record.values:
        return {"input_features": array(record, "input_features", 2)}
    medium = Medium(record.values.get("audio"), record.place)
    sound(medium, _rate(tools))  # a file that is none is told before anything is trained
    return {"audio": medium}


def _rate(tools: Tools) -> int:
    found = getattr(tools.processor, "feature_extractor", tools.processor)
    if found is None:
        raise DataError(
            "the base has no `preprocessor_config.json`, so how it hears isn't known",
            hint="give `input_features`, or a base with its processor",
        )
    return int(found.sampling_rate)


def _features(example: Example, tools: Tools) -> Tensor:
    """(bands, frames)"""
    import torch

    if "input_features" in example:
        return torch.as_tensor(example["input_features"])
    medium: Medium = example["audio"]  # type: ignore[assignment]
    extract = getattr(tools.processor, "feature_extractor", tools.processor)
    assert extract is not None
    rate = _rate(tools)
    found: Tensor = extract(sound(medium, rate), sampling_rate=rate, return_tensors="pt")["input_features"][0]
    return found
