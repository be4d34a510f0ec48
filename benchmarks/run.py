"""All benchmarks, one after the other, as Markdown on standard output. `make bench` runs this."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ALL = ("startup", "live", "runtime", "training", "beside_peft", "merge", "images", "compose", "compare", "transfer")


def main(names: list[str]) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "safetensors"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}", flush=True)
    for name in names or ALL:
        subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py"))], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
