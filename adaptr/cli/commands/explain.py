"""`adaptr explain CLASS`"""

from __future__ import annotations

import click

from adaptr.cli import completing, options, show
from adaptr.cli.output import Output

SUMMARY = "Say what an error means, and what to do."
SECTION = "Look"


@options.command("explain", "adaptr explain TargetNotFound", "adaptr explain LossyConversion --json", summary=SUMMARY)
@click.argument("error", metavar="CLASS", shell_complete=completing.errors)
def command(output: Output, error: str) -> None:
    """CLASS is what `--json` and -v call an error, and what Python code catches. `adaptr errors` lists all."""
    from adaptr.cli import error_pages

    page = error_pages.page(error)
    output.tell(
        page.as_dict(),
        [
            f"{page.name}: {page.meaning}",
            *([page.notes] if page.notes else []),
            show.Facts({"exit code": page.exit_code, "is a": page.family, "of": page.by}),
        ],
    )
