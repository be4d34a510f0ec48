"""Receipts of earlier formats, frozen: a merge of adaptr 0.1.0 is verified and taken apart by this one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from adaptr import api
from adaptr.merging import receipt

HERE = Path(__file__).parent / "receipt-2"


def test_a_receipt_of_format_2_gives_the_base_back(tmp_path: Path) -> None:
    assert receipt.read(HERE / "merged").document["format"] == 2
    report = api.unmerge(HERE / "merged", tmp_path / "back")
    found = hashlib.sha256((tmp_path / "back/model.safetensors").read_bytes()).hexdigest()
    assert found == (HERE / "base.sha256").read_text().strip()
    assert (report.compared, report.taken) == (5, 1)


def test_a_merge_of_format_2_is_verified(tmp_path: Path) -> None:
    """In the arithmetic that it was made in, where norms do not depend on the machine."""
    api.unmerge(HERE / "merged", tmp_path / "base")
    paper = receipt.read(HERE / "merged")
    stack = [(api.load(paper.adapter_file(i)), entry["weight"]) for i, entry in enumerate(paper.adapters)]
    verdict = api.verify(HERE / "merged", tmp_path / "base", stack)
    assert verdict.ok
    assert {d.tensor for d in verdict.differences} <= {"dora.weight"}
