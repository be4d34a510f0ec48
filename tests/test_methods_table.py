"""docs/compatibility.md: every method has been tried with everything, and what is tried again comes out as it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptr import plugins
from methods_table import table
from methods_table.trials import TRIALS, tried

KEPT = {(one.method, one.what): one for one in table.load()}
#: What is tried again here; `make methods` tries all.
AGAIN = [("lora", what) for what in table.COLUMNS] + [("dora", "pool"), ("prefix", "merge"), ("oft", "lora")]


def test_every_method_has_been_tried_with_everything() -> None:
    assert [*table.COLUMNS] == [*TRIALS]
    wanted = {(name, what) for name in plugins.builtin_files() for what in table.COLUMNS}
    assert wanted == KEPT.keys(), "run `make methods`"


def test_no_trial_is_a_crash_and_each_no_says_why() -> None:
    assert not [one for one in KEPT.values() if one.verdict not in {"yes", "no"}]
    assert all(one.why for one in KEPT.values() if one.verdict == "no")


@pytest.mark.parametrize(("name", "what"), AGAIN)
def test_it_comes_out_as_the_table_says(tmp_path: Path, name: str, what: str) -> None:
    if what == "nf4":
        pytest.importorskip("bitsandbytes")
    assert tried(name, what, tmp_path) == KEPT[name, what]
