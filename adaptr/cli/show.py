"""Text for people: tables and lists of facts, with rich on a terminal and without it in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from adaptr.cli.terminal import coloured, filled
from adaptr.errors import printable
from adaptr.errors.text import size as size

if TYPE_CHECKING:
    from rich.table import Table as Grid
    from rich.text import Text


@dataclass(frozen=True)
class Facts:
    """Names and values, one a line. Empty values are left out."""

    values: Mapping[str, Any]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under headings. Columns in `right` are numbers; those in `spare` are left out on a narrow terminal."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    right: frozenset[str] = frozenset()
    spare: frozenset[str] = frozenset()

    def without(self, names: frozenset[str]) -> Table:
        kept = [i for i, name in enumerate(self.columns) if name not in names]
        rows = [[row[i] for i in kept] for row in self.rows]
        return Table([self.columns[i] for i in kept], rows, self.title, self.right)


class Prose(str):
    """Sentences, which a terminal has broken between words; other text is shown as it is."""


Block = Facts | Table | str

#: Columns of a terminal from which on every column of a table is shown.
WIDE = 100


def write(blocks: Iterable[Block]) -> None:
    """Print blocks, a blank line before each but the first."""
    shown = [b for b in blocks if not _empty(b)]
    put = _rich_writer() if sys.stdout is not None and sys.stdout.isatty() else _plain
    for number, block in enumerate(shown):
        if number and not (isinstance(block, str) and isinstance(shown[number - 1], str)):
            click.echo()
        put(block)


def _empty(block: Block) -> bool:
    if isinstance(block, str):
        return False
    return not block.rows if isinstance(block, Table) else not any(_said(v) for v in block.values.values())


def _said(value: object) -> bool:
    return value is not None and value != "" and value != [] and value != {} and value != ()


def _cells(block: Facts | Table) -> list[list[str]]:
    if isinstance(block, Table):
        return [[_text(cell) for cell in row] for row in block.rows]
    return [[name, _text(value)] for name, value in block.values.items() if _said(value)]


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(_pair(str(k), v) for k, v in value.items() if _said(v))
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return printable(str(value).replace("\n", "\\n"))  # an end of line in a name would forge another line


def _pair(name: str, value: object) -> str:
    return f"{name} ({_text(value)})" if isinstance(value, Mapping) else f"{name}={_text(value)}"


# ---------------------------------------------------------------- in a pipe


def _plain(block: Block) -> None:
    if isinstance(block, str):
        click.echo(printable(block))
        return
    if block.title:
        click.echo(printable(block.title))
    rows = _cells(block)
    headed = [list(map(_text, block.columns)), *rows] if isinstance(block, Table) else rows
    widths = [max(len(row[i]) for row in headed) for i in range(len(headed[0]))]
    right = {i for i, c in enumerate(block.columns) if c in block.right} if isinstance(block, Table) else set()
    for row in headed:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        click.echo("  ".join(cells).rstrip())


# ---------------------------------------------------------------- on a terminal


def _rich_writer() -> Callable[[Block], None]:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, color_system="auto" if coloured(sys.stdout) else None)

    def put(block: Block) -> None:
        if isinstance(block, Table) and console.width < WIDE:
            block = block.without(block.spare)
        if isinstance(block, str):
            console.print(printable(block), markup=False, soft_wrap=not isinstance(block, Prose))
        elif isinstance(block, Table) and sum(_least(block)) + 2 * len(block.columns) - 2 > console.width:
            console.print(*_one_by_one(block, console.width), sep="\n", soft_wrap=True)
        elif isinstance(block, Facts):
            for part in _facts(block, console.width):
                console.print(part, soft_wrap=isinstance(part, Text))
        else:
            console.print(_grid(block), markup=False)

    return put


def _least(table: Table) -> list[int]:
    """How wide each column must be, so that no word in it is broken and no number."""
    columns = zip(*[list(map(_text, table.columns)), *_cells(table)], strict=True)
    parts = [c if name in table.right else " ".join(c).split() for name, c in zip(table.columns, columns, strict=True)]
    return [max(map(len, part), default=0) for part in parts]


def _one_by_one(table: Table, width: int) -> Iterator[Text]:
    """A table too wide for a terminal as lines for each row: what is said under each heading."""
    from rich.text import Text

    if table.title:
        yield Text(printable(table.title), style="bold")
    for number, row in enumerate(_cells(table)):
        if number:
            yield Text("")
        for name, said in zip(table.columns, row, strict=True):
            if said:
                yield _named(_text(name), f"{_text(name)}  {said}", width)


def _facts(facts: Facts, width: int) -> Iterator[Grid | Text]:
    """Facts as a grid; what has a word that is too wide beside its name, as digests are, stands below it."""
    from rich.text import Text

    rows, beside = _cells(facts), dict[str, Any]()
    label = max(len(name) for name, _ in rows)
    title = facts.title
    for name, said in rows:
        longest = max(map(len, said.split()), default=0)
        if label + 2 + longest <= width:
            beside[name] = said
            continue
        if beside or title:
            yield _grid(Facts(beside, title), label)
        yield Text(name, style="dim")
        yield Text(filled(f"  {said}", width, "  "))
        beside, title = {}, ""
    if beside or title:
        yield _grid(Facts(beside, title), label)


def _named(name: str, said: str, width: int) -> Text:
    """A text that begins with its name."""
    from rich.text import Text

    found = Text(filled(said, width, "  "))
    found.stylize("dim", 0, len(name))
    return found


def _grid(block: Facts | Table, label: int = 0) -> Grid:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(
        box=box.SIMPLE_HEAD if isinstance(block, Table) else None,
        title=Text(printable(block.title), style="bold") if block.title else None,
        title_justify="left",
        show_header=isinstance(block, Table),
        show_edge=False,
        pad_edge=False,
        padding=(0, 1 if isinstance(block, Table) else 2, 0, 0),
    )
    if isinstance(block, Table):
        for name, least in zip(block.columns, _least(block), strict=True):
            grid.add_column(Text(_text(name)), no_wrap=name in block.right, overflow="fold", min_width=least)
            grid.columns[-1].justify = "right" if name in block.right else "left"
    else:
        grid.add_column(style="dim", no_wrap=True, min_width=label)
        grid.add_column(overflow="fold")
    for row in _cells(block):
        grid.add_row(*map(Text, row))
    return grid


# ---------------------------------------------------------------- words and figures


def number(count: int) -> str:
    return f"{count:,}"


def share(part: float) -> str:
    return f"{100 * part:.3g} %"


def adapter(named: Mapping[str, Any], otherwise: str = "") -> str:
    """An adapter as a merge's receipt names it, with its weight. `otherwise`: what one without a name is called."""
    weight = named["weight"]
    said = f"weight {weight:g}" if isinstance(weight, int | float) else "weights by place"
    return f"{named['name'] or otherwise or named['digest'][:19]} ({named['method']}, {said})"
