from __future__ import annotations

from pathlib import Path

import click
import pytest

from adaptr.cli.options import ADAPTER, Weighted


def parse(text: str) -> Weighted:
    return ADAPTER.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors=0.5", ("a.safetensors", 0.5)),
        ("a=-1e-1", ("a", -0.1)),
        ("dir/lr=3=0.25", ("dir/lr=3", 0.25)),
        ("dir=x/a", ("dir=x/a", 1.0)),
        ("a=", ("a=", 1.0)),
    ],
)
def test_a_weight_stands_behind_the_last_sign(text: str, want: tuple[str, float]) -> None:
    assert parse(text) == want


def test_a_path_that_exists_is_taken_whole(tmp_path: Path) -> None:
    run = tmp_path / "lr=3"
    run.mkdir()
    assert parse(str(run)) == (str(run), 1.0)
    assert parse(f"{run}=0.5") == (str(run), 0.5)


@pytest.mark.parametrize("weight", ["nan", "inf", "-inf"])
def test_a_weight_is_finite(weight: str) -> None:
    with pytest.raises(click.BadParameter, match="finite"):
        parse(f"a={weight}")


def test_a_weight_is_a_number(tmp_path: Path) -> None:
    with pytest.raises(click.BadParameter, match=r"`half`.*not a number"):
        parse(f"{tmp_path}=half")
