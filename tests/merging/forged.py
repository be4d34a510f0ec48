"""Receipts of merges, forged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adaptr.format import header as headers
from adaptr.merging import receipt

Document = dict[str, Any]
Blobs = dict[str, bytes]


def forge(merged: Path, change: Callable[[Document, Blobs], Any]) -> bool:
    """The receipt with another document or other blobs. Whether that is another receipt."""
    found = receipt.read(merged)
    before = {key: b"".join(found.pieces(key)) for key in found.header.entries}
    document, blobs = json.loads(json.dumps(found.document)), dict(before)
    change(document, blobs)
    raw, header = headers.build(
        {key: ("U8", (len(blob),)) for key, blob in blobs.items()}, {receipt.KEY: json.dumps(document)}
    )
    (receipt.place(merged) / receipt.FILE).write_bytes(raw + b"".join(blobs[key] for key in header.entries))
    return document != found.document or blobs != before
