"""What a model will see of data, counted, and what people should know of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from adaptr.data import statistics
from adaptr.data.records import Record, named
from adaptr.tasks.base import Encoded, Limits
from adaptr.tasks.labels import name_of


@dataclass(frozen=True)
class Statistics:
    """`tokens`: of all examples; `learned`: those with a loss; `cut_tokens`: those that were cut off, of `cut` records.
    `shortest`, `median`, `longest`: tokens of an example. `labels`: how often each name occurs. `length`: what
    examples are cut at.
    """

    records: int
    examples: int
    tokens: int
    learned: int
    cut: int
    cut_tokens: int
    duplicates: int
    shortest: int
    median: int
    longest: int
    labels: dict[str, int] = field(default_factory=dict)
    length: int = 0

    @property
    def said(self) -> tuple[str, ...]:
        """What is not as people would expect, a sentence each."""
        found = []
        if self.duplicates:
            found.append(f"{self.duplicates} of {self.records} records are there more than once")
        if self.cut:
            found.append(
                f"{self.cut} of {self.records} records are cut at {self.length} tokens, {self.cut_tokens} in all"
            )
        absent = [name for name, count in self.labels.items() if not count]
        if absent:
            found.append(f"the labels {named(absent)} never occur")
        return tuple(found)


def statistics_of(records: Sequence[Record], encoded: Sequence[Encoded], limits: Limits, length: int = 0) -> Statistics:
    """Of records and of the examples that they became. `length`: what these were cut at, where that is less."""
    lengths = sorted(map(tokens_of, encoded)) or [0]
    cut = [one for one in encoded if one.cut]
    return Statistics(
        records=len(records),
        examples=len(encoded),
        tokens=sum(lengths),
        learned=sum(one.learns for one in encoded),
        cut=len({id(one.record) for one in cut}),
        cut_tokens=sum(one.cut for one in cut),
        duplicates=statistics.duplicates(records),
        shortest=lengths[0],
        median=lengths[len(lengths) // 2],
        longest=lengths[-1],
        labels=_labels(records, limits.labels),
        length=length or limits.length,
    )


def tokens_of(one: Encoded) -> int:
    """Tokens of an example: of what goes in, else of what is wanted; 1 for what has none, as an image."""
    lists = [value for name, value in one.example.items() if name.endswith("ids") and isinstance(value, list)]
    if not lists and isinstance(one.example.get("labels"), list):
        lists = [one.example["labels"]]  # type: ignore[list-item]
    return sum(len(ids) for ids in lists if ids is not one.example.get("token_type_ids")) or 1


def _labels(records: Sequence[Record], names: Sequence[str]) -> dict[str, int]:
    """How often each of the names stands under `label`, or among `tags`."""
    found: Counter[str] = Counter()
    for record in records if names else ():
        tags = record.values.get("tags")
        found.update([str(tag).strip() for tag in tags] if isinstance(tags, list) else [name_of(record)])
    return {name: found[name] for name in names}
