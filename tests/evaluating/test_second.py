from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from adaptr.errors import DataError, InputError, UsageError
from adaptr.evaluating import second, setting
from adaptr.evaluating.second import Text, measured, windows
from evaluating.conftest import text


def test_windows_count_each_token_once() -> None:
    found = list(windows(10, 4, 2))
    assert found == [(0, 4, 0), (2, 6, 4), (4, 8, 6), (6, 10, 8)]
    assert list(windows(3, 4, 2)) == [(0, 3, 0)]


@pytest.mark.parametrize("length", [5, 64])
def test_perplexity_is_the_exponential_of_the_mean_of_what_windows_say(llama: Path, pairs: Path, length: int) -> None:
    here = setting.opened(llama, pairs)
    long = " ".join(text(i) for i in range(8))
    ids = here.tools.tokenizer(long)["input_ids"]
    total, stride, done = 0.0, length // 2, 0
    for start in range(0, len(ids), stride):
        end = min(start + length, len(ids))
        with torch.no_grad():
            chances = here.model(torch.tensor([ids[start:end]])).logits[0].log_softmax(-1)
        total -= sum(float(chances[i - start - 1, ids[i]]) for i in range(max(done, start + 1), end))
        done = end
        if end == len(ids):
            break
    found = second(here.model, long, here.tools, length)
    assert found.values()["perplexity"] == pytest.approx(math.exp(total / (len(ids) - 1)), rel=1e-5)
    assert found.losses[:, 1].sum() == len(ids) - 1


def test_a_text_that_is_none_is_refused(llama: Path, bert: Path, pairs: Path, reviews: Path, tmp_path: Path) -> None:
    here = setting.opened(llama, pairs)
    with pytest.raises(DataError, match="tokens"):
        second(here.model, "w1", here.tools, 8)
    with pytest.raises(UsageError, match="second text"):
        measured(setting.opened(bert, reviews), Text("w1 w2", ""))
    (tmp_path / "latin.txt").write_bytes(b"a\n\xff")
    with pytest.raises(DataError, match=r"latin\.txt:2: byte 0xff"):
        Text.read(tmp_path / "latin.txt")
    with pytest.raises(InputError):
        Text.read(tmp_path / "nothing.txt")


def test_a_second_text_is_the_same_from_a_file_of_text_and_of_records(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffw1 w2\n\n\nw3\n")
    (tmp_path / "b.jsonl").write_text('{"text": "w1 w2"}\n{"text": "w3"}\n')
    assert Text.read(tmp_path / "a.txt").text == "w1 w2\n\n\nw3\n"
    assert Text.read(tmp_path / "b.jsonl").text == "w1 w2\n\nw3"
