"""Try everything with every method, and write down what came of it.

    python -m methods_table [NAME...]      # in docs/; `make methods`

NAMES: these methods alone; what the table says of the others stays.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from adaptr import plugins
from methods_table import table
from methods_table.table import COLUMNS
from methods_table.trials import tried


def main() -> int:
    parser = argparse.ArgumentParser(prog="methods_table", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names or sorted(plugins.builtin_files())
    kept = [one for one in table.load() if one.method not in names and one.method in plugins.builtin_files()]
    found = []
    for name in names:
        for what in COLUMNS:
            with tempfile.TemporaryDirectory() as folder:
                found.append(tried(name, what, Path(folder)))
            print(f"{name} {what}: {found[-1].verdict} {found[-1].why[:100]}", flush=True)
    table.dump([*kept, *found])
    return any(one.verdict == "CRASH" for one in found)


if __name__ == "__main__":
    sys.exit(main())
