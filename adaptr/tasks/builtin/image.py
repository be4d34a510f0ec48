"""Image classification."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.data.records import Record
from adaptr.errors import DataError
from adaptr.tasks.base import Batch, Encoded, Example, Limits, Tools
from adaptr.tasks.classes import Classes
from adaptr.tasks.labels import labels_of
from adaptr.tasks.media import Medium, picture
from adaptr.tasks.models import loaded
from adaptr.tasks.numbers import array

if TYPE_CHECKING:
    from torch import Tensor, nn


class ImageClassification(Classes):
    """`image`: a file beside the data, or pixels (height, width, 3); or `pixel_values` as the model takes them. `label`
    names the class. Images are opened as they are put into a batch.
    """

    name = "image"
    summary = "Say which of some classes an image is of."
    columns = (("image", "label"), ("pixel_values", "label"))

    def labels(self, records: Sequence[Record], base: Path | None = None) -> tuple[str, ...]:
        return labels_of(records, base, "ForImageClassification")

    def model(self, base: Path, labels: Sequence[str], **load: object) -> nn.Module:
        return loaded(base, "AutoModelForImageClassification", labels, load)

    def encode(self, records: Iterable[Record], tools: Tools, limits: Limits) -> Iterator[Encoded]:
        for record in records:
            answer = self.number(record, limits)
            if "pixel_values" in record.values:
                yield Encoded({"pixel_values": array(record, "pixel_values", 3), "labels": answer}, record)
                continue
            medium = Medium(record.values.get("image"), record.place)
            picture(medium)  # a file that is none is told before anything is trained
            yield Encoded({"image": medium, "labels": answer}, record)

    def collate(self, examples: Sequence[Example], tools: Tools) -> Batch:
        import torch

        pixels = [_values(example, tools) for example in examples]
        return {"pixel_values": torch.stack(pixels), "labels": torch.tensor([one["labels"] for one in examples])}


def _values(example: Example, tools: Tools) -> Tensor:
    """(3, height, width), as the base's processor makes them."""
    import torch

    if "pixel_values" in example:
        return torch.as_tensor(example["pixel_values"])
    if tools.processor is None:
        raise DataError(
            "the base has no `preprocessor_config.json`, so what it does to images isn't known",
            hint="give `pixel_values`, or a base with its processor",
        )
    medium: Medium = example["image"]  # type: ignore[assignment]
    found: Tensor = tools.processor(images=picture(medium), return_tensors="pt")["pixel_values"][0]
    return found
