"""The types of PEFT's: the list here is the installed PEFT's, and each is read or has a reason why not."""

from __future__ import annotations

from typing import Any

import pytest

from adaptr.errors import Unsupported
from adaptr.foreign.peft import listed, types
from pages import peft as page


def test_the_list_is_that_of_the_installed_peft(peft: Any) -> None:
    assert {one.value for one in peft.PeftType} == listed.PEFT


@pytest.mark.parametrize("name", sorted(listed.PEFT))
def test_a_type_is_read_and_held_against_peft_or_says_why_not(name: str) -> None:
    if types.known(name) is not None:
        assert name not in {*listed.UNREAD, *listed.LOST}
        assert page.oracles()[name]
        return
    with pytest.raises(Unsupported) as refusal:
        types.of_type(name)
    assert page.why(name) in str(refusal.value)


def test_every_row_of_the_page_has_a_reason_or_an_oracle() -> None:
    rows = [line.split(" | ") for line in page.page().splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) == len(listed.PEFT)
    assert all(row[4] or row[5].strip(" |") for row in rows)
