"""Talking: what was said goes along, adapters are switched between turns, and answers come while they are made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr import api
from adaptr.cli.output import Output
from adaptr.cli.streamed import Streamed
from adaptr.errors import Unsupported, UsageError
from adaptr.runtime.chat import Chat, weighed
from adaptr.testing.terminals import piped


def test_a_talk_is_the_answers_to_all_that_was_said(llama: Path, lora: Path, tmp_path: Path) -> None:
    words = ["chat", str(llama), f"{lora}=0.5", "--max-new-tokens", "3", "--json"]
    ran = piped(tmp_path, words, "w1 w2\n\n/base\nw3\n/with lora=2\nw4\n/quit\nw5\n")
    said = json.loads(ran.out)
    turns = [turn["content"] for turn in said["turns"]]
    assert [turn["role"] for turn in said["turns"]] == ["user", "assistant"] * 3
    assert turns[::2] == ["w1 w2", "w3", "w4"]
    assert said["adapters"] == {"lora": 2.0}
    for number, adapters in ((0, [(lora, 0.5)]), (2, []), (4, [(lora, 2.0)])):
        prompt = "\n".join(turns[: number + 1])
        (answer,) = api.apply(llama, adapters, prompt, max_new_tokens=3).answers
        assert answer.text.strip() == turns[number + 1]


def test_what_can_be_typed_and_what_not(llama: Path, loras: list[Path], tmp_path: Path) -> None:
    words = ["chat", str(llama), *map(str, loras), "--max-new-tokens", "2"]
    ran = piped(
        tmp_path, words, "/adapters\n/with stile\n/with style=x\n/wiht style\n/help\n/with style\n/adapters\nw1\n"
    )
    assert ran.code == 0
    assert "style=1, tone=1\n" in ran.err
    assert "did you mean `style`?" in ran.err
    assert "the weight `x` of `style`" in ran.err
    assert "did you mean `/with`" in ran.err
    assert "/reset" in ran.err
    assert "style=1, tone=1 (off)" in ran.err
    assert ran.out.strip()


def test_a_template_a_system_s_words_and_forgetting(llama: Path) -> None:
    with api.chat(llama, system="w9", max_new_tokens=1) as talk:
        talk.tokenizer.chat_template = (
            "{% for m in messages %}{{ m['role'][0] + ' ' + m['content'] + ' ' }}{% endfor %}"
        )
        talk.say("w1")
        assert talk.prompt().startswith("s w9 u w1 a")
        talk.reset()
        assert talk.turns == [{"role": "system", "content": "w9"}]
        talk.system("")
        assert talk.turns == []


def test_an_interrupted_answer_is_kept(llama: Path) -> None:
    def interrupt(piece: str) -> None:
        if piece.strip():
            raise KeyboardInterrupt

    with api.chat(llama, max_new_tokens=8) as talk:
        assert isinstance(talk, Chat)
        with pytest.raises(KeyboardInterrupt):
            talk.say("w1", interrupt)
        assert talk.turns[-1]["role"] == "assistant"
        assert talk.turns[-1]["content"]


def test_a_model_that_names_classes_does_not_talk(bert: Path, adaptr: Callable) -> None:
    with pytest.raises(Unsupported), api.chat(bert):
        pass
    with pytest.raises(UsageError):
        weighed(["style=much"])


@pytest.mark.parametrize("pieces", [["  a", " b ", "\n", "c \n "], ["a b", " \nc"], [" ", "", "a b \nc"]])
def test_pieces_make_the_text_without_the_blanks_around(pieces: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    streamed = Streamed(Output())
    for piece in pieces:
        streamed(piece)
    streamed.end()
    assert capsys.readouterr().out == "".join(pieces).strip() + "\n"


def test_an_answer_comes_in_pieces(llama: Path) -> None:
    pieces: list[str] = []
    report = api.apply(llama, prompts="w1", max_new_tokens=5, told=pieces.append)
    assert "".join(pieces).strip() == report.answers[0].text.strip()
    assert len([piece for piece in pieces if piece]) > 1
