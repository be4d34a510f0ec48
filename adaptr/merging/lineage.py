"""Who a merged checkpoint comes from: the adapters beside its receipt, its base by digest, and the receipts of earlier
merges.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adaptr.adapter import Adapter
from adaptr.adapter.weighting import Weight, stored
from adaptr.checkpoint.open import Checkpoint
from adaptr.checkpoint.side_files import CONFIG
from adaptr.errors import AlreadyAttached, NotMerged
from adaptr.format import digest
from adaptr.format import write as write_adapter
from adaptr.merging import receipt
from adaptr.merging.receipt import Receipt

#: Merges upon merges whose receipts are followed.
MOST = 64


def name_adapters(checkpoint: Checkpoint, adapters: Sequence[tuple[Adapter, Weight]]) -> list[dict[str, Any]]:
    """How the receipt names the adapters. Raises `AlreadyAttached` for one that is there twice, or merged already."""
    before = _merged_before(receipt.place(checkpoint.root))
    named: list[dict[str, Any]] = []
    for adapter, weight in adapters:
        weights = digest.of_adapter(adapter)
        if any(other["weights"] == weights for other in named):
            raise AlreadyAttached(
                f"adapter `{adapter.label}` is given twice", hint="give it once, with the sum of the weights"
            )
        if weights in before:
            raise AlreadyAttached(
                f"adapter `{adapter.label}` is merged into `{checkpoint.root.name}` already",
                hint="unmerge it first, or merge into the base with the sum of the weights",
            )
        named.append({"weights": weights, "method": adapter.method, "name": adapter.name, "weight": stored(weight)})
    return named


def _merged_before(folder: Path) -> set[str]:
    """The adapters of a checkpoint's receipt, and of the receipts below it."""
    found: set[str] = set()
    while (folder / receipt.FILE).is_file():
        found |= {entry["weights"] for entry in receipt.read_from(folder / receipt.FILE).adapters}
        folder = folder / receipt.PARENT
    return found


def save_adapters(
    adapters: Sequence[tuple[Adapter, Weight]], named: Sequence[dict[str, Any]], folder: Path
) -> list[dict[str, Any]]:
    """Put the adapters beside the receipt in `folder`; returns their names with the digests of these files."""
    found = []
    for (adapter, _), name in zip(adapters, named, strict=True):
        path = folder / "adapter"
        write_adapter(adapter, path, force=True)
        of_file = digest.of_file(path)
        path.rename(folder / receipt.adapter_name(of_file))
        found.append({**name, "digest": of_file})
    return found


def describe_base(checkpoint: Checkpoint) -> dict[str, Any]:
    """The base as far as it can be named without reading its tensors: headers, files beside them, and its receipt."""
    headers = {shard.name: "sha256:" + hashlib.sha256(shard.raw).hexdigest() for shard in checkpoint.shards}
    found: dict[str, Any] = {"headers": headers}
    beside = checkpoint.side_files()
    if beside:
        found["files"] = {name: digest.of_file(path) for name, path in beside.items()}
    for key, path in (
        ("config", checkpoint.root / CONFIG),
        ("receipt", receipt.place(checkpoint.root) / receipt.FILE),
    ):
        if path.is_file():
            found[key] = digest.of_file(path)
    return found


def keep_parent(checkpoint: Checkpoint, folder: Path) -> None:
    """Keep the receipt of a base that was merged itself, so that the next `unmerge` has it too."""
    mine = receipt.place(checkpoint.root)
    if (mine / receipt.FILE).is_file():
        _copy(receipt.read_from(mine / receipt.FILE), folder / receipt.FOLDER / receipt.PARENT)


def restore_parent(paper: Receipt, folder: Path) -> None:
    """Give an unmerged checkpoint the receipt that it had. Raises `DigestMismatch` if that was changed since."""
    want = paper.document["base"].get("receipt")
    if want is not None:
        kept = paper.path.parent / receipt.PARENT / receipt.FILE
        digest.require(kept, want)
        _copy(receipt.read_from(kept), folder / receipt.FOLDER)


def _copy(paper: Receipt, folder: Path, depth: int = 0) -> None:
    """A receipt, the adapters that it names, and the receipts below it: nothing else that lies there is taken along."""
    if depth == MOST:
        raise NotMerged(f"`{paper.path}` lies below {MOST} other receipts", hint="merge adapters together instead")
    folder.mkdir(parents=True)
    shutil.copyfile(paper.path, folder / receipt.FILE)
    for number, entry in enumerate(paper.adapters):
        if paper.has_adapter(number):
            path = paper.adapter_file(number)
            shutil.copyfile(path, folder / path.name)
            digest.require(folder / path.name, entry["digest"])
    below, want = paper.path.parent / receipt.PARENT / receipt.FILE, paper.document["base"].get("receipt")
    if want is not None and below.is_file():
        digest.require(below, want)
        _copy(receipt.read_from(below), folder / receipt.PARENT, depth + 1)
