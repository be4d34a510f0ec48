"""Weights searched on data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import strategies
from adaptr.composing import searching
from adaptr.errors import BadConfig, InputError, UsageError
from composing.inputs import filled

pytest.importorskip("scipy")
WORDS = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{i}" for i in range(60))]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    tiny.model("llama").save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(folder)
    return folder


def test_the_search_finds_the_least_of_a_simple_loss() -> None:
    strategy: Any = strategies.get("lorahub")
    cfg = strategy.config({"data": "x", "l1": 0.0})
    looks = []

    def loss(w: Any) -> float:
        looks.append(w)
        return (w[0] - 0.8) ** 2 + (w[1] + 0.3) ** 2

    found = strategy.search(loss, 2, cfg)
    assert found == pytest.approx([0.8, -0.3], abs=1e-2)
    assert len(looks) <= 40
    assert strategy.search(loss, 2, cfg) == found
    sparse = strategy.search(lambda w: 0.001 * (w[0] - 1) ** 2, 1, strategy.config({"data": "x", "l1": 10.0}))
    assert sparse == [0.0]


def test_the_found_weights_are_better_than_none(base: Path, tmp_path: Path) -> None:
    """Of a trained and a random adapter the search takes the trained one."""
    model = tiny.model("llama")
    trained = adaptr.create(model, "lora", r=4)
    ids = torch.arange(4, 16)[None]
    with adaptr.train(model, trained) as session:
        optimiser = torch.optim.Adam(session.parameters(), lr=1e-2)
        for _ in range(30):
            model(input_ids=ids, labels=ids).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        trained = session.adapted()
    other = filled(adaptr.create(model, "lora", r=4), 5)
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"text": " ".join(WORDS[4:16])}) + "\n")
    made = adaptr.compose([trained, other], "lorahub", base=str(base), data=str(data), steps=25)
    weights = made.adapter.lineage["arguments"]["weights"]
    assert weights[0] > 0.5
    assert abs(weights[1]) < weights[0]
    before = float(model(input_ids=ids, labels=ids).loss.detach())
    with adaptr.attach(model, made.adapter):
        assert float(model(input_ids=ids, labels=ids).loss.detach()) < before - 0.5
    again = adaptr.compose([trained, other], "lorahub", base=str(base), data=str(data), steps=25)
    assert again.adapter.lineage == made.adapter.lineage
    assert str(tmp_path) not in json.dumps(made.adapter.lineage)


def test_the_found_weights_are_times_those_that_were_given(base: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"text": "w1 w2 w3"}) + "\n")
    a, b = (filled(adaptr.create(tiny.model("llama"), "lora", r=2), seed) for seed in (1, 2))
    given = {"*": 0.5, "*.layers.0.*": [-2.0]}
    made = adaptr.compose([(a, given), (b, 0.0)], "lorahub", base=str(base), data=str(data), steps=8, l1=0.0)
    first, second = made.adapter.lineage["arguments"]["weights"]
    by = first["*"] / 0.5
    assert by != 0
    assert first["*.layers.0.*"] == pytest.approx([-2.0 * by])
    assert second == 0
    with pytest.raises(UsageError, match="leave out `normalize=True`"):
        adaptr.compose([a, b], "lorahub", base=str(base), data=str(data), normalize=True)


def test_what_is_refused(base: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "w1"}\n{"words": 1}\n')
    with pytest.raises(InputError, match="line 2: no example, wanted"):
        searching.examples(data)
    data.write_text('{"prompt": "w1", "completion": "w2"}\n\n{"text": "w3"}\n')
    assert searching.examples(data) == [("w1", "w2"), ("", "w3")]
    a = filled(adaptr.create(tiny.model("llama"), "lora"), 1)
    with pytest.raises(UsageError, match="give the base"):
        adaptr.compose([a], "lorahub", data=str(data))
    with pytest.raises(BadConfig, match="has no `data`"):
        adaptr.compose([a], "lorahub", base=str(base))
    data.write_text("\n")
    with pytest.raises(InputError, match="no examples"):
        searching.examples(data)
