"""What comes with a base, and what does not belong to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers as t

import speaking
from adaptr import tasks
from adaptr.errors import CheckpointError
from adaptr.tasks.tools import fill


def test_the_bases_own(tmp_path: Path) -> None:
    have = tasks.tools(speaking.llama(tmp_path))
    assert (have.pad, have.places, have.said, have.processor) == (0, 128, (), None)


def test_positions_that_are_counted_from_behind_the_padding(tmp_path: Path) -> None:
    base = speaking.bert(tmp_path)
    t.RobertaModel(
        t.RobertaConfig(**{**speaking.SIZES, "max_position_embeddings": 42, "pad_token_id": 0})
    ).save_pretrained(base)
    assert tasks.tools(base).places == 41
    assert tasks.tools(speaking.t5(tmp_path)).places == 0, "it has no positions, only distances"


def test_a_processor(tmp_path: Path) -> None:
    have = tasks.tools(speaking.vit(tmp_path))
    assert have.tokenizer is None
    assert have.processor is not None


def test_no_token_to_fill_with() -> None:
    pad, said = fill(speaking.tokenizer(pad=None), 320)
    assert pad == 2
    assert said == (
        "the tokenizer has no token to fill rows with: rows are filled with 2, masked, and nothing is resized",
    )


def test_a_new_token_to_fill_with() -> None:
    tokenizer = speaking.tokenizer(pad=None)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    (number,) = (i for name, i in tokenizer.get_added_vocab().items() if name == "[PAD]")
    pad, said = fill(tokenizer, number)
    assert pad == 2
    assert f"the tokenizer's `[PAD]` ({number}) has no row in the base's embedding ({number})" in said[0]


def test_new_tokens_that_the_base_has_no_row_for() -> None:
    tokenizer = speaking.tokenizer()
    rows = len(tokenizer)
    tokenizer.add_tokens(["<one>", "<two>"])
    with pytest.raises(CheckpointError, match=r"no row for: `<one>` and 1 more.*does not resize an embedding"):
        fill(tokenizer, rows)
