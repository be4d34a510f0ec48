"""`adaptr norms ADAPTER`: how large each of an adapter's tensors is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptr.cli import options, show

if TYPE_CHECKING:
    from adaptr.cli.output import Output

SUMMARY = "Say how large each of an adapter's tensors is."
SECTION = "Look"


@options.command("norms", "adaptr norms style.safetensors", "adaptr norms ./peft-folder --json", summary=SUMMARY)
@click.argument("adapter", type=click.Path())
def command(output: Output, adapter: str) -> None:
    """ADAPTER is a file, a folder, a reference or a name in the store. The norm is Frobenius's."""
    import adaptr

    tensors = adaptr.load(adapter).tensors
    found = {key: float(tensors[key].double().norm()) for key in tensors}
    rows = [(key, f"{norm:.4g}") for key, norm in found.items()]
    output.tell({"norms": found}, [show.Table(("tensor", "norm"), rows, right=frozenset({"norm"}))])
