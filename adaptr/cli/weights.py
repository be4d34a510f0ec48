"""`--weight`: how strong adapters are at each place, beside the number that each has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from adaptr.cli.options import Weighted
    from adaptr.sources.resolve import Source

#: What a list of strengths by block of a U-Net begins with.
BLOCKS = "lbw:"


def _patterns(ctx: click.Context, _: click.Parameter, given: tuple[str, ...]) -> dict[str, float] | None:
    found: dict[str, float] = {}
    for one in given:
        pattern, sign, number = one.rpartition("=")
        if one.startswith(BLOCKS):
            from adaptr.networks import block_weights

            found |= block_weights(one.removeprefix(BLOCKS))
        elif sign and pattern:
            found[pattern] = _number(number, one)
        else:
            raise click.UsageError(f"--weight wants PATTERN=W or {BLOCKS}NAME, got `{one}`")
    return {"*": 1.0, **found} if found else None


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"--weight wants a number behind `=`, got `{whole}`") from None


weight_option = click.option(
    "--weight",
    "weights",
    multiple=True,
    callback=_patterns,
    metavar="PATTERN=W",
    help="Times the strength of all adapters where a path matches, a later one before an earlier one: "
    "'unet.down_blocks.*=0.5'. lbw:MIDD or lbw:1,0,...: by block of a U-Net.",
)


def by_place(adapters: Sequence[Weighted], weights: Mapping[str, float] | None) -> list[tuple[str | Source, Any]]:
    """Adapters with their numbers, or with these times what is said for each place."""
    from adaptr.adapter.weighting import scaled

    return [(source, scaled(weights, number) if weights else number) for source, number in adapters]
