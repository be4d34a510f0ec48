"""Makes the library of compiled kernels: `python adaptr/kernels/building.py`, or hatch_build.py for a wheel.

Only of the standard library, as nothing else is there while a wheel is built.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LIBRARY = HERE / "kernels.so"
SOURCES = tuple(HERE / name for name in ("kernels.c", "each_size.h", "each_half.h", "product.h"))
#: Nothing that would let a compiler change the bits of a result. Nobody asks which exceptions floats met: loops with a
#: choice in them may be wide then.
EXACT = ("-ffp-contract=off", "-fno-trapping-math")
FLAGS = ("-std=c11", "-O3", *EXACT, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror")


def digest() -> str:
    """Of the source: a library names its own, so that it is used with no other."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()


def build(library: Path = LIBRARY) -> bool:
    """Whether the library could be made; if not, it is said why, and everything works without it."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, *FLAGS, f'-DSOURCE="{digest()}"', str(SOURCES[0]), "-o", str(library)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = done.stderr
    except OSError as error:
        done, said = None, str(error)
    if done is None or done.returncode:
        print(f"merges will be slower, as `{shlex.join(command)}` failed: {said}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(not build())
