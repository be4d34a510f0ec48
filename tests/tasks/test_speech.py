"""Sounds with what is said in them."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

import speaking
from adaptr import tasks
from adaptr.data import Place, Record
from adaptr.errors import BadRecord
from adaptr.tasks import Limits

SPEECH = tasks.by_name("speech")
LIMITS = Limits(16)
SAMPLES = (np.sin(np.arange(16000) / 20) * 0.5 * 32768).astype("<i2")


def record(folder: Path, **values: object) -> Record:
    return Record({"text": "the cat", **values}, Place(str(folder / "a.jsonl"), 2))


def recorded(file: Path, rate: int = 16000) -> None:
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(SAMPLES.tobytes())


def test_ways_to_say_a_sound(tmp_path: Path) -> None:
    base = speaking.whisper(tmp_path / "base")
    model, have = SPEECH.model(base, ()).eval(), tasks.tools(base)
    recorded(tmp_path / "a.wav")
    samples = {"array": (SAMPLES / 32768).tolist(), "sampling_rate": 16000}
    records = [record(tmp_path, audio=way) for way in ("a.wav", samples)]
    encoded = list(SPEECH.encode(records, have, LIMITS))
    batch = SPEECH.collate([one.example for one in encoded], have)
    torch.testing.assert_close(batch["input_features"][0], batch["input_features"][1])
    given = record(tmp_path, input_features=batch["input_features"][0].tolist())
    (again,) = SPEECH.encode([given], have, LIMITS)
    torch.testing.assert_close(SPEECH.collate([again.example], have)["input_features"], batch["input_features"][:1])
    assert speaking.tokenizer().decode(batch["labels"][0]) == "the cat<|im_end|>"
    assert torch.isfinite(model(**batch).loss)


def test_the_first_token_is_left_to_the_model() -> None:
    from adaptr.tasks.builtin.speech import _labels

    tokenizer = speaking.encoder_tokenizer()  # writes its own tokens around
    tokenizer.prefix_tokens = [1]
    tokenizer.eos_token = speaking.END
    assert tokenizer.decode(_labels("a", tokenizer)) == "a<|im_end|>"


BAD: list[tuple[object, str]] = [
    ("b.wav", "there is no file `b.wav`"),
    ("../a.wav", "is outside the data's folder"),
    ("slow.wav", "the sound has 8000 samples a second, wanted 16000"),
    ("text.wav", "the sound"),
    ({"array": [0.0], "sampling_rate": 8000}, "the sound has 8000 samples a second"),
    ({"array": ["a"], "sampling_rate": 16000}, "the sound is no array of numbers"),
]


@pytest.mark.parametrize(("audio", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_bad_sounds(tmp_path: Path, audio: object, reason: str) -> None:
    have = tasks.tools(speaking.whisper(tmp_path / "base"))
    data = tmp_path / "data"
    data.mkdir()
    recorded(data / "slow.wav", 8000)
    (data / "text.wav").write_text("no sound")
    with pytest.raises(BadRecord, match=rf"a\.jsonl:2: .*{reason}"):
        list(SPEECH.encode([record(data, audio=audio)], have, LIMITS))
