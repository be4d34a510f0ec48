"""The keys of an adapter's tensors."""

from __future__ import annotations

import pytest

from adaptr.adapter import keys


def test_by_path_leaves_parts_and_whole_parameters_out() -> None:
    found = keys.by_path(["q:A", "q:style.A", ":W", "norm.weight:=", "q:other.A"], {"style"})
    assert found == {"q": ["q:A", "q:other.A"], "": [":W"]}


@pytest.mark.parametrize("own", ["q:A", ":W", "norm.weight:="])
def test_the_key_of_a_part_and_its_own_lead_to_each_other(own: str) -> None:
    key = keys.in_part(own, "style")
    assert keys.part_keys([key, "q:tone.A"], "style") == {own: key}


def test_what_is_replaced_is_of_no_part() -> None:
    assert keys.replaced(["norm.weight:=", "head.weight:style.=", "q:A"]) == ["norm.weight"]
