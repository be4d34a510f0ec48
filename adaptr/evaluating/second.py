"""Perplexity of a text as a whole: windows that overlap, each token counted once and with what was before it.

What a model forgets by learning something else shows in a second text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from adaptr import data
from adaptr.data.format import FORMATS, by_name
from adaptr.data.formats.text import Text as Plain
from adaptr.data.source import source
from adaptr.errors import DataError, NonFinite, UsageError
from adaptr.evaluating.losses import IGNORED, Losses
from adaptr.evaluating.measure import Measured, Progress, asking

if TYPE_CHECKING:
    from torch import nn

    from adaptr.evaluating.setting import Setting
    from adaptr.tasks.base import Tools


@dataclass(frozen=True)
class Text:
    """A text and the digest of the file that it came from."""

    text: str
    digest: str

    @classmethod
    def read(cls, given: str | Path) -> Text:
        """A file of text as it is; of records, their texts with an empty line between. Raises `InputError` where there
        is no such file, `DataError` for one that is no text.
        """
        if _is_plain(given):
            with closing(source(str(given))) as found:
                return cls(found.text(), found.digest)
        records = data.read(given)
        return cls("\n\n".join(record.text("text") for record in records.records), records.digest)


def _is_plain(given: str | Path) -> bool:
    """Whether it is a file, and of no format that has records."""
    others = (by_name(name) for name in FORMATS.names() if name != Plain.name)
    end = PurePath(str(given).removesuffix(".gz")).suffix[1:].lower()
    return Path(given).is_file() and not any(end in one.suffixes for one in others)


def measured(here: Setting, text: Text, progress: Progress | None = None) -> Measured:
    """A second text on the model as it is now. Raises `UsageError` where the model does not go on with texts."""
    if here.task.trainer != "sft":
        raise UsageError(
            f"a second text is for models that go on with a text, which task `{here.task.name}` does not",
            hint="leave it out",
        )
    return second(here.model, text.text, here.tools, here.limits.length, progress=progress)


def windows(count: int, length: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, from where it counts) of windows over `count` tokens, each counted in one of them."""
    done = 0
    for start in range(0, count, stride):
        end = min(start + length, count)
        yield start, end, done
        done = end
        if end == count:
            return


def second(
    model: nn.Module, text: str, tools: Tools, length: int, stride: int | None = None, progress: Progress | None = None
) -> Measured:
    """The loss of a causal model on `text`, a window a record.

    `length`: tokens of a window; `stride`: of them new in each, half of them if None. The first token of a text has
    nothing before it and does not count. Raises `DataError` for a text of fewer than two tokens, `NonFinite`.
    """
    import numpy as np
    import torch

    assert tools.tokenizer is not None
    ids: Sequence[int] = tools.tokenizer(text, add_special_tokens=True, verbose=False)["input_ids"]
    if len(ids) < 2:
        raise DataError(
            "the second text",
            verb="has",
            got=f"{len(ids)} tokens",
            want="at least 2, to say one of them",
            hint="give a longer one",
        )
    loss, found = Losses(model), []
    places = list(windows(len(ids), length, stride or max(length // 2, 1)))
    device = next(model.parameters()).device
    with asking(model):
        for number, (start, end, new) in enumerate(places, 1):
            tokens = torch.tensor([ids[start:end]], device=device)
            labels = tokens.clone()
            labels[:, : new - start] = IGNORED
            total, count = loss({"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels})
            found.append((float(total), float(count)))
            if progress is not None:
                progress(number, len(places), "second text")
    rows = np.array([row for row in found if row[1]])
    if not np.isfinite(rows).all():
        raise NonFinite("the loss on the second text is NaN or infinite", hint="compute in fp32 (`--dtype fp32`)")
    return Measured(rows, worded=True)
