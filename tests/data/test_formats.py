"""Each format of data, and what is said of files that are none."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptr.data import read
from adaptr.errors import BadRecord, DataError

ROWS: list[dict[str, Any]] = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
MANY = st.lists(st.fixed_dictionaries({"prompt": TEXTS, "completion": TEXTS}), min_size=1, max_size=5)
QUICK = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def values(file: Path) -> list[dict[str, Any]]:
    return [dict(record.values) for record in read(file).records]


def lines(file: Path) -> list[int]:
    return [record.place.line for record in read(file).records]


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, "utf-8", newline="")
    return folder / name


@QUICK
@given(MANY)
def test_json_lines_go_round(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    text = "\n".join(json.dumps(row, ensure_ascii=bool(len(rows) % 2)) for row in rows)
    assert values(write(tmp_path, "a.jsonl", text)) == rows


@QUICK
@given(MANY)
def test_json_goes_round(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for document in (rows, columns, {"version": 1, "data": rows}):
        assert values(write(tmp_path, "a.json", json.dumps(document, indent=1))) == rows


@QUICK
@given(MANY)
def test_csv_goes_round(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    with io.StringIO(newline="") as made:
        writer = csv.DictWriter(made, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        file = write(tmp_path, "a.csv", made.getvalue())
    assert values(file) == rows


def test_json_with_a_line_for_each_record(tmp_path: Path) -> None:
    """As xsum's and wmt's samples are named."""
    file = write(tmp_path, "a.json", "".join(json.dumps(row) + "\n" for row in ROWS))
    assert (values(file), lines(file)) == (ROWS, [1, 2])
    assert read(file).said == ("each line is a record",)


def test_json_of_one_object_is_one_record(tmp_path: Path) -> None:
    assert values(write(tmp_path, "a.json", json.dumps(ROWS[0]))) == ROWS[:1]


def test_nested_questions(tmp_path: Path) -> None:
    asked = {
        "id": "1",
        "question": "who?",
        "answers": [{"text": "he", "answer_start": 0}, {"text": "h", "answer_start": 0}],
    }
    nothing = {"id": "2", "question": "what?", "answers": [], "is_impossible": True}
    document = {"version": "2.0", "data": [{"title": "t", "paragraphs": [{"context": "he", "qas": [asked, nothing]}]}]}
    found = values(write(tmp_path, "a.json", json.dumps(document)))
    assert found == [
        {"id": "1", "question": "who?", "context": "he", "answers": {"text": ["he", "h"], "answer_start": [0, 0]}},
        {"id": "2", "question": "what?", "context": "he", "answers": {"text": [], "answer_start": []}},
    ]


def test_a_row_of_csv_may_go_over_lines(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", 'prompt,completion\r\n"a\n""b"", c",d\r\n\r\ne,f\r\n')
    assert values(file) == [{"prompt": 'a\n"b", c', "completion": "d"}, {"prompt": "e", "completion": "f"}]
    assert lines(file) == [2, 5]


def test_spaces_behind_commas_are_between_cells_where_the_first_line_has_them(tmp_path: Path) -> None:
    wanted = {"prompt": "a", "completion": "b, c"}
    assert values(write(tmp_path, "a.csv", 'prompt, completion\n"a", "b, c"\n')) == [wanted]
    wanted = {"prompt, said": "a", "completion": " Rome"}
    assert values(write(tmp_path, "b.csv", '"prompt, said",completion\na, Rome\n')) == [wanted]


def test_a_long_cell_of_csv(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    assert len(values(write(tmp_path, "a.csv", "text\n" + "a" * 200_000))[0]["text"]) == 200_000
    assert csv.field_size_limit() == limit


def test_a_quote_in_tsv_is_a_quote(tmp_path: Path) -> None:
    file = write(tmp_path, "a.tsv", '\ufeffprompt\tcompletion\r\n" a\tb\r\nc"\t\r\n')
    assert values(file) == [{"prompt": '" a', "completion": "b"}, {"prompt": 'c"', "completion": ""}]


def test_a_paragraph_of_text_is_a_record(tmp_path: Path) -> None:
    file = write(tmp_path, "a.txt", "\none\ntwo\r\n\n \nthree\n")
    assert values(file) == [{"text": "one\ntwo"}, {"text": "three"}]
    assert lines(file) == [2, 6]
    assert "a paragraph is a record" in read(file).said[0]


def test_a_line_of_text_is_a_record_where_no_line_is_empty(tmp_path: Path) -> None:
    file = write(tmp_path, "a.txt", "one\ntwo\n\n")
    assert values(file) == [{"text": "one"}, {"text": "two"}]
    assert read(file).said == ("a line is a record",)


def test_parquet(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert values(tmp_path / "a.parquet") == ROWS


def test_a_folder_of_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
    made = datasets.Dataset.from_list(rows, features=features)
    made.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=made, test=made.select([0])).save_to_disk(tmp_path / "two")
    made.to_parquet(tmp_path / "a.parquet")
    named = [{"text": "a", "label": "good"}, {"text": "b", "label": "bad"}]
    assert values(tmp_path / "one") == values(tmp_path / "two") == values(tmp_path / "a.parquet") == named
    assert values(tmp_path / "two" / "test") == named[:1]
    assert "`train` is read" in read(tmp_path / "two").said[0]
    assert read(tmp_path / "one").digest == read(tmp_path / "two").digest
    assert read(tmp_path / "one").digest != read(tmp_path / "two" / "test").digest


BAD = [
    ("a.json", '[{"a": 1},\n {"a": }]', DataError, r"a\.json:2: the file is not JSON"),
    ("a.json", '[{"a": 1}, 2]', BadRecord, r"a\.json:2: the record is 2, wanted an object"),
    ("a.json", '"a"', DataError, r"a\.json: the file is a, wanted an array"),
    ("a.json", '{"a": [1], "b": [1, 2]}', DataError, r"not of the same length: `a` has 1, `b` has 2"),
    ("a.json", "", DataError, r"a\.json.*not JSON"),
    ("a.json", "[]", DataError, r"there is no record in it"),
    ("a.json", '{"data": [{"paragraphs": [{"qas": [{}]}]}]}', BadRecord, r"a\.json:1: it is not as SQuAD nests"),
    ("a.csv", "a,b,a\n1,2,3\n", DataError, r"a\.csv:1: the column `a` is named twice"),
    ("a.csv", "a,,c\n1,2,3\n", DataError, r"a\.csv:1: column 2 has no name"),
    ("a.csv", "a,b\n1,2\n3\n", BadRecord, r"a\.csv:3: the row has 1 cells, wanted 2"),
    ("a.csv", "a\rb\n1,2\n", BadRecord, r"a\.csv:1: the row can't be read as CSV"),
    ("a.csv", 'a,b\n1,2\n3,"4\n', BadRecord, r"a\.csv:3: the row can't be read as CSV"),
    ("a.csv", "a,b\n", DataError, r"there is no record in it"),
    ("a.tsv", "a\tb\n1\t2\t3\n", BadRecord, r"a\.tsv:2: the row has 3 cells, wanted 2"),
    ("a.txt", "\n\n", DataError, r"there is no record in it"),
    ("a.parquet", "PAR1", DataError, r"can't be read as Parquet"),
]


@pytest.mark.parametrize(("name", "text", "error", "match"), BAD, ids=[match[-30:] for *_, match in BAD])
def test_bad_files(tmp_path: Path, name: str, text: str, error: type[DataError], match: str) -> None:
    with pytest.raises(error, match=match):
        read(write(tmp_path, name, text))


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder that `datasets` did not save"):
        read(tmp_path)
    write(tmp_path, "state.json", '{"_data_files": [{"filename": "../secret.arrow"}]}')
    with pytest.raises(DataError, match="names a file outside of it"):
        read(tmp_path)
    write(tmp_path, "state.json", '{"_data_files": [{"filename": "a.arrow"}]}')
    write(tmp_path, "a.arrow", "no arrow")
    with pytest.raises(DataError, match="can't be read as Arrow"):
        read(tmp_path)
    write(tmp_path, "dataset_dict.json", '{"splits": ["test", "validation"]}')
    with pytest.raises(DataError, match="has the parts test, validation; name one"):
        read(tmp_path)


def test_a_name_of_the_hub_is_told_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adaptr.data.hub import names

    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert [names(given) for given in ("nyu-mll/glue:sst2:validation", "owner/name", "owner/name.v2")] == [True] * 3
    assert not any(map(names, ("here/train", "/a/b", "a.jsonl", "../a/b", "-", "a/b/c", "./a")))
