from __future__ import annotations

from collections.abc import Callable

import pytest

from adaptr import plugins
from adaptr.cli import catalogue

KEYS = {
    "name", "family", "version", "title", "formula", "source", "arxiv", "notes", "params", "config", "targets", "kinds",
    "parts", "identity", "refusal", "possible", "mergeable",
}  # fmt: skip


def test_the_table_has_every_method(adaptr: Callable) -> None:
    ran = adaptr("methods")
    assert ran.code == 0
    words = {line.split()[0] for line in ran.out.splitlines()[1:]}
    assert words == set(plugins.names())


def test_json_of_all_and_of_one(adaptr: Callable) -> None:
    found = adaptr("methods", "--json").json
    assert list(found) == ["methods"]
    assert all(set(card) == KEYS for card in found["methods"])
    lora = adaptr("methods", "lora", "--json").json
    assert lora == next(card for card in found["methods"] if card["name"] == "lora")
    assert lora["params"]["A"] == {"axes": "*e r in *k", "init": "kaiming", "when": ""}
    assert lora["config"]["r"] == {"type": "int", "default": 8}
    assert lora["arxiv"] == "2106.09685"
    assert lora["mergeable"]


def test_one_method_in_words(adaptr: Callable) -> None:
    text = adaptr("methods", "houlsby").out
    for word in ("insert", "1902.00751", "D", "no: it applies a non-linear function", "ffn_out"):
        assert word in text, text


def test_what_a_method_without_a_weight_says() -> None:
    assert "prefix and parallel" in catalogue.card("mam").refusal
    assert catalogue.card("mam").parts == {"prefix": "prefix", "parallel": "parallel"}


def test_every_method_has_title_formula_and_source() -> None:
    for card in catalogue.cards():
        assert card.title, card.name
        assert card.formula, card.name
        assert card.source, card.name


def test_an_unknown_method_names_the_near_ones(adaptr: Callable) -> None:
    ran = adaptr("methods", "lra")
    assert ran.code == 2
    assert "`lora`" in ran.err


TRAINED = {"vera": "d, b", "shira": "v", "arrow": "", "mam": "prefix + parallel"}


@pytest.mark.parametrize("name", TRAINED)
def test_the_table_has_what_training_changes_alone(adaptr: Callable, name: str) -> None:
    heading, *lines = adaptr("methods").out.splitlines()
    line = next(line for line in lines if line.startswith(f"{name} "))
    assert line[heading.index("trains") : heading.index("merges")].strip() == TRAINED[name]
