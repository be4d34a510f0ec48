"""The loss of each record of a batch, exactly: a sum and what it is divided by, so that means of any records follow.

A model gives the mean over a batch, in which a long record counts more than a short one and padding changes who is
with whom. Which loss is the model's own is not taken for granted: what is computed here is held against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers.utils import ModelOutput

#: (summed loss, what it is divided by), (b) each, in fp64.
Rows = tuple["Tensor", "Tensor"]
#: How a loss follows from labels and outputs.
Way = Callable[[Mapping[str, "Tensor"], "ModelOutput"], Rows]

#: What a label is where the loss does not count it.
IGNORED = -100
#: How far, as a share, a model's own loss may be from what is computed here: some compute theirs in bf16.
ROUNDING = 1e-2


class Losses:
    """The losses of one model, batch by batch."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._way: Way | None = None

    def __call__(self, batch: Mapping[str, Tensor]) -> Rows:
        """Raises `Unsupported` where the model's own loss is none that is known here."""
        if self._way is None or self.model.config.is_encoder_decoder:  # type: ignore[union-attr]
            output = self.model(**batch)
            self._way = self._way or _way(batch, output)
        else:  # without labels, as a model makes copies of all its logits for them
            output = self.model(**{name: value for name, value in batch.items() if name not in _LABELS})
        return self._way(batch, output)


_LABELS = frozenset({"labels", "start_positions", "end_positions"})


def _way(batch: Mapping[str, Tensor], output: ModelOutput) -> Way:
    """The way that gives the model's own loss of a batch."""
    own = float(output.loss)

    def apart(way: Way) -> float:
        total, count = way(batch, output)
        return abs(float(total.sum() / count.sum()) - own)

    best = min(_ways(batch, output), key=apart)  # several may be near, as of a model that knows nothing yet
    if own == own and apart(best) > ROUNDING * abs(own) + 1e-6:
        raise Unsupported(
            f"the loss of a `{type(output).__name__}` is {own:.6g} for a batch",
            want="one that follows from the losses of its records",
        )
    return _unfilled_span if best is _span else best


def _ways(batch: Mapping[str, Tensor], output: ModelOutput) -> list[Way]:
    """The ways that shapes allow."""
    if "start_positions" in batch:
        return [_span]
    labels, logits = batch["labels"], output.logits
    if labels.is_floating_point():
        return [_squares] if labels.numel() == logits.numel() == len(labels) else [_several]
    return [_class] if labels.ndim == 1 else [_next, _each]


def _class(batch: Mapping[str, Tensor], output: ModelOutput) -> Rows:
    from torch.nn.functional import cross_entropy

    found = cross_entropy(output.logits.double(), batch["labels"], reduction="none")
    return found, found.new_ones(len(found))


def _squares(batch: Mapping[str, Tensor], output: ModelOutput) -> Rows:
    found = (output.logits.double().flatten() - batch["labels"].double().flatten()) ** 2
    return found, found.new_ones(len(found))


def _several(batch: Mapping[str, Tensor], output: ModelOutput) -> Rows:
    from torch.nn.functional import binary_cross_entropy_with_logits

    found = binary_cross_entropy_with_logits(output.logits.double(), batch["labels"].double(), reduction="none")
    return found.flatten(1).mean(1), found.new_ones(len(found))


def _span(batch: Mapping[str, Tensor], output: ModelOutput) -> Rows:
    from torch.nn.functional import cross_entropy

    start = cross_entropy(output.start_logits.double(), batch["start_positions"], reduction="none")
    end = cross_entropy(output.end_logits.double(), batch["end_positions"], reduction="none")
    return (start + end) / 2, start.new_ones(len(start))


def _unfilled_span(batch: Mapping[str, Tensor], output: ModelOutput) -> Rows:
    """The same of each record as if it were alone: a model's own loss lets what fills rows up be an answer too."""
    filled = batch["attention_mask"] == 0
    start, end = (logits.masked_fill(filled, float("-inf")) for logits in (output.start_logits, output.end_logits))
    return _span(batch, type(output)(start_logits=start, end_logits=end))


def _next(batch: Mapping[str, Tensor], output: ModelOutput) -> Rows:
    """Of a causal model: each position says the next one."""
    return _tokens(output.logits[:, :-1], batch["labels"][:, 1:])


def _each(batch: Mapping[str, Tensor], output: ModelOutput) -> Rows:
    return _tokens(output.logits, batch["labels"])


def _tokens(logits: Tensor, labels: Tensor) -> Rows:
    """Row by row, and only where there is a label: logits are as wide as the vocabulary."""
    import torch
    from torch.nn.functional import cross_entropy

    counts = (labels != IGNORED).sum(1).double()
    sums = [
        cross_entropy(line[chosen].float(), mine[chosen], reduction="none").double().sum()
        for line, mine in zip(logits, labels, strict=True)
        for chosen in [mine != IGNORED]
    ]
    return torch.stack(sums), counts
