"""Reports and adapters as notebooks show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

import checkpoints
from adaptr.report import Report


@dataclass(frozen=True)
class Found(Report):
    name: str = "a<b>\x1b[31m"
    share: float = 0.123456
    none: None = None
    targets: list[dict[str, Any]] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=lambda: [{"x": 1}] * 3)

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def test_a_report_is_one_line_and_a_table_in_which_nothing_is_obeyed() -> None:
    assert repr(Found()).startswith("<Found name='a<b>")
    assert "\n" not in repr(Found())
    shown = Found()._repr_html_()
    assert "a&lt;b&gt;\\x1b" in shown
    assert "0.1235" in shown
    assert "none" not in shown
    assert "3 of them" in shown


def test_its_targets_are_rows_of_a_data_frame_else_its_longest_list_else_itself() -> None:
    pytest.importorskip("pandas")
    assert Found().to_pandas().shape == (3, 1)
    assert list(Found(targets=[{"path": "q", "rank": 4}]).to_pandas().columns) == ["path", "rank"]
    assert Found(others=[]).to_pandas().shape == (1, 2)


def test_an_adapter_is_a_small_table() -> None:
    shown = checkpoints.lora_at_q()._repr_html_()
    assert "lora" in shown
    assert len(shown) < 2000
