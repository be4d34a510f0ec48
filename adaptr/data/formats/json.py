"""JSON: an array of objects, an object of columns, one with the array under `data`, or, as some tools name it, lines.

SQuAD's articles, which hold paragraphs, which hold questions, become a record a question.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping

from adaptr.data.format import DataFormat, Row, Rows
from adaptr.data.formats.jsonl import objects
from adaptr.data.records import Place
from adaptr.data.source import Source
from adaptr.errors import DataError, shown
from adaptr.untrusted import json_object

#: Under which an object may hold its records.
INSIDE = ("data", "rows", "records", "examples", "instances")


class Json(DataFormat):
    name = "json"
    suffixes = ("json",)

    def rows(self, source: Source) -> Rows:
        text = source.text()
        if _is_lines(text):
            lines = enumerate(io.StringIO(text, newline="\n"), 1)
            return Rows(objects(source.called, lines), ("each line is a record",))
        return _records(_document(text, source.called), source.called)


def _document(text: str, called: str) -> object:
    """With an object around it, so that one reader of JSON keeps all that is promised of it."""
    try:
        return json_object(b'{"":' + text.encode() + b"\n}", "the file", DataError)[""]
    except DataError as error:
        line = re.search(r": line (\d+) column", str(error))
        place = f"{called}:{line[1]}" if line else called
        raise DataError(f"{place}: {error}", hint="`python -m json.tool FILE` shows where") from None


def _is_lines(text: str) -> bool:
    """Whether the first line is an object of its own, and something follows."""
    first, _, rest = text.lstrip().partition("\n")
    if not (first.startswith("{") and first.rstrip().endswith("}") and rest.strip()):
        return False
    try:
        json_object(first.encode(), "", DataError)
    except DataError:
        return False
    return True


def _records(document: object, called: str) -> Rows:
    if isinstance(document, list):
        return Rows(_objects(document, called))
    if isinstance(document, dict):
        for name in INSIDE:
            found = document.get(name)
            if isinstance(found, list) and found and all(isinstance(one, dict) for one in found):
                nested = isinstance(found[0].get("paragraphs"), list)
                rows = _questions(found, called) if nested else _objects(found, called)
                return Rows(rows, (f"the records are under `{name}`",))
        if document and all(isinstance(one, list) for one in document.values()):
            return Rows(_columns(document, called), ("each name is a column",))
        return Rows(iter([(1, document)]))
    raise DataError(f"{called}: the file", got=shown(document), want="an array of objects, or an object of columns")


def _objects(found: list[object], called: str) -> Iterator[Row]:
    for number, one in enumerate(found, 1):
        if not isinstance(one, Mapping):
            raise Place(called, number).bad("the record", got=shown(one), want="an object")
        yield number, one


def _columns(document: Mapping[str, list[object]], called: str) -> Iterator[Row]:
    lengths = {name: len(values) for name, values in document.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"`{shown(name)}` has {n}" for name, n in list(lengths.items())[:6])
        raise DataError(
            f"{called}: the columns are not of the same length: {said}", hint="give every record a value in each"
        )
    for number, row in enumerate(zip(*document.values(), strict=True), 1):
        yield number, dict(zip(document, row, strict=True))


def _questions(articles: list[object], called: str) -> Iterator[Row]:
    """A record a question: `id`, `question`, `context`, `answers` ({`text`: [...], `answer_start`: [...]})."""
    number = 0
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:  # type: ignore[index]
                for asked in paragraph["qas"]:
                    number += 1
                    answers = asked.get("answers", [])
                    texts = {key: [one[key] for one in answers] for key in ("text", "answer_start")}
                    kept = {key: asked[key] for key in ("id", "question") if key in asked}
                    yield number, {**kept, "context": paragraph["context"], "answers": texts}
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise Place(called, number).bad(f"it is not as SQuAD nests its questions: {shown(reason)}") from None
