"""`adaptr verify MERGED --base BASE --adapter A[=W]...`, `adaptr verify A --key PUB`, `adaptr verify [--repair]`"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adaptr.cli import completing, options, reading, show
from adaptr.cli.options import ADAPTER, Weighted
from adaptr.cli.output import Output
from adaptr.cli.progress import bar
from adaptr.cli.weights import by_place, weight_option
from adaptr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adaptr.bulk.change import Tied
    from adaptr.merging.verify import VerifyReport

SUMMARY = "Prove a merge, a signature, or that the store is whole."
SECTION = "Merge"

#: How many differing tensors are listed.
SHOWN = 10


@options.command(
    "verify",
    "adaptr verify ./llama-style",
    "adaptr verify ./llama-style --base ./llama --adapter style.safetensors",
    "adaptr verify ./mixed --base ./llama --adapter style.safetensors=0.7 --adapter peft-folder/=0.3",
    "adaptr verify oci://ghcr.io/acme/style:1.2 --key acme.pub",
    "adaptr verify ./peft-folder --certificate-chain acme-ca.pem",
    "adaptr verify --repair",
    summary=SUMMARY,
    doing="verifying",
)
@click.argument("what", required=False, shell_complete=completing.artifacts)
@click.option("--base", type=click.Path(), metavar="BASE", help="What was merged into.")
@click.option("--adapter", "adapters", multiple=True, type=ADAPTER, metavar="A[=W]", help="As merged.")
@click.option("--tied", type=click.Choice(("both", "untie")), help="As merged; what the receipt says, if it is there.")
@click.option(
    "--dtype",
    metavar="NAME",
    shell_complete=completing.dtypes,
    help="As merged; what the receipt says, if it is there.",
)
@weight_option
@options.any_base_option
@click.option("--key", "keys", multiple=True, type=click.Path(), metavar="PUB", help="A public key to trust, in PEM.")
@click.option(
    "--certificate-chain", "roots", multiple=True, type=click.Path(), metavar="CA", help="Certificates to trust."
)
@click.option("--signature", type=click.Path(), metavar="FILE", help="The signature, if it is elsewhere.")
@click.option("--repair", is_flag=True, help="Pull again what is damaged in the store.")
@reading.options("adapters")
def command(
    output: Output,
    what: str | None,
    base: str | None,
    adapters: tuple[Weighted, ...],
    tied: Tied,
    dtype: str | None,
    weights: Mapping[str, float] | None,
    any_base: bool,
    keys: tuple[str, ...],
    roots: tuple[str, ...],
    signature: str | None,
    repair: bool,
) -> int:
    """Of a merged checkpoint: that it is its base with these adapters merged. The merge is computed again and compared
    with what is there, and everything else with BASE. Exit code 1 says that they differ, and where. Without `--adapter`
    they are those that lie beside its receipt, and without `--base` it is what the receipt gives back, by digest.

    With `--key` or `--certificate-chain`: that a file, folder or artifact is what somebody trusted signed. Exit code 7
    says that it is not.

    Without anything: that every blob in the store is what its digest says. Exit code 1 says that some are not.
    """
    signed, merged = bool(keys or roots or signature), bool(base or adapters or tied or dtype or weights or any_base)
    if signed + merged + repair > 1:
        raise UsageError(
            "`--base` and `--adapter`, `--key`, and `--repair` each prove another thing", hint="give one of them"
        )
    if what is None or repair:
        return _store(output, what, repair, signed or merged)
    if signed:
        return _signature(output, what, keys, roots, signature)
    import adaptr
    from adaptr.merging.verify import OWN

    given = by_place(adapters, weights) if adapters or weights else OWN
    with bar(output, "verifying") as progress:
        report = adaptr.verify(what, base, given, tied=tied, any_base=any_base, dtype=dtype, progress=progress)
    output.tell(report.as_dict(), _blocks(report))
    return 0 if report.ok else 1


command.sections = options.sections(
    {
        "A merge": "base adapters tied dtype weights any_base",
        "A signature": "keys roots signature",
        "The store": "repair",
    }
)


def _signature(output: Output, what: str, keys: tuple[str, ...], roots: tuple[str, ...], signature: str | None) -> int:
    from adaptr.artifacts import trust

    given = (Path(signature) if signature else None,)
    proven = trust.proven(what, [*map(Path, keys)], [*map(Path, roots)], *given)
    signers = [" ".join(filter(None, (one["key"], one["certificate"]))) for one in proven.signers]
    facts = {"signed": proven.source, "digest": proven.digest, "files": proven.files, "by": signers}
    output.tell(proven.as_dict(), [show.Facts(facts), show.Facts(proven.claims, "which says")])
    return 0


def _store(output: Output, what: str | None, repair: bool, more: bool) -> int:
    if what is not None or more:
        raise UsageError(
            "the store is verified as a whole",
            hint="leave these options out, or say which file, folder or artifact to verify",
        )
    from adaptr.registry.store import Store
    from adaptr.registry.store.health import examined

    health = examined(Store.default(), repair)
    rows = [(one.name, one.digest, one.what, "yes" if one.mended else "no") for one in health.findings]
    facts = {
        "blobs": f"{health.blobs}, {show.size(health.bytes)}",
        "verdict": "all are what their digests say" if health.ok else "DAMAGED; `--repair` pulls it again",
        "removed" if repair else "damaged, of no name": health.stray or None,
    }
    table = show.Table(("name", "blob", "what", "mended"), rows)
    output.tell({**asdict(health), "ok": health.ok}, [show.Facts(facts), table])
    return 0 if health.ok else 1


def _blocks(report: VerifyReport) -> Iterator[show.Block]:
    yield show.Facts(
        {
            "checkpoint": report.merged,
            "by": "its own receipt: the base that it gives back, and the adapters beside it" if report.alone else "",
            "base": [one.words for one in report.compared],
            "verdict": _verdict(report),
            "tensors": f"{report.tensors}, {report.recomputed} of them recomputed",
            "elements": f"{show.number(report.different)} of {show.number(report.elements)} differ",
            "largest error": _error(report),
            "tied": report.tied,
        }
    )
    rows = [(d.tensor, d.reason, show.number(d.different), d.ulps, d.error) for d in report.differences[:SHOWN]]
    columns = ("tensor", "what", "elements", "ulps", "error")
    spare = frozenset({"elements", "ulps"})
    yield show.Table(columns, rows, right=spare | {"error"}, spare=spare)
    if len(report.differences) > SHOWN:
        yield f"and {len(report.differences) - SHOWN} more; --json has all"


def _error(report: VerifyReport) -> str:
    if not report.different:
        return ""
    if not math.isfinite(report.error):
        return "not measured against the change: what the adapters leave alone differs"
    return f"{show.share(report.error)} of the change"


def _verdict(report: VerifyReport) -> str:
    if report.exact:
        return "proven: base and adapters give these very bits"
    return "proven, up to rounding" if report.ok else "NOT PROVEN"
