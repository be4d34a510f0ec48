"""`adaptr logout HOST`"""

from __future__ import annotations

import click

from adaptr.cli import options, show
from adaptr.cli.output import Output

SUMMARY = "Forget the account for a registry."
SECTION = "Share"


@options.command("logout", "adaptr logout ghcr.io", summary=SUMMARY)
@click.argument("host")
def command(output: Output, host: str) -> None:
    """It is taken out of every file and credential helper where adaptr would look for it."""
    from adaptr.registry.client import login

    places = login.logout(host)
    output.tell({"host": host, "removed_from": places}, [show.Facts({"removed from": ", ".join(places)})])
