"""Try a method of each family on a model of each kind, and write down what came of it.

    python -m models_table [MODEL...]      # in docs/; `make models`

MODELS: these alone, as tests/tiny.py calls them; what the table says of the others stays.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from methods_table import table
from models_table.table import FILE, METHODS, MODELS

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))  # where the models are


def main() -> int:
    from models_table.trials import tried

    parser = argparse.ArgumentParser(prog="models_table", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="MODEL", choices=[*MODELS, []])
    names = parser.parse_args().names or [*MODELS]
    kept = [one for one in table.load(FILE) if one.what not in names and one.what in MODELS and one.method in METHODS]
    found = []
    for name in names:
        for method in METHODS:
            found.append(tried(name, method))
            print(f"{name} {method}: {found[-1].verdict} {found[-1].why[:150]}", flush=True)
    table.dump([*kept, *found], FILE, MODELS)
    return any(one.verdict == "CRASH" for one in found)


if __name__ == "__main__":
    sys.exit(main())
