"""docs/formats.md out of the table."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence

from adaptr import foreign
from adaptr.foreign import formats
from adaptr.foreign.formats import OWN
from formats_table import families, oracles, table
from formats_table.samples import BASES, INT8, methods
from formats_table.trial import UNBASED, Trial

HEAD = """\
# Formats

What becomes of an adapter on its way from one format into another. No cell is a claim: `make formats` converted a file,
read it again and held it against the first, and a test does so again and fails where a cell has got worse. The lines of
[table.jsonl](formats_table/table.jsonl) are the trials, with the command of each. `python -m formats_table --samples
FOLDER`, here in `docs`, writes the made-up files, and in that folder the commands run as they stand. That adaptr reads
what the tool itself computes is held by the tests of each format against genuine files, and by `make oracles`, whose
results are [below](#in-the-tools-themselves).

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
        way = f" ({one.way})" if one.way else ""
        said = plain(one.why) if one.verdict == "lossy" else re.sub(r"^`[^`]*`", "`…`", one.why) + way
        said = said.replace(f"`{one.sample.partition(' ')[0]}`", "`…`")
        return f"{self.numbers.setdefault(said, len(self.numbers) + 1)}"

    def listed(self) -> str:
        return "\n".join(f"{number}. {said}" for said, number in self.numbers.items()) + ("\n" if self.numbers else "")


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
            *_genuine(found),
            oracles.page(),
            *_holding(found),
            *_known(),
        ]
    )


def _formats(found: dict[tuple[str, str, str], Trial]) -> Iterable[str]:
    yield "## Every format into every other\n\nA row is the format that is read, a column the one that is written.\n"
    for base in BASES:
        yield f"{CALLED[base]}\n"
        yield grid("from \\ to", table.readers(), lambda row, to, base=base: found.get((row, to, f"lora on {base}")))  # type: ignore[misc]


def _methods(found: dict[tuple[str, str, str], Trial]) -> Iterable[str]:
    yield "## Every method into every format\n"
    yield "From adaptr's own file, of whichever of the two bases it goes better with.\n"

    def best(method: str, to: str) -> Trial | None:
        there = [found[key] for base in BASES if (key := (OWN, to, f"{method} on {base}")) in found]
        return min(there, key=lambda one: one.grade, default=None)

    yield grid("method", [*methods(), INT8], best)


def _genuine(found: dict[tuple[str, str, str], Trial]) -> Iterable[str]:
    yield "## Genuine files\n"
    yield "Files that the tools themselves wrote, made for this project; some are wrong on purpose.\n"
    for name in table.readers():
        samples = sorted({sample for source, _, sample in found if source == name and "/" in sample})
        if samples:
            rows = grid("file", samples, lambda row, to, name=name: found.get((name, to, row)))  # type: ignore[misc]
            yield f"### Read as {name}\n\n{rows}"


def _holding(found: dict[tuple[str, str, str], Trial]) -> Iterable[str]:
    yield "## What each format holds\n"
    for form in formats.formats():
        facts = [f"- {said}\n" for said in (_asked(form), _written(form, found), *_unbased(form, found)) if said]
        yield f"### {form.name}\n\n{_doc(form)}\n\n{''.join(facts)}"


def _doc(form: foreign.Format) -> str:
    return inspect.cleandoc(((module := inspect.getmodule(type(form))) and module.__doc__) or "")


def _asked(form: foreign.Format) -> str:
    asked = ", ".join(f"`--{name.replace('_', '-')}`" for name in sorted(form.asks))
    return f"what a file lacks can be said with {asked}" if asked else "no alpha is asked for"


def _written(form: foreign.Format, found: dict[tuple[str, str, str], Trial]) -> str:
    if not form.writes:
        return "read only"
    lost = {plain(one.why) for one in found.values() if one.to == form.name and one.verdict == "lossy"}
    return f"left out only with `--lossy`: {'; '.join(sorted(lost))}" if lost else "nothing here was left out"


def _unbased(form: foreign.Format, found: dict[tuple[str, str, str], Trial]) -> Iterable[str]:
    """Whether a file is read without its base to the same."""
    for one in (found.get((form.name, UNBASED, f"lora on {base}")) for base in BASES):
        if one is not None:
            what = one.sample.removeprefix("lora on ")
            yes = one.verdict in ("round trip", "exact")
            yield f"read without its base ({what}): {'yes, to the same' if yes else f'no, {one.verdict}: {one.why}'}"


def _known() -> Sequence[str]:
    lines = [f"- {tool.called}: {_doc(tool).splitlines()[0]}\n" for tool in formats.known()]
    return ["## Recognised by name, and not read\n", "".join(lines)]
