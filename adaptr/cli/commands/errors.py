"""`adaptr errors [NAME]`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptr.cli import completing, options, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.cli.error_pages import Missing, Page

SUMMARY = "List the errors, or say what one means."
SECTION = "Look"


@options.command(
    "errors",
    "adaptr errors",
    "adaptr errors TargetNotFound",
    "adaptr errors --json | jq -r '.errors[].name'",
    summary=SUMMARY,
)
@click.argument("name", required=False, shell_complete=completing.errors)
def command(output: Output, name: str | None) -> None:
    """The name is what Python code catches, and what `--json` and -v say of an error; the command line ends with the
    number. Errors of installed plugins are listed with the distribution that they are of.
    """
    from adaptr.cli import error_pages

    if name is None:
        pages, missing = error_pages.pages()
        told = {"errors": [one.as_dict() for one in pages], "missing": [vars(one) for one in missing]}
        output.tell(told, _table(pages, missing))
    else:
        page = error_pages.page(name)
        output.tell(page.as_dict(), [_described(page)])


def _table(pages: list[Page], missing: list[Missing]) -> Iterator[show.Block]:
    columns = ("error", "exit code", "meaning", "of")[: 4 if any(page.by for page in pages) else 3]
    rows = [(page.name, page.exit_code, page.meaning, page.by)[: len(columns)] for page in pages]
    yield show.Table(columns, rows, right=frozenset({"exit code"}))
    for one in missing:
        yield show.Prose(f"no page for `{one.name}` of {one.by}: {one.reason}")


def _described(page: Page) -> show.Facts:
    return show.Facts(
        {
            "error": page.name,
            "exit code": page.exit_code,
            "meaning": page.meaning,
            "is a": page.family,
            "of": page.by,
            "notes": page.notes,
        }
    )
