"""Images with labels: from files beside the data, from pixels, and from what the model takes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

import speaking
from adaptr import tasks
from adaptr.data import Place, Record
from adaptr.errors import BadRecord, DataError
from adaptr.tasks import Limits, Tools

Image = pytest.importorskip("PIL.Image")
IMAGE = tasks.by_name("image")
LIMITS = Limits(1, ("cat", "dog"))
PIXELS = np.arange(16 * 16 * 3).reshape(16, 16, 3) % 256


def record(folder: Path, **values: object) -> Record:
    return Record({"label": "dog", **values}, Place(str(folder / "a.jsonl"), 2))


def test_three_ways_to_say_an_image(tmp_path: Path) -> None:
    base = speaking.vit(tmp_path / "base")
    model, have = IMAGE.model(base, LIMITS.labels).eval(), tasks.tools(base)
    assert IMAGE.heads(model, base) == ("classifier",)
    made = Image.fromarray(PIXELS.astype("uint8"))
    made.save(tmp_path / "a.png")
    with io.BytesIO() as raw:
        made.save(raw, "png")
        ways = ["a.png", {"bytes": raw.getvalue(), "path": None}, {"path": "a.png"}, PIXELS.tolist()]
    records = [record(tmp_path, image=way) for way in ways]
    encoded = list(IMAGE.encode(records, have, LIMITS))
    batch = IMAGE.collate([one.example for one in encoded], have)
    assert batch["pixel_values"].shape == (4, 3, 16, 16)
    assert all(torch.equal(one, batch["pixel_values"][0]) for one in batch["pixel_values"])
    given = record(tmp_path, pixel_values=batch["pixel_values"][0].tolist())
    (again,) = IMAGE.encode([given], have, LIMITS)
    torch.testing.assert_close(IMAGE.collate([again.example], have)["pixel_values"][0], batch["pixel_values"][0])
    assert batch["labels"].tolist() == [1] * 4
    assert IMAGE.predicted(model, batch, have) == [LIMITS.labels[i] for i in model(**batch).logits.argmax(-1)]


BAD: list[tuple[object, str]] = [
    ("b.png", "there is no file `b.png` in the data's folder"),
    ("../secret.png", "`../secret.png` is outside the data's folder"),
    ("/etc/passwd", "`/etc/passwd` is outside the data's folder"),
    ("link.png", "`link.png` is outside the data's folder"),
    ("text.png", "the image can't be read: cannot identify"),
    ([[1, 2]], "the pixels is of shape"),
    ([[[1, 2, 900]]], "from 0 to 255"),
    ([["a"]], "the pixels are no array of numbers"),
    (None, "there is no file `None`"),
]


@pytest.mark.parametrize(("image", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_bad_images(tmp_path: Path, image: object, reason: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "secret.png").write_text("secret")
    (data / "link.png").symlink_to(tmp_path / "secret.png")
    (data / "text.png").write_text("no image")
    with pytest.raises(BadRecord, match=rf"a\.jsonl:2: .*{reason}"):
        list(IMAGE.encode([record(data, image=image)], Tools(None), LIMITS))


@pytest.mark.parametrize(
    ("values", "reason"),
    [([1.0], "wanted 3 axes"), ([[["a"]]], "no array of numbers"), ([[[float("nan")]]], "not finite")],
)
def test_bad_numbers(tmp_path: Path, values: object, reason: str) -> None:
    with pytest.raises(BadRecord, match=reason):
        list(IMAGE.encode([record(tmp_path, pixel_values=values)], Tools(None), LIMITS))


def test_a_base_without_a_processor(tmp_path: Path) -> None:
    (one,) = IMAGE.encode([record(tmp_path, image=PIXELS.tolist())], Tools(None), LIMITS)
    with pytest.raises(DataError, match=r"no `preprocessor_config.json`"):
        IMAGE.collate([one.example], Tools(None))
