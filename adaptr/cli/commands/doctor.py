"""`adaptr doctor`"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.cli import options, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.artifacts.doctor import Health

SUMMARY = "Say what is installed, what works here and what is missing."
SECTION = "Look"


@options.command("doctor", "adaptr doctor", "adaptr doctor --json | jq .ok", summary=SUMMARY)
def command(output: Output) -> int:
    """Looks at this installation and this machine alone: nothing is changed, and no network is asked. Exit code 1 says
    that something which adaptr needs is missing, or that a plugin can't be used; extras may be missing.
    """
    import adaptr

    health = adaptr.doctor()
    output.tell(health.as_dict(), _blocks(health))
    return 0 if health.ok else 1


def _blocks(health: Health) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "verdict": "all that adaptr needs is here" if health.ok else "something is MISSING or can't be used",
            "adaptr": health.version,
            "python": health.python,
            "machine": health.machine,
            "merging": "compiled" if health.kernels else "in numpy, as no C compiler was found: slower, the same bytes",
            "needs": [need.words for need in health.needs],
            "plugins": health.faults,
            **health.variables,
        }
    )
    rows = [
        (one.name, "works" if one.works else f"pip install 'adaptr[{one.name}]'", one.what) for one in health.extras
    ]
    yield show.Table(("extra", "here", "for"), rows)
    places = [(one.what, one.files, show.size(one.bytes), one.path) for one in health.places]
    yield show.Table(("place", "files", "size", "path"), places, right=frozenset({"files", "size"}))
