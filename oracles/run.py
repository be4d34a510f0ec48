"""What adaptr writes, loaded by the tools that it is written for, and held against what the adapter gives in PEFT.

    python oracles/run.py [TOOL ...]      # `make oracles ONLY=gguf`

A tool is a folder here: `requirements.txt`, of an environment of its own that is made once under `.cache/oracles`
(`ADAPTR_ORACLES`, another folder); `make.py FOLDER`, which runs in adaptr's environment and writes a base, adapters and
`cases.json`; and `check.py FOLDER`, which runs in the tool's, loads them and prints one JSON object: case to `{"error":
float, "limit": float}` and whatever else it measured. What comes out is kept in `result.json` beside, with versions and
the date. Exit code 1 where an error is above its limit.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: The folder of what is made and downloaded once, which `make.py` is told too.
CACHED = "ADAPTR_ORACLES"
CACHE = Path(os.environ.get(CACHED) or HERE.parent / ".cache/oracles")
#: What made the files and the reference, whose versions are kept beside the tool's.
OURS = ("torch", "transformers", "peft", "safetensors")


def tools(root: Path = HERE) -> list[str]:
    """Every tool that there is an oracle of."""
    return sorted(file.parent.name for file in root.glob("*/requirements.txt"))


def environment(tool: Path, cache: Path = CACHE) -> Path:
    """The tool's Python, in an environment that is made anew where what it requires is another."""
    wanted = (tool / "requirements.txt").read_bytes() + platform.python_version().encode()
    root = cache / f"{tool.name}-{hashlib.sha256(wanted).hexdigest()[:12]}"
    python = root / "bin" / "python"
    if not (root / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", root], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", tool / "requirements.txt"], check=True)
        (root / "ready").touch()
    return python


def versions(python: Path, tool: Path) -> dict[str, str]:
    """The versions of what the tool's requirements name, as they are installed."""
    lines = (tool / "requirements.txt").read_text("utf-8").splitlines()
    names = [line.partition("=")[0].partition("[")[0].strip() for line in lines if line.strip() and line[0] not in "#-"]
    code = "import json, sys, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    run = subprocess.run([python, "-c", code, *names], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(run.stdout)
    return found


def checked(tool: Path, cache: Path = CACHE) -> dict[str, Any]:
    """What a tool's `check.py` says of what its `make.py` wrote, and who said it."""
    python = environment(tool, cache)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, tool / "make.py", folder], check=True, env={**os.environ, CACHED: str(cache)})
        run = subprocess.run([python, tool / "check.py", folder], check=True, stdout=subprocess.PIPE, text=True)
    return {
        "tool": tool.name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {name: version(name) for name in OURS} | versions(python, tool),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cases": json.loads(run.stdout.splitlines()[-1]),
    }


def above(cases: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The cases whose error is above its limit; one that is no number is."""
    return [name for name, said in cases.items() if not said["error"] <= said["limit"]]


def main(names: Sequence[str], root: Path = HERE, cache: Path = CACHE) -> int:
    unknown = [name for name in names if name not in tools(root)]
    if unknown:
        print(f"there is no oracle `{unknown[0]}`; there are {', '.join(tools(root))}", file=sys.stderr)
        return 2
    wrong = 0
    for name in names or tools(root):
        result = checked(root / name, cache)
        (root / name / "result.json").write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", "utf-8")
        bad = above(result["cases"])
        for case, said in result["cases"].items():
            held = "ABOVE" if case in bad else "within"
            print(f"{name:10} {case:28} {said['error']:.2e}  {held} {said['limit']:.0e}")
        wrong += len(bad)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
