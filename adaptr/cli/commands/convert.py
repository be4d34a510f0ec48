"""`adaptr convert A -o OUT [--to FORMAT]`"""

from __future__ import annotations

from typing import Any

import click

from adaptr.cli import options, show
from adaptr.cli.output import Output


@options.command(
    "convert",
    "adaptr convert ./peft-folder -o style.safetensors",
    "adaptr convert style.safetensors --to peft -o ./peft-folder",
    "adaptr convert ./old-adapter -o new.safetensors --base ./llama --force",
)
@click.argument("source", metavar="ADAPTER", type=click.Path())
@options.output_option("The file or folder to write.")
@click.option("--to", default="adaptr", show_default=True, metavar="FORMAT", help="The format: adaptr or peft.")
@click.option("--lossy", is_flag=True, help="Go on although FORMAT can't hold everything.")
@click.option("--base", type=click.Path(), metavar="BASE", help="The base model, for what the adapter does not say.")
def command(out: Output, source: str, **given: Any) -> None:
    """Write an adapter in another format.

    The format of ADAPTER is found by looking. The report says what was kept, renamed and lost; losing anything needs
    --lossy. There and back again gives the same bytes in every tensor.
    """
    from adaptr import api

    report = api.convert(source, **given)
    out.tell(report.as_dict(), [show.Facts(report.as_dict())])
