from __future__ import annotations

from collections.abc import Callable

import pytest

from adaptr import plugins
from adaptr.cli import catalogue

KEYS = {
    "name", "family", "version", "title", "formula", "source", "arxiv", "notes", "choose", "params", "config",
    "targets", "kinds", "parts", "identity", "refusal", "possible", "mergeable", "inverse", "delta", "row", "share",
    "peft", "conditional",
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
    assert lora["params"]["A"] == {"axes": "*e r in *k", "init": "kaiming", "when": "not tucker"}
    assert lora["config"]["r"] == {"type": "int", "default": 8}
    assert lora["arxiv"] == "2106.09685"
    assert lora["mergeable"]


def test_one_method_in_words(adaptr: Callable) -> None:
    text = adaptr("methods", "houlsby").out
    for word in ("insert", "1902.00751", "D", "no: it applies a non-linear function", "ffn_out"):
        assert word in text, text


def test_when_to_choose_a_method_is_told_apart_from_what_it_is(adaptr: Callable) -> None:
    card = catalogue.card("boft")
    assert card.choose.startswith("Choose it, as OFT, where the angles between neurons should stay")
    assert "Choose it" not in card.notes
    assert card.choose in " ".join(adaptr("methods", "boft").out.split())


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
    assert line[heading.index("trains") : heading.index("of a 7B")].strip() == TRAINED[name]


def test_the_shares_of_a_7b_are_those_of_the_papers() -> None:
    """Counts by hand: LoRA of rank 8 on all linear layers, (IA)3 on keys, values and the feed-forward's output."""
    each = {"q": (4096, 4096), "k": (4096, 4096), "v": (4096, 4096), "o": (4096, 4096)}
    each |= {"gate": (11008, 4096), "up": (11008, 4096), "down": (4096, 11008)}
    base = 32 * (sum(out * into for out, into in each.values()) + 2 * 4096) + 4096 + 2 * 32000 * 4096
    assert base == 6738415616
    assert catalogue.card("lora").share == 32 * 8 * sum(map(sum, each.values())) / base
    assert catalogue.card("ia3").share == 32 * (4096 + 4096 + 11008) / base


def test_only_those_that_are_asked_for(adaptr: Callable) -> None:
    found = adaptr("methods", "--mergeable", "--family", "transform", "--json").json["methods"]
    assert {card["family"] for card in found} == {"transform"}
    assert all(card["mergeable"] for card in found)
    assert {"dora", "oft"} <= {card["name"] for card in found}
    ran = adaptr("methods", "--family", "deltas")
    assert ran.code == 2
    assert "`delta`" in ran.err
