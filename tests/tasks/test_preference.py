"""Answers that were chosen and rejected, as TRL's `DPOTrainer` takes them."""

from __future__ import annotations

from pathlib import Path

import pytest

import speaking
from adaptr import tasks
from adaptr.data import Place, Record
from adaptr.errors import BadRecord
from adaptr.tasks import Limits, Tools

DPO = tasks.by_name("preference")
HAVE = Tools(speaking.tokenizer(), pad=0)
LIMITS = Limits(64)


def encoded(**values: object) -> dict[str, list[int]]:
    (one,) = DPO.encode([Record(values, Place("a", 3))], HAVE, LIMITS)
    return dict(one.example)  # type: ignore[arg-type]


def texts(example: dict[str, list[int]]) -> list[str]:
    return [str(speaking.tokenizer().decode(ids)) for ids in example.values()]


def test_texts() -> None:
    found = encoded(prompt="a\n", chosen="b c", rejected="d")
    assert texts(found) == ["a\n", "b c<|im_end|>", "d<|im_end|>"]


def test_messages() -> None:
    ask, say = [{"role": "user", "content": "a"}], [[{"role": "assistant", "content": c}] for c in "bd"]
    found = encoded(prompt=ask, chosen=say[0], rejected=say[1])
    turn = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert texts(found) == [turn, "b<|im_end|>\n", "d<|im_end|>\n"]


def test_a_token_that_stands_in_prompt_and_answer_is_of_the_answer() -> None:
    """Both rows are what their texts are, tokenised once."""
    found = encoded(prompt="th", chosen="e cat", rejected="at")
    for name, whole in (("chosen_ids", "the cat<|im_end|>"), ("rejected_ids", "that<|im_end|>")):
        assert found["prompt_ids"] + found[name] == speaking.tokenizer()(whole)["input_ids"]


def test_it_is_what_trl_makes_of_it() -> None:
    """Where no token stands in both, TRL's own preparing gives the same."""
    prompt, ids = "a\n", speaking.tokenizer()
    found = encoded(prompt=prompt, chosen="b c", rejected="d")
    assert found["prompt_ids"] == ids(prompt)["input_ids"]
    assert found["chosen_ids"] == ids(prompt + "b c<|im_end|>")["input_ids"][len(found["prompt_ids"]) :]


BAD: list[tuple[dict[str, object], str]] = [
    ({"prompt": "a", "chosen": "b", "rejected": "b"}, "nothing to prefer"),
    ({"prompt": "a", "chosen": "b", "rejected": ""}, "the completion is empty"),
    ({"prompt": "a", "chosen": "b"}, "`rejected` is missing"),
    ({"prompt": "a", "chosen": [{"role": "assistant", "content": "b"}], "rejected": "c"}, "messages where `prompt` is"),
    ({"prompt": "a b c d " * 40, "chosen": "b", "rejected": "c"}, "within `length` 64"),
]


@pytest.mark.parametrize(("values", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_bad_records(values: dict[str, object], reason: str) -> None:
    with pytest.raises(BadRecord, match=f"a:3: .*{reason}"):
        encoded(**values)


def test_the_likelier_answer_is_preferred(tmp_path: Path) -> None:
    base = speaking.llama(tmp_path)
    model, have = DPO.model(base, ()).eval(), tasks.tools(base)
    records = [Record({"prompt": "a\n", "chosen": c, "rejected": r}, Place("a", 1)) for c, r in ("bd", "db")]
    batch = DPO.collate([one.example for one in DPO.encode(records, have, LIMITS)], have)
    assert batch["input_ids"].shape[0] == 4
    assert sorted(map(str, DPO.predicted(model, batch, have))) == ["chosen", "rejected"]
