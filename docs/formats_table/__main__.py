"""Try every format with every other, and write down what came of it.

    python -m formats_table [--samples FOLDER] [NAME...]      # in docs/; `make formats`

`--samples`: a folder to keep the made-up samples in, where the commands of the table can be run as they stand.
NAMES: these methods alone; what the table says of all else stays.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from formats_table import samples, table
from formats_table.references import ROOT


def main() -> int:
    parser = argparse.ArgumentParser(prog="formats_table", description=__doc__)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = (given.samples or Path(made)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        samples.llama().save_pretrained(folder / "llama")
        os.chdir(folder)  # commands and reasons name files as they lie there
        formats = [] if given.names else [*table.of_formats(Path())]
        found = [*formats, *table.of_methods(Path(), given.names)]
    if given.names:
        found += [one for one in table.load() if one.key not in {new.key for new in found}]
    elif ROOT.is_dir():
        os.chdir(ROOT)
        found += table.of_references()
    else:
        print(f"no genuine files are here ({ROOT}): what the table says of them stays as it was")
        found += [one for one in table.load() if one.key not in {new.key for new in found}]
    for line in table.worse(found, table.load() if table.FILE.exists() else ()):
        print("worse, or new:", line)
    table.dump(found)
    print(f"{len(found)} trials in {table.FILE.name}")
    for name in table.untried(found):
        print(f"no file of {name} to try: say in theirs.py how one looks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
