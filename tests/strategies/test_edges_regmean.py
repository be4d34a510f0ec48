"""RegMean at a target that not all inputs have, and with files of Grams that are not there, changed or NaN."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from adaptr.algebra.lowrank import LowRank
from adaptr.errors import InputError, NonFinite
from strategies.formulas import SHAPE, close, exact, made
from strategies.test_reference import low


@pytest.fixture
def grams(tmp_path: Path) -> Path:
    return written(tmp_path / "grams.safetensors", 5)


def written(path: Path, seed: int) -> Path:
    g = torch.Generator().manual_seed(seed)
    X = [torch.randn(40, SHAPE[1], generator=g) for _ in range(3)]
    save_file({f"layer:{n}": x.T @ x for n, x in enumerate(X)}, path)
    return path


def test_regmean_at_a_lone_target_counts_all_outputs(grams: Path) -> None:
    """An input that does not change the layer has outputs too, that a change of another's would spoil."""
    a, b = low(SHAPE, (3, 3))
    zero = LowRank(torch.zeros_like(b.B), b.A)  # type: ignore[attr-defined]
    want = made("regmean", [a, zero], [1.0, 2.0], grams=str(grams))
    found = made("regmean", [a], [1.0], grams=str(grams), inputs=(0,), absent=((1, 2.0),))
    close(found, want)
    assert float((found - exact(a)).norm() / exact(a).norm()) > 0.1
    close(made("regmean", [a], [3.0], grams=str(grams)), exact(a))


def test_regmean_wants_the_gram_of_an_input_that_is_not_there(grams: Path) -> None:
    (a,) = low(SHAPE, (3,))
    with pytest.raises(InputError, match="layer:7"):
        made("regmean", [a], [1.0], grams=str(grams), inputs=(0,), absent=((7, 1.0),))


def test_regmean_reads_the_file_that_is_there(grams: Path) -> None:
    ops = low(SHAPE, (3, 3))
    first = made("regmean", ops, [1.0, 1.0], grams=str(grams))
    written(grams, 6)
    assert not torch.equal(made("regmean", ops, [1.0, 1.0], grams=str(grams)), first)


def test_regmean_refuses_nan(tmp_path: Path) -> None:
    save_file({"layer:0": torch.full((SHAPE[1], SHAPE[1]), torch.nan)}, tmp_path / "g.safetensors")
    with pytest.raises(NonFinite, match="layer:0"):
        made("regmean", low(SHAPE, (2,)), [1.0], grams=str(tmp_path / "g.safetensors"))
