"""`adaptr index build oci://HOST/NAMESPACE [REPOSITORY...]`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptr.cli import options, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.artifacts.search import Published

SUMMARY = "Publish what a registry's namespace holds, for `adaptr search`."
SECTION = "Share"


@options.command(
    "build",
    "adaptr index build oci://registry.example.com/acme",
    "adaptr index build oci://ghcr.io/acme style sql-lora",
)
@click.argument("namespace", metavar="oci://HOST/NAMESPACE")
@click.argument("repositories", nargs=-1, metavar="[REPOSITORY]...")
def build(output: Output, namespace: str, repositories: tuple[str, ...]) -> None:
    """Publish an index of what a namespace holds.

    It is put at NAMESPACE/adaptr-index:adaptr-index. The manifest of every tag is read; no weights are. Registries that
    don't list their repositories need their names. One writer at a time: the last index replaces the one before.
    """
    from adaptr.artifacts import search

    done = search.build(namespace, repositories)
    output.tell(dict(done.as_dict()), _blocks(done))


def _blocks(done: Published) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "published": done.reference,
            "digest": done.digest,
            "artifacts": f"{done.artifacts} in {done.repositories} repositories",
            "left out": f"{done.skipped} tags that hold something else" if done.skipped else "",
        }
    )


command = options.group("index", build, help=SUMMARY)
