"""Files of records, and what is said of those that are none."""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
from pathlib import Path

import pytest

from adaptr.data import read
from adaptr.errors import BadRecord, DataError, InputError

TWO = '{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n'


def written(folder: Path, text: str | bytes, name: str = "a.jsonl") -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_json_lines(tmp_path: Path) -> None:
    file = written(tmp_path, TWO)
    data = read(file)
    assert [r.values for r in data.records] == [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
    assert data.records[1].place == (str(file), 2)
    assert data.digest == "sha256:" + hashlib.sha256(TWO.encode()).hexdigest()
    assert data.columns == ("prompt", "completion")


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbf" + TWO.encode(),
        TWO.replace("\n", "\r\n").encode(),
        TWO.replace("\n", "\n\n").encode(),
        TWO.rstrip("\n").encode(),
        gzip.compress(TWO.encode()),
    ],
    ids=["mark", "crlf", "empty lines", "no last end", "packed"],
)
def test_what_changes_nothing(tmp_path: Path, raw: bytes) -> None:
    data = read(written(tmp_path, raw))
    assert [r.values["prompt"] for r in data.records] == ["a", "c"]
    assert data.digest == "sha256:" + hashlib.sha256(raw).hexdigest()


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TWO.encode())))
    data = read("-")
    assert data.records[1].place == ("standard input", 2)
    assert data.digest == "sha256:" + hashlib.sha256(TWO.encode()).hexdigest()


def test_columns_are_mapped(tmp_path: Path) -> None:
    file = written(tmp_path, '{"question": "a", "nested": {"reply": "b"}, "id": 1}')
    (record,) = read(file, {"prompt": "question", "completion": "nested.reply"}).records
    assert record.values == {"prompt": "a", "completion": "b", "nested": {"reply": "b"}, "id": 1}


BAD = [
    ('{"a": 1}\n{"a": \n', BadRecord, r"a\.jsonl:2: the line is not JSON"),
    ('{"a": 1}\n[1]\n', BadRecord, r"a\.jsonl:2: the line is not a JSON object"),
    ('{"a": NaN}\n', BadRecord, r"a\.jsonl:1: .*NaN is not a JSON number"),
    ('{"a": 1, "a": 2}\n', BadRecord, r"a\.jsonl:1: .*`a` appears twice"),
    ('{"a": 1e999}\n', BadRecord, r"a\.jsonl:1: .*larger than any number"),
    ('{"a": "\\ud800"}\n', BadRecord, r"a\.jsonl:1: .*surrogate"),
    ('{"a": 1}\n' + '{"a":' * 100 + "1" + "}" * 100, BadRecord, r"a\.jsonl:2: .*nests deeper"),
    (b'{"a": "\xe9"}\n', DataError, r"a\.jsonl:1: byte 0xe9 is not UTF-8; save the file as UTF-8"),
    ('{"a": "b"}\n'.encode("utf-16"), DataError, r"a\.jsonl: the text is UTF-16, wanted UTF-8"),
    ("", DataError, r"a\.jsonl: there is no record in it"),
    ("\n \n", DataError, r"a\.jsonl: there is no record in it"),
    (gzip.compress(TWO.encode() * 99)[:-9], DataError, r"a\.jsonl:\d+: the file is packed with gzip, and broken"),
]


@pytest.mark.parametrize(("text", "error", "match"), BAD, ids=[match[-24:] for _, _, match in BAD])
def test_bad_files(tmp_path: Path, text: str | bytes, error: type[DataError], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        read(written(tmp_path, text))
    assert caught.value.exit_code == 3


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    file = written(tmp_path, '{"questions": "a", "answer": "b"}')
    with pytest.raises(BadRecord, match=r":1: there is no column `question`; did you mean `questions`\?.*`answer`"):
        read(file, {"prompt": "question"})


def test_no_file_and_no_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read(tmp_path / "b.jsonl")
    with pytest.raises(DataError, match=r"of no format that is read, wanted a file that ends in .*\.jsonl"):
        read(written(tmp_path, "a", "a.docx"))
