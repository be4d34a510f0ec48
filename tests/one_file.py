"""The plugins that CONTRIBUTING shows, each put on a path as a distribution of one file, with its laws beside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text("utf-8")


@dataclass(frozen=True)
class Sort:
    """What a section shows. `name`: of the plugin; `attribute`: "" where the module is the plugin; `help`: the command
    line that tells of it; `laws`: the fewest that pass.
    """

    group: str
    name: str
    module: str
    attribute: str
    help: tuple[str, ...]
    laws: int


SORTS = {
    "method": Sort("methods", "halves", "halves", "Halves", ("methods",), 18),
    "strategy": Sort("strategies", "halved", "halved", "Halved", ("compose", "--help"), 11),
    "format": Sort("formats", "plain", "plain", "Plain", ("convert", "--help"), 9),
    "packing": Sort("packings", "bytes", "rows_of_bytes", "Bytes", ("merge", "--help"), 5),
    "command": Sort("commands", "keys", "keys", "", ("--help",), 11),
    "remote": Sort("remotes", "shelf", "shelf", "Shelf", ("pull", "--help"), 14),
    "error": Sort("errors", "TooMany", "too_many", "TooMany", ("errors",), 4),
}


def blocks(sort: str) -> tuple[str, str]:
    """The plugin, and its laws, as the section shows them."""
    section = re.search(rf"## An? {sort} in one file\n(.*?)(?=\n## )", TEXT, re.DOTALL)
    assert section is not None
    plugin, laws = re.findall(r"```python\n(.*?)```", section[1], re.DOTALL)
    return plugin, laws


def install(sort: str, folder: Path) -> Path:
    """Put the distribution there; returns the file with its laws."""
    one, (plugin, laws) = SORTS[sort], blocks(sort)
    info = folder / f"one_{one.module}-1.0.dist-info"
    info.mkdir(parents=True)
    value = f"{one.module}:{one.attribute}" if one.attribute else one.module
    (info / "entry_points.txt").write_text(f"[adaptr.{one.group}]\n{one.name} = {value}\n")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: one-{one.module}\nVersion: 1.0\n")
    (folder / f"{one.module}.py").write_text(plugin)
    tests = folder / "tests" / f"test_{one.module}.py"
    tests.parent.mkdir(exist_ok=True)
    tests.write_text(laws)
    return tests


def run(folder: Path, *line: str) -> subprocess.CompletedProcess[str]:
    """Python with the distribution on its path."""
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run([sys.executable, *line], capture_output=True, text=True, env=environment)
