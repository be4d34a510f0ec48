"""Perplexity of a text as a whole: windows that overlap, each token counted once and with what was before it.

What a model forgets by learning something else shows in a second text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import DataError, NonFinite, UsageError
from adaptr.evaluating.losses import IGNORED, Losses
from adaptr.evaluating.measure import Measured, Progress, asking

if TYPE_CHECKING:
    from torch import nn

    from adaptr.evaluating.setting import Setting
    from adaptr.tasks.base import Tools

#: Bytes that are read of a second text, at most.
MOST = 1 << 30


@dataclass(frozen=True)
class Text:
    """A text and the digest of the file that it came from."""

    text: str
    digest: str

    @classmethod
    def read(cls, path: Path) -> Text:
        """Raises `InputError` where there is no such file, `DataError` for one that is no text."""
        from adaptr.untrusted import whole

        raw = whole(path, MOST)
        try:
            return cls(raw.decode(), "sha256:" + hashlib.sha256(raw).hexdigest())
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            raise DataError(f"`{path}`, line {line}: not UTF-8", hint="save it as UTF-8") from None


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
