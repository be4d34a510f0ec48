"""Documents that are written from the code: run `make docs` after a change; lint and tests/test_docs.py notice lag.

`python docs/generate.py` writes them, `--check` only says which are out of date and ends with 1. They tell of what is
built in; `--of DISTRIBUTION` prints the same of all that an installed distribution gives.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import formats_table.one
import formats_table.page
import methods_table.page
import models_table.page
from adaptr import errors
from adaptr.cli import catalogue
from adaptr.training.schema import schema
from pages import (
    commands,
    composition,
    contract,
    files,
    given,
    hosts,
    methods,
    packed,
    peft,
    pictures,
    python,
    recipes,
    remotes,
    servers,
    strategies,
)
from pages.markdown import with_tables

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTE = "<!-- Written by docs/generate.py; change the code and run `make docs`. -->\n\n"
#: Pages that are written whole.
WHOLE: Mapping[str, Callable[[], str]] = {
    "cli": commands.page,
    "methods": methods.page,
    "strategies": strategies.page,
    "hooks": contract.hooks,
    "errors": contract.exceptions,
    "servers": servers.page,
    "formats": formats_table.page.page,
    "peft": peft.page,
    "remotes": remotes.page,
    "api": python.page,
    "hosts": hosts.page,
    "compatibility": methods_table.page.page,
    "models": models_table.page.page,
}


def documents() -> dict[Path, str]:
    """Path to text of every generated document."""
    return {path: make() for path, make in makers().items()}


def makers() -> dict[Path, Callable[[], str]]:
    """Path to what makes the text, of every generated document and of those with tables among written text."""
    made = {"recipe": schema, "composition": composition.schema}
    each = formats_table.one.pages()
    return (
        {DOCS / f"{name}.md": partial(_whole, page) for name, page in WHOLE.items()}
        | {DOCS / "formats" / f"{name}.md": partial(_whole, partial(str, text)) for name, text in each.items()}
        | {files.SCHEMAS / f"{name}.schema.json": partial(_json, one) for name, one in made.items()}
        | {DOCS / "pictures" / f"{name}.svg": draw for name, draw in pictures.PICTURES.items()}
        | {catalogue.CARRIED: catalogue.shares}
        | {path: partial(_among, path, tables) for path, tables in TABLES.items()}
    )


def _whole(page: Callable[[], str]) -> str:
    return NOTE + page()


def _json(schema: Callable[[], object]) -> str:
    return json.dumps(schema(), indent=2) + "\n"


def _among(path: Path, tables: Callable[[], Mapping[str, str]]) -> str:
    return with_tables(path.read_text(encoding="utf-8"), tables())


def _measured(script: str) -> dict[str, str]:
    """The tables of what was measured once, by the script beside the one that measured it."""
    sys.path.append(str((ROOT / script).parent))  # as if the script were run
    found: dict[str, str] = runpy.run_path(str(ROOT / script))["tables"]()
    return found


#: The blocks that are replaced in a page that people write.
TABLES: Mapping[Path, Callable[[], Mapping[str, str]]] = {
    ROOT / "README.md": lambda: {"methods": methods.listed()},
    DOCS / "files.md": files.tables,
    DOCS / "serving.md": lambda: {"profiles": servers.profiles()},
    DOCS / "training.md": lambda: {"fields": recipes.fields_table()},
    DOCS / "quantised-models.md": lambda: packed.packings() | _measured("benchmarks/packed_tables.py"),
    DOCS / "choosing.md": lambda: _measured("examples/compare_tables.py") | _measured("examples/every_tables.py"),
}


def main() -> int:
    if "--of" in sys.argv:
        try:
            print(given.by(sys.argv[sys.argv.index("--of") + 1]))
        except errors.UsageError as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    os.environ["ADAPTR_NO_PLUGINS"] = "1"
    late = {p: text for p, text in documents().items() if not p.exists() or p.read_text(encoding="utf-8") != text}
    for path, text in late.items():
        if "--check" in sys.argv:
            print(f"{path.relative_to(ROOT)} lags behind the code; run `make docs`")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if late and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
