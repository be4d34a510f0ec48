"""`adaptr gc`"""

from __future__ import annotations

from dataclasses import asdict

import click

from adaptr.cli import options, show
from adaptr.cli.output import Output

SUMMARY = "Remove from the store what no name leads to."
SECTION = "Store"


@options.command("gc", "adaptr gc", "adaptr gc --dry-run", "adaptr gc --grace 0", summary=SUMMARY)
@click.option(
    "--grace", type=click.FloatRange(0), default=24.0, show_default=True, metavar="HOURS", help="Spare what is younger."
)
@click.option("--dry-run", "dry", is_flag=True, help="Only say what would go.")
def command(output: Output, grace: float, dry: bool) -> None:
    """What another process may be fetching right now is spared by --grace."""
    from adaptr.registry.store import Store
    from adaptr.registry.store.sweep import collect

    swept = collect(Store.default(), grace * 3600, dry)
    facts = {
        "would go" if dry else "removed": f"{len(swept.blobs)} blobs, {show.size(swept.bytes)}",
        "unfinished": f"{swept.parts} downloads" if swept.parts else "",
        "kept": f"{swept.kept} blobs",
    }
    output.tell({**asdict(swept), "dry_run": dry}, [show.Facts(facts)])
