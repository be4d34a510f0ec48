"""What adaptr writes, loaded by the tools that it is written for, and what these write, as adaptr reads it.

    python oracles/run.py [TOOL ...]      # `make oracles ONLY="gguf mlx"`

A tool is a folder here with `requirements.txt`, of an environment of its own that is made once under `.cache/oracles`
(`ADAPTR_ORACLES`, another folder), on top of adaptr's and with nothing more where its first line says so, and programs
that are given a FOLDER to work in, one after the other:

- `theirs.py`, where there is one, in the tool's environment: bases, and adapters as the tool itself writes them;
- `make.py`, in adaptr's: adapters as adaptr writes them, or what it makes of theirs, and `cases.json`, of which
  `common/cases.py` says what a case is;
- `check.py`, in the tool's: what it computes with each, printed as one JSON object: case to `{"error": float, "limit":
  float}` and whatever else it measured.

What comes out is kept in `result.json` beside, with versions and the date. A tool of several versions has
`requirements-VERSION.txt` and `result-VERSION.json` for each instead, is called `TOOL-VERSION` (`TOOL`, all of them),
and its programs are given the version behind the folder. Exit code 1 where an error is above its limit.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: What the programs of several tools import; beside it would be what tools themselves are called.
COMMON = str(HERE / "common")
#: The folder of what is made and downloaded once, which `make.py` is told too.
CACHED = "ADAPTR_ORACLES"
CACHE = Path(os.environ.get(CACHED) or HERE.parent / ".cache/oracles")
#: The first line of requirements that come on top of adaptr's own environment, and bring nothing that they require.
BESIDE = b"# beside adaptr's own environment"
#: What made the files and the reference, whose versions are kept beside the tool's.
OURS = ("torch", "transformers", "peft", "safetensors", "bitsandbytes")


@dataclass(frozen=True)
class Tool:
    """A tool, or one of its versions, by the file of what it requires."""

    requirements: Path

    @property
    def folder(self) -> Path:
        return self.requirements.parent

    @property
    def version(self) -> str:
        return self.requirements.stem.removeprefix("requirements").removeprefix("-")

    @property
    def name(self) -> str:
        return "-".join([self.folder.name, self.version][: 1 + bool(self.version)])

    @property
    def result(self) -> Path:
        return self.folder / f"{self.requirements.stem.replace('requirements', 'result')}.json"


def tools(root: Path = HERE) -> list[Tool]:
    """Every tool that there is an oracle of."""
    return [Tool(file) for file in sorted(root.glob("*/requirements*.txt"))]


def environment(tool: Tool, cache: Path = CACHE) -> Path:
    """The tool's Python, in an environment that is made anew where what it requires is another."""
    wanted = tool.requirements.read_bytes() + platform.python_version().encode()
    root = cache / f"{tool.name}-{hashlib.sha256(wanted).hexdigest()[:12]}"
    python = root / "bin" / "python"
    if not (root / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", root], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if wanted.startswith(BESIDE):
            own = sysconfig.get_path("purelib", vars={"base": str(root), "platbase": str(root)})
            Path(own, "beside.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
            pip.append("--no-deps")
        subprocess.run([*pip, "-r", tool.requirements], check=True)
        (root / "ready").touch()
    return python


def versions(python: Path, tool: Tool) -> dict[str, str]:
    """The versions of what the tool's requirements name, as they are installed."""
    lines = tool.requirements.read_text("utf-8").splitlines()
    names = [line.partition("=")[0].partition("[")[0].strip() for line in lines if line.strip() and line[0] not in "#-"]
    code = "import json, sys, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    run = subprocess.run([python, "-c", code, *names], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(run.stdout)
    return found


def checked(tool: Tool, cache: Path = CACHE) -> dict[str, Any]:
    """What a tool's `check.py` says of what its `make.py` wrote, and who said it."""
    python = environment(tool, cache)
    with tempfile.TemporaryDirectory() as folder:
        given = [folder, tool.version] if tool.version else [folder]
        if (tool.folder / "theirs.py").exists():
            _run(python, tool.folder / "theirs.py", given, {"PYTHONPATH": COMMON})
        _run(Path(sys.executable), tool.folder / "make.py", given, {"PYTHONPATH": _ours(), CACHED: str(cache)})
        said = _run(python, tool.folder / "check.py", given, {"PYTHONPATH": COMMON})
    return {
        "tool": tool.folder.name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {name: version(name) for name in OURS} | versions(python, tool),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cases": json.loads(said.splitlines()[-1]),
    }


def _ours() -> str:
    return os.pathsep.join([COMMON, *filter(None, [os.environ.get("PYTHONPATH")])])


def _run(python: Path, program: Path, given: Sequence[str], environ: Mapping[str, str]) -> str:
    """What a program prints."""
    run = [python, program, *given]
    return subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **environ}).stdout


def above(cases: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The cases whose error is above its limit; one that is no number is."""
    return [name for name, said in cases.items() if not said["error"] <= said["limit"]]


def asked(names: Iterable[str], known: Sequence[Tool]) -> list[Tool]:
    """The tools of these names. Raises `LookupError` with the first that is none."""
    found = []
    for name in names:
        these = [tool for tool in known if name in (tool.name, tool.folder.name)]
        if not these:
            raise LookupError(name)
        found += these
    return found


def main(names: Sequence[str], root: Path = HERE, cache: Path = CACHE) -> int:
    known = tools(root)
    try:
        chosen = asked(names, known) if names else known
    except LookupError as unknown:
        print(f"there is no oracle `{unknown}`; there are {', '.join(tool.name for tool in known)}", file=sys.stderr)
        return 2
    wrong = 0
    for tool in chosen:
        result = checked(tool, cache)
        tool.result.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", "utf-8")
        bad = above(result["cases"])
        for case, said in result["cases"].items():
            held = "ABOVE" if case in bad else "within"
            print(f"{tool.name:10} {case:36} {said['error']:.2e}  {held} {said['limit']:.0e}")
        wrong += len(bad)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
