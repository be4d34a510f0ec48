"""`adaptr log A`"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

import click

from adaptr.cli import completing, options, show
from adaptr.cli.output import Output
from adaptr.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.artifacts.history import History, Node

SUMMARY = "Show where an adapter or a merged checkpoint comes from."
SECTION = "Share"

#: Characters of an operation's arguments that are shown.
WIDTH = 60


@options.command(
    "log",
    "adaptr log mixed.safetensors",
    "adaptr log oci://ghcr.io/acme/style:1.2",
    "adaptr log ./llama-style --json | jq '.nodes[].operation'",
    summary=SUMMARY,
)
@click.argument("artifact", shell_complete=completing.artifacts)
def command(output: Output, artifact: str) -> None:
    """Every output names its parents by digest. They are looked up in the store and beside what was made of them, and
    so on up; a base beside them is told by samples of its weights. What is not here is still named. Each line has an
    adapter's weights digest, as `adaptr inspect` shows it, how it was made, and where it is.
    """
    import adaptr

    found = adaptr.log(artifact)
    output.tell(found.as_dict(), _blocks(found))


def _blocks(found: History) -> Iterator[show.Block]:
    from adaptr.cli.graph import draw

    nodes = {node.digest: node for node in found.nodes}
    for drawing, node in draw(list(nodes), {digest: node.parents for digest, node in nodes.items()}):
        yield drawing if node is None else _fitting(drawing, _line(nodes[node]), bool(nodes[node].parents))
    if found.cut:
        yield "... and more than are followed"


def _fitting(drawing: str, line: str, goes_on: bool) -> str:
    """A node's line; on a terminal that it is too wide for broken between words, beside the lanes that go on."""
    if not sys.stdout.isatty():
        return f"{drawing} {line}"
    lanes = drawing.replace("*", "|" if goes_on else " ")
    width = shutil.get_terminal_size().columns
    first, other = f"{drawing} ", f"{lanes}   "
    filled = textwrap.TextWrapper(width, first, other, break_on_hyphens=False, break_long_words=False)
    return filled.fill(line)


def _line(node: Node) -> str:
    arguments = json.dumps(dict(node.arguments), ensure_ascii=False) if node.arguments else ""
    made = f"{node.operation} {shown(arguments, WIDTH)}".strip()
    role = node.role and f"{node.role}:"
    words = (
        (node.weights or node.digest).removeprefix("sha256:")[:12],
        role,
        shown(node.name, 40),
        node.what and f"[{shown(node.what, 40)}]",
        made and f"by {made}",
        f"in {shown(node.found, 200)}" if node.found else "(not here)",
    )
    return " ".join(word for word in words if word)
