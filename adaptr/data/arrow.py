"""Arrow's files, as `datasets` saves them: read by pyarrow alone, and names of classes put in for their numbers."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

from adaptr.data.format import Opened, Row, Rows
from adaptr.errors import DataError, phrases, shown
from adaptr.format import digest
from adaptr.untrusted import json_file, opened

#: What a folder of `datasets` has beside its Arrow files; several parts, as `train`, are folders below another.
STATE, INFO, PARTS = "state.json", "dataset_info.json", "dataset_dict.json"
Named = Callable[[Mapping[str, object]], Mapping[str, object]]


def arrow() -> ModuleType:
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        raise phrases.extra("reading Parquet and Arrow", "pyarrow", "train") from None


def folder(path: Path) -> Opened:
    """A folder that `datasets` saved: `train` where it has parts. Its digest is of the digests of its files.

    Raises `DataError` for a folder that is none.
    """
    root, said = _part(path) if (path / PARTS).is_file() else (path, ())
    if not (root / STATE).is_file():
        raise DataError(f"`{path}` is a folder that `datasets` did not save", want=f"`{STATE}` in it, or a file")
    listed = json_file(root / STATE, DataError).get("_data_files")
    if not (isinstance(listed, list) and all(isinstance(one, dict) for one in listed)):
        raise DataError(
            f"`{root / STATE}` does not name the files of the data set", hint="save it again with `save_to_disk`"
        )
    files = [_inside(root, str(one.get("filename"))) for one in listed]
    features = json_file(root / INFO, DataError).get("features") if (root / INFO).is_file() else None
    rows = Rows(_rows(files, names_of(features if isinstance(features, dict) else {})), said)
    beside = [root / name for name in (STATE, INFO) if (root / name).is_file()]
    return Opened(rows, str(path), lambda: digest.of_files([*files, *beside]))


def _part(path: Path) -> tuple[Path, tuple[str, ...]]:
    found = json_file(path / PARTS, DataError).get("splits")
    names = [str(one) for one in found] if isinstance(found, list) else []
    listed = ", ".join(map(shown, names))
    chosen = "train" if "train" in names else names[0] if len(names) == 1 else ""
    if not chosen:
        raise DataError(f"`{path}` has the parts {listed}", hint="name one: FOLDER/PART")
    return _inside(path, chosen), (f"of its parts ({listed}) `{shown(chosen)}` is read",)


def _inside(root: Path, name: str) -> Path:
    found = root / name
    if not found.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"`{root}` names a file outside of it: `{shown(name)}`", hint="put its files into its own folder"
        )
    return found


def _rows(files: list[Path], names: Named) -> Iterator[Row]:
    pyarrow, number = arrow(), 0
    for path in files:
        try:
            with opened(path) as file:
                for batch in pyarrow.ipc.open_stream(file):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, names(row)
        except pyarrow.ArrowException as error:
            raise DataError(
                f"{path}: it can't be read as Arrow: {shown(str(error), 200)}", hint=phrases.FETCH
            ) from None


def named_classes(schema: object) -> Named:
    """What puts in names for the numbers of classes, as `datasets` keeps them in an Arrow schema."""
    try:
        said = json.loads((getattr(schema, "metadata", None) or {}).get(b"huggingface", b"{}"))
        return names_of(said["info"]["features"])
    except (ValueError, KeyError, TypeError):
        return lambda row: row


def names_of(features: Mapping[str, object]) -> Named:
    """Features that are classes, or lists of them."""
    tables = {name: found for name, one in features.items() if (found := _classes(one))}
    return lambda row: {name: _said(tables[name], v) if name in tables else v for name, v in row.items()}


def _classes(feature: object) -> list[str]:
    if isinstance(feature, list) and feature:
        return _classes(feature[0])
    if not isinstance(feature, Mapping):
        return []
    if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        return [str(name) for name in feature["names"]]
    return _classes(feature.get("feature"))


def _said(names: list[str], value: object) -> object:
    if isinstance(value, list):
        return [_said(names, one) for one in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value
