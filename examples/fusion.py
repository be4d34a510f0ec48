"""AdapterFusion over three adapters against each of them alone, on few records of a real task.

    python examples/fusion.py --data FOLDER [--steps N] [--seeds N]

FOLDER has `sst2/` (`train.tsv`, `dev.tsv`, `test.tsv`) and `e2e-nlg/valid.txt`. On all-MiniLM-L6-v2 three `pfeiffer`
are trained: whether phrases of reviews are kind, whether a sentence says that a restaurant is rated high, and whether
that families are welcome. Then 128 other phrases of reviews are learned: by a fresh `pfeiffer`, by a fusion over each
of the three alone, and by one over all of them, with as many numbers that learn; each seed learns from others. Accuracy
is of 800 that nobody learned from.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import tempfile
from pathlib import Path

import real_models

import adaptr

RATED = {"high": "kind", "5 out of 5": "kind", "low": "unkind", "1 out of 5": "unkind"}


def reviews(file: Path) -> list[tuple[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        found = [(row["sentence"].strip(), "kind" if row["label"] == "1" else "unkind") for row in rows]
    return [one for one in found if len(one[0].split()) >= 10]


def restaurants(file: Path, field: str, classes: dict[str, str]) -> list[tuple[str, str]]:
    found = []
    for line in file.read_text("utf-8").splitlines():
        meaning, _, text = line.partition("||")
        said = meaning.partition(f"{field} : ")[2].partition(" |")[0].strip()
        if said in classes:
            found.append((text, classes[said]))
    return found


def written(place: Path, rows: list[tuple[str, str]], count: int, seed: int = 0) -> Path:
    chosen = random.Random(seed).sample(rows, min(count, len(rows)))
    place.write_text("".join(json.dumps({"text": t, "label": one}) + "\n" for t, one in chosen), encoding="utf-8")
    return place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    base, sst2, e2e = real_models.minilm(), given.data / "sst2", given.data / "e2e-nlg" / "valid.txt"
    sources = {
        "reviews": reviews(sst2 / "train.tsv"),
        "rating": restaurants(e2e, "customer rating", RATED),
        "families": restaurants(e2e, "family friendly", {"yes": "kind", "no": "unkind"}),
    }
    with tempfile.TemporaryDirectory() as folder:
        here, fields = Path(folder), {"steps": given.steps, "batch": 16, "length": 48, "samples": 0, "save_every": 0}
        valid = written(here / "valid.jsonl", reviews(sst2 / "test.tsv"), 800)
        trained = []
        for name, rows in sources.items():
            data = written(here / f"{name}.jsonl", rows, 700)
            trained.append(here / f"{name}.safetensors")
            report = adaptr.fit(base, data, trained[-1], method="pfeiffer", valid="9%", rate=3e-3, **fields)
            print(f"{name:28} {report.after['accuracy']:.3f} of its own", flush=True)
        ways = {"pfeiffer, fresh": {"method": "pfeiffer"}}
        for over in (*([one] for one in trained), trained):
            ways["fusion of " + ", ".join(one.stem for one in over)] = {"method": "adapter-fusion", "over": over}
        for name, way in ways.items():
            found = []
            for seed in range(given.seeds):
                few = written(here / "few.jsonl", reviews(sst2 / "dev.tsv"), 128, seed)
                report = adaptr.fit(base, few, valid=valid, rate=3e-3, seed=seed, **way, **fields)
                found.append(report.after["accuracy"])
            print(f"{name:38} {statistics.mean(found):.3f} ({min(found):.3f} to {max(found):.3f})", flush=True)


if __name__ == "__main__":
    main()
