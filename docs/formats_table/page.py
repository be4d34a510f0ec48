"""docs/formats.md out of the table."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from adaptr import foreign
from adaptr.foreign import formats
from adaptr.foreign.formats import OWN
from formats_table import families, oracles, table
from formats_table.samples import BASES, INT8, methods
from formats_table.trial import UNBASED, Trial
from pages import markdown

Found = Mapping[tuple[str, str, str], Trial]

HEAD = """\
# Formats

What becomes of an adapter on its way from one format into another. No cell is a claim: `make formats` converted a file,
read it again and held it against the first, and a test does so again and fails where a cell has got worse. The lines of
[table.jsonl](formats_table/table.jsonl) are the trials, with the command of each. `python -m formats_table --samples
FOLDER`, here in `docs`, writes the made-up files, and in that folder the commands run as they stand. That adaptr reads
what the tool itself computes is held by the tests of each format against genuine files, and by `make oracles`, whose
results are [below](#in-the-tools-themselves). [Each format](#each-format) has a page of its own.

| mark | of the file that was written |
| --- | --- |
| `=` | converted back, it is the first file again: every tensor bit for bit, under its name, with its scale |
| `→` | it does the same (to 1e-14), under other names or in another form; it does not come back as the same file |
| 1e-07 | it does the same but for this error: ‖D' - D‖ / ‖D‖ of the layer where it is largest, D in fp64 |
| part | written with `--lossy`: what is left out is below |
| no | refused; why, and the way on, is below |
| ? | there is no such file to try: the format has no place for the adapter, or adaptr does not write it |
| CRASH | a mistake of adaptr's |

In reasons, `…` is the name of a layer, a method or a file.
"""
CALLED = {
    "llama": "A LoRA of a language model (Llama) on its attention and feed-forward; the base is given with `--base`.",
    "pipeline": "A LoRA of the text encoder and the transformer of an image pipeline (CLIP, Flux); no base is given.",
}


class Reasons:
    """The numbered list below a table: whatever differs in the name of a layer or file alone is one reason."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def of(self, one: Trial) -> str:
        way = f" ({one.way})" if one.way and one.verdict != "lossy" else ""
        return f"{self.numbers.setdefault(reason(one) + way, len(self.numbers) + 1)}"

    def listed(self) -> str:
        return "\n".join(f"{number}. {said}" for said, number in self.numbers.items()) + ("\n" if self.numbers else "")


def reason(one: Trial) -> str:
    """Why something is refused or left out, whatever the layer, method or file is called."""
    said = plain(one.why) if one.verdict == "lossy" else re.sub(r"^`[^`]*`", "`…`", one.why)
    return said.replace(f"`{one.sample.partition(' ')[0]}`", "`…`")


def plain(lost: str) -> str:
    """What was left out, without the names of parameters."""
    return re.sub(r"the whole parameter `[^`]*`(; the whole parameter `[^`]*`)*", "whole parameters", lost)


def mark(one: Trial | None, reasons: Reasons) -> str:
    if one is None:
        return "?"
    known: dict[str, Callable[[], str]] = {
        "round trip": lambda: "`=`",
        "exact": lambda: "`→`",
        "error": lambda: f"{one.error:.0e}",
        "lossy": lambda: f"part {reasons.of(one)}",
        "refused": lambda: f"no {reasons.of(one)}",
        "crash": lambda: f"CRASH {reasons.of(one)}",
    }
    return known[one.verdict]()


def grid(corner: str, rows: Iterable[str], found: Callable[[str, str], Trial | None]) -> str:
    """A table of trials by row and by the format that was written, with its reasons below."""
    reasons, columns = Reasons(), table.targets()
    lines = [[corner, *columns], ["---"] * (len(columns) + 1)]
    lines += [[row, *(mark(found(row, to), reasons) for to in columns)] for row in rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines) + "\n" + reasons.listed()


def page() -> str:
    """The document. It is of what the table says, and of the formats that there are."""
    found = {one.key: one for one in table.load()}
    return "\n".join(
        [
            HEAD,
            families.page(),
            *_formats(found),
            *_methods(found),
            oracles.page(),
            _each(),
            *_known(),
        ]
    )


def _formats(found: Found) -> Iterable[str]:
    yield "## Every format into every other\n\nA row is the format that is read, a column the one that is written.\n"
    for base in BASES:
        yield f"{CALLED[base]}\n"
        yield grid("from \\ to", table.readers(), lambda row, to, base=base: found.get((row, to, f"lora on {base}")))  # type: ignore[misc]


def _methods(found: Found) -> Iterable[str]:
    yield "## Every method into every format\n"
    yield "From adaptr's own file, of whichever of the two bases it goes better with.\n"
    yield grid("method", [*methods(), INT8], lambda method, to: best(found, method, to))


def best(found: Found, method: str, to: str) -> Trial | None:
    """What becomes of a method in a format, on whichever base it goes better with; None where it has no place."""
    there = [found[key] for base in BASES if (key := (OWN, to, f"{method} on {base}")) in found]
    return min(there, key=lambda one: one.grade, default=None)


def genuine(name: str, found: Found) -> Iterable[str]:
    """What becomes of the genuine files of a format."""
    samples = sorted({sample for source, _, sample in found if source == name and "/" in sample})
    if samples:
        yield "## Genuine files\n"
        yield (
            "Files that the tool itself wrote, made for this project; some are wrong on purpose. The marks are\n"
            "[those of all formats](../formats.md).\n"
        )
        yield grid("file", samples, lambda row, to: found.get((name, to, row)))


def _each() -> str:
    rows = []
    for form in formats.formats():
        kind = "" if not form.writes else "a folder" if form.folder else f"a file, `{form.suffix}`"
        first = doc(form).partition("\n\n")[0].replace("\n", " ")
        rows.append((f"[{form.name}](formats/{form.name}.md)", first, kind, families.proof(form.name)))
    text = "What each reads, holds, asks for and refuses, with a file to try, is on its page.\n"
    return f"## Each format\n\n{text}\n{markdown.table(('format', 'what', 'written as', 'reading'), rows)}"


def doc(form: foreign.Format) -> str:
    """What the file of a format says of it."""
    return inspect.cleandoc(((module := inspect.getmodule(type(form))) and module.__doc__) or "")


def unbased(form: foreign.Format, found: Found) -> Iterable[str]:
    """Whether a file is read without its base to the same."""
    for one in (found.get((form.name, UNBASED, f"lora on {base}")) for base in BASES):
        if one is not None:
            what = one.sample.removeprefix("lora on ")
            yes = one.verdict in ("round trip", "exact")
            yield f"read without its base ({what}): {'yes, to the same' if yes else f'no, {one.verdict}: {one.why}'}"


def _known() -> Sequence[str]:
    lines = [f"- {tool.called}: {doc(tool).splitlines()[0]}\n" for tool in formats.known()]
    return ["## Recognised by name, and not read\n", "".join(lines)]
