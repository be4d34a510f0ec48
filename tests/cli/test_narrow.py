"""Terminals of all widths: what is too wide is broken between words, and a table by rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptr import api
from adaptr.cli import listing, show
from adaptr.cli.terminal import filled
from adaptr.testing.terminals import typed

WIDTHS = (40, 80, 120, 200)
SENTENCE = "They meet at several targets, and neither cancels the other where both of them read the same inputs."


@pytest.mark.parametrize("width", WIDTHS)
def test_no_word_of_a_table_or_of_prose_is_broken(
    width: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    columns = ("target", "kind", "size of a", "size of b", "what is said of it")
    rows = [(f"model.layers.{i}.mlp.down_proj", "linear", 1.25 * i, 2.5, SENTENCE) for i in range(3)]
    table = show.Table(columns, rows, "differences", right=frozenset({"size of a", "size of b"}))
    put = show._rich_writer()
    put(table)
    put(show.Prose(SENTENCE))
    out = capfd.readouterr().out
    assert max(map(len, out.split("\n"))) <= width
    words = set(out.split())
    assert {*SENTENCE.split(), "model.layers.2.mlp.down_proj", "linear", "differences", "2.5"} <= words


@pytest.mark.parametrize("width", WIDTHS)
def test_diff_begins_with_its_verdict(width: int, loras: list[Path], tmp_path: Path) -> None:
    ran = typed(tmp_path, ["diff", *map(str, loras)], width)
    lines = [line for line in ran.out.split("\n") if line.startswith(("verdict", "a  ", "They", "header"))]
    assert "verdict  they differ" in ran.out
    assert ran.out.index("verdict") < ran.out.index("header"), lines


def test_a_history_fits_and_keeps_its_lanes(llama: Path, loras: list[Path], tmp_path: Path) -> None:
    api.compose(loras, out=tmp_path / "both.safetensors")
    narrow = typed(tmp_path, ["log", "both.safetensors"], 40).out
    said = {word for line in narrow.split("\n") for word in line.split()}
    assert {"both.safetensors", "compose", "*", "|", "here)"} <= {word.strip('"') for word in said}
    long = [line for line in narrow.split("\n") if len(line) > 40]
    assert all(len(line.split()[-1]) > 30 for line in long), narrow


@pytest.mark.parametrize("width", WIDTHS)
def test_help_fits_and_breaks_no_name(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for name in listing.names():
        command = listing.load(name)
        text, _, _ = command.get_help(command.context_class(command, info_name=name)).partition("\nExamples:")
        wide = [line for line in text.split("\n") if len(line) > width and not line.startswith("  -")]
        assert wide == [], name
        assert not [line for line in text.split("\n") if line.endswith("-")], name
        names = {param.name for param in command.params}
        assert set(getattr(command, "sections", {})) <= names, "a section of an option that there is not"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_digest_is_never_broken(
    width: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where no line holds it the terminal breaks it, which copies it whole."""
    monkeypatch.setenv("COLUMNS", str(width))
    digest = f"sha256:{'0123456789abcdef' * 4}"
    show._rich_writer()(show.Facts({"architecture": "Llama", "structure": digest, "content": "none"}, "base"))
    lines = [line.rstrip() for line in capfd.readouterr().out.split("\n")]
    assert max(len(line) for line in lines if line != digest) <= width
    assert any(digest in line for line in lines)
    assert [line.split()[0] for line in lines if line and line[0] != " " and line != digest] == [
        "base",
        "architecture",
        "structure",
        "content",
    ]


def test_an_error_is_broken_between_words(tmp_path: Path) -> None:
    (tmp_path / "stile.safetensors").mkdir()
    ran = typed(tmp_path, ["inspect", "style.safetensors"], 40)
    assert [line.rstrip() for line in ran.out.split("error: ")[1].split("\n")] == [
        "there is nothing at",
        "  `style.safetensors`",
        "  hint: did you mean",
        "    `stile.safetensors`?",
        "",
    ]


def test_code_stands_in_one_line_where_a_line_holds_it() -> None:
    said = "the adapter comes first: say `adaptr merge base style` and it is merged"
    assert filled(said, 30, "  ").split("\n") == [
        "the adapter comes first: say",
        "  `adaptr merge base style`",
        "  and it is merged",
    ]
    assert filled("y" * 60, 30) == "y" * 60
