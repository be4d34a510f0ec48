"""All trials, as lines of a file, and which of them came out worse than that says."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from adaptr.foreign import formats
from adaptr.foreign.formats import OWN
from formats_table.references import references
from formats_table.samples import BASES, INT8, Sample, in_format, methods, own
from formats_table.trial import Trial, tried, unbased

FILE = Path(__file__).with_name("table.jsonl")
#: How much larger an error may be on another machine before it counts as larger.
SLACK = 2.0
#: What the rows and columns of formats are tried with; the other methods are tried by format.
PLAIN = "lora"


def targets() -> list[str]:
    """The formats that are written, adaptr's own first."""
    return formats.choices()


def readers() -> list[str]:
    """The formats that are read, adaptr's own first."""
    return [OWN, *(form.name for form in formats.formats())]


def of_formats(folder: Path) -> Iterator[Trial]:
    """Every format into every other: a LoRA of each base that the first holds."""
    for base in BASES:
        plain = own(folder, base, PLAIN)
        assert plain is not None
        for sample in filter(None, [plain, *(in_format(form, plain, folder) for form in formats.formats())]):
            yield from (_tried(sample, to) for to in targets())
            yield unbased(sample)


def of_methods(folder: Path, names: Collection[str] = ()) -> Iterator[Trial]:
    """Every method into every format, and a LoRA of integers; or those of these `names`."""
    every = (*(name for name in methods() if name != PLAIN), INT8)
    for method in (name for name in every if not names or name in names):
        for sample in filter(None, (own(folder, base, method) for base in BASES)):
            yield from (_tried(sample, to) for to in targets())


def of_references(own_only: bool = False) -> Iterator[Trial]:
    """Genuine files into every format that is written; or into their own and adaptr's alone."""
    read = set(readers())
    for sample in references():
        wanted = [OWN, sample.format] if own_only else targets()
        yield from (_tried(sample, to) for to in wanted if to in ([OWN] if sample.format not in read else targets()))


def _tried(sample: Sample, to: str) -> Trial:
    with tempfile.TemporaryDirectory() as out:
        return tried(sample, to, Path(out))


def untried(found: Iterable[Trial]) -> list[str]:
    """Formats of which there is no file to try."""
    return sorted(set(readers()) - {one.source for one in found})


# ---------------------------------------------------------------- the file


def load(file: Path = FILE) -> list[Trial]:
    return [Trial(**json.loads(line)) for line in file.read_text("utf-8").splitlines()]


def dump(found: Iterable[Trial], file: Path = FILE) -> None:
    lines = (json.dumps(_said(one), sort_keys=True) for one in sorted(found, key=lambda one: one.key))
    file.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _said(one: Trial) -> dict[str, object]:
    return {name: value for name, value in dataclasses.asdict(one).items() if value not in ("", 0.0)}


def worse(now: Iterable[Trial], before: Iterable[Trial]) -> list[str]:
    """What came out worse than it was, or was not known, in words."""
    known = {one.key: one for one in before}
    return [said for one in now if (said := _worse(one, known.get(one.key)))]


def _worse(now: Trial, before: Trial | None) -> str:
    called = f"{now.source} to {now.to}, {now.sample}"
    if before is None:
        return f"{called}: not in {FILE.name}; run `make formats`"
    (place, error), (was, least) = now.grade, before.grade
    if place > was or (place == was and error > SLACK * least):
        return f"{called}: {now.verdict} {now.error or ''} {now.why}, and was {before.verdict} {before.error or ''}"
    return ""
