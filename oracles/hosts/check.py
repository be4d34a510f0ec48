"""What every method does on a host of every packing, against the same weights unpacked. check.py FOLDER [HOST ...]"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ.update(TQDM_DISABLE="1", TRANSFORMERS_VERBOSITY="error")
warnings.filterwarnings("ignore")
sys.path[:0] = [str(Path(__file__).parent), str(root := Path(__file__).resolve().parents[2]), str(root / "plugins")]

import made  # noqa: E402
import transformers  # noqa: E402
import trials  # noqa: E402

from adaptr import plugins  # noqa: E402

#: Of what an adapter does; and where bf16's rounding, which is in all of it, goes through twice or counts of rows that
#: have no adapter: gradients, batches of rows, inputs that are quantised, hosts that compute in bf16.
LIMIT, WIDE = 0.1, 0.25
HALF = ("AWQ", "compressed-tensors", "fp8", "torchao")


def limit(host: str, trial: str) -> float:
    return WIDE if host.startswith(HALF) or trial in {*trials.LEARNING, "pool"} else LIMIT


def case(host: str, trial: str, found: list[tuple[str, float | None, str]]) -> dict[str, Any]:
    """One trial with all methods: the largest error, and who was refused why."""
    refused: dict[str, list[str]] = defaultdict(list)
    for method, error, why in found:
        if error is None:
            refused[why.replace(f"`{method}", "`…")].append(method)
    errors = {method: error for method, error, _ in found if error is not None}
    said = {"error": max(errors.values(), key=lambda e: (e != e, e), default=0.0), "limit": limit(host, trial)}
    crashed = {method: why for method, error, why in found if error is not None and error != error}
    return {
        **said,
        "right": len(errors) - len(crashed),
        "refused": refused,
        **({"crashed": crashed} if crashed else {}),
    }


def main(folder: Path, hosts: list[str]) -> None:
    transformers.utils.logging.disable_progress_bar()
    base = transformers.AutoModelForCausalLM.from_pretrained(folder / "base").eval()
    cases = {}
    for host in hosts or made.MAKERS:
        by_trial = defaultdict(list)
        for method, trial, error, why in trials.tried(host, base, plugins.names()):
            by_trial[trial].append((method, error, why))
        for trial, found in by_trial.items():
            cases[f"{host}: {trial}"] = case(host, trial, found)
            print(host, trial, cases[f"{host}: {trial}"]["error"], file=sys.stderr, flush=True)
    print(json.dumps(cases), flush=True)
    os._exit(0)  # some of the libraries crash where Python takes them down


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
