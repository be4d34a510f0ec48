"""`adaptr check A --on SERVER[@VERSION] [--base BASE]`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptr.cli import completing, options, reading, show
from adaptr.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptr.converting.checking import Checked
    from adaptr.serving.judge import Verdict

SUMMARY = "Say what a server would make of an adapter, tensor by tensor."
SECTION = "Look"


@options.command(
    "check",
    "adaptr check ./peft-folder --on vllm --base ./llama",
    "adaptr check ./peft-folder --on sglang@0.5 --base ./llama --json | jq .counts",
    "adaptr check ./peft-folder --on vllm@0.28 --base ./llama --set lora_target_modules=qkv_proj",
    summary=SUMMARY,
)
@click.argument("source", metavar="ADAPTER", type=click.Path(), shell_complete=completing.artifacts)
@click.option(
    "--on",
    "on",
    required=True,
    metavar="SERVER[@VERSION]",
    shell_complete=completing.servers,
    help="The server; without a version the newest.",
)
@click.option(
    "--base", type=click.Path(), metavar="BASE", help="The base that is served, for what its layers are called."
)
@click.option("--set", "told", multiple=True, metavar="OPTION=VALUE", help="What the server is told.")
@reading.options("source")
def command(output: Output, source: str, on: str, base: str | None, told: tuple[str, ...]) -> int:
    """Servers load adapters of which they leave out a part, or all, without a word. Each tensor is applied; altered, of
    another strength; ignored; refused, with the adapter; or unknown, where no source tells. What is known of a server
    is a profile with dates and sources, which `--json` and docs/serving.md give.

    Exit code 1 says that something is altered, ignored or refused.
    """
    import adaptr

    found = adaptr.check(source, on, base, options.fields(told))
    output.tell(found.as_dict(), _blocks(found))
    return 0 if found.ok else 1


def _blocks(found: Checked) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "adapter": found.source + (" (as `convert --to peft` writes it)" if found.written else ""),
            "server": found.version,
            "profile": f"read {found.read}" + (", of older versions" if found.beyond else ""),
            "base": found.base or "none given",
            "tensors": ", ".join(f"{count} {verdict}" for verdict, count in found.counts.items()),
            "needs": found.needs if found.ok else "",
            "notes": found.notes,
        }
    )
    groups = _grouped(found)
    yield show.Table(
        ("verdict", "tensors", "module", "why"),
        [(one[0].verdict, len(one), _module(one), one[0].says) for one in groups],
        right=frozenset({"tensors"}),
    )
    rules = {one[0].rule: list(one[0].sources) for one in groups if one[0].rule}
    yield show.Facts(rules, "sources")


def _module(group: list[Verdict]) -> str:
    return "all of it" if len({one.module for one in group}) > 1 else group[0].module


def _grouped(found: Checked) -> list[list[Verdict]]:
    """Tensors of one module, whatever its layer, of which the same is said, the worst first; all that a rule is for."""
    said = {(one.rule, one.says) for one in found.verdicts}
    if len(said) == 1 and all(rule for rule, _ in said):
        return [list(found.verdicts)]
    groups: dict[tuple[str, str, str], list[Verdict]] = {}
    for one in found.verdicts:
        groups.setdefault((one.verdict, one.module, one.rule), []).append(one)
    order = list(found.counts)
    return sorted(groups.values(), key=lambda group: order.index(group[0].verdict))
