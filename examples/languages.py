"""MAD-X: a task learned in one language, over that language's adapter, and done in another over the other's.

    python examples/languages.py --pages FOLDER [--steps N] [--task-steps N] [--seeds N]

FOLDER is where `dpkg -x` put Debian's manpages, manpages-dev, manpages-de and manpages-de-dev. On SmolLM2-135M a
`mad-x` is trained on English and one on German paragraphs; then, over the English one, a `pfeiffer` learns from English
pages whether a paragraph describes a function (sections 2 and 3) or files and conventions (4, 5 and 7). It is measured
on paragraphs of other pages without any language's adapter, with the one that it was trained over, and with that of
German, beside a `pfeiffer` that was trained over none.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import re
import statistics
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import real_models

import adaptr

LANGUAGES = {"en": "", "de": "de"}
FUNCTIONS, OTHERS = "23", "457"
CLASSES = ("function", "other")
ROFF = re.compile(r"\\f\([A-Z]{2}|\\f.|\\[&,/^|%]|\\s[-+]?\d")
CODED = {"\\-": "-", "\\(bu": "*", "\\(aq": "'", "\\(dq": '"', "\\e": "\\", "\\ ": " "}
FIELDS: dict[str, Any] = {"samples": 0, "save_every": 0, "batch": 8, "length": 64}


def pages(folder: Path, language: str) -> dict[str, Path]:
    """Name and section to the file of a page."""
    root = folder / "usr/share/man" / LANGUAGES[language]
    return {file.stem: file for n in FUNCTIONS + OTHERS for file in sorted((root / f"man{n}").glob("*.gz"))}


def paragraphs(file: Path) -> Iterator[str]:
    """Those of running text, 12 words or more, without their marks."""
    text: list[str] = []
    for line in [*gzip.decompress(file.read_bytes()).decode("utf-8", "replace").splitlines(), "."]:
        if words := re.match(r"\.[BI]R?\s+(.*)|([^.'].*)", line):
            text.append(words[1] or words[2])
            continue
        said = ROFF.sub("", " ".join(text))
        for mark, sign in CODED.items():
            said = said.replace(mark, sign)
        if len(said.split()) >= 12 and not {"\\", "#"} & set(said):
            yield " ".join(said.replace('"', "").split()[:60])
        text = []


def held_out(name: str) -> bool:
    """A quarter of the pages, the same of each language."""
    return zlib.crc32(name.encode()) % 4 == 0


def written(place: Path, rows: list[dict[str, str]], count: int) -> Path:
    chosen = random.Random(0).sample(rows, min(count, len(rows)))
    place.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    return place


def data(folder: Path, place: Path) -> dict[str, Path]:
    """Files: texts of each language and its task's records, to learn from and held out, as many of each class."""
    files, both = {}, pages(folder, "en").keys() & pages(folder, "de").keys()
    if not both:
        raise click.UsageError(f"{folder} has no pages in both languages: put the four packages there by `dpkg -x`")
    for language in LANGUAGES:
        found = {name: list(paragraphs(file)) for name, file in pages(folder, language).items()}
        texts = [{"text": one} for name, them in found.items() if not held_out(name) for one in them]
        files[language] = written(place / f"{language}.jsonl", texts, 20_000)
        for held, count in ((False, 1000), (True, 80)):
            rows: list[dict[str, str]] = []
            for label, sections in zip(CLASSES, (FUNCTIONS, OTHERS), strict=True):
                chosen = [name for name in sorted(both) if name[-1] in sections and held_out(name) == held]
                own = [{"text": text, "label": label} for name in chosen for text in found[name]]
                rows += random.Random(1).sample(own, min(count, len(own)))
            key = f"{language}-{'held' if held else 'task'}"
            files[key] = written(place / f"{key}.jsonl", rows, len(rows))
    return files


def accuracy(base: Path, below: list[Path], task: Path, records: Path) -> float:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    reads = AutoTokenizer.from_pretrained(base)
    reads.pad_token = reads.pad_token or reads.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, pad_token_id=reads.pad_token_id)
    rows = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    right = 0
    with contextlib.ExitStack() as attached, torch.inference_mode():
        for adapter in (*below, task):
            attached.enter_context(adaptr.attach(model.eval(), adapter))
        for at in range(0, len(rows), 16):
            those = rows[at : at + 16]
            given = reads(
                [row["text"] for row in those], padding=True, truncation=True, max_length=64, return_tensors="pt"
            )
            said = model(**given).logits.argmax(-1).tolist()
            right += sum(CLASSES[n] == row["label"] for n, row in zip(said, those, strict=True))
    return right / len(rows)


@click.command()
@click.option("--pages", "folder", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--steps", default=80, show_default=True, help="Of each language.")
@click.option("--task-steps", default=40, show_default=True)
@click.option("--seeds", default=2, show_default=True, help="Of the task.")
def main(folder: Path, steps: int, task_steps: int, seeds: int) -> None:
    base = real_models.smollm2()
    with tempfile.TemporaryDirectory() as made:
        here = Path(made)
        files, languages = data(folder, here), {}
        for language in LANGUAGES:
            out = languages[language] = here / f"{language}.safetensors"
            fields = {"steps": steps, "pack": True, "valid": "0.2%", "rate": 1e-3, **FIELDS}
            report = adaptr.fit(base, files[language], out, method="mad-x", config={"m": 144}, **fields)
            said = f"{report.before['loss']:.3f} to {report.after['loss']:.3f}"
            print(f"{language}: loss of other texts {said}, {report.parameters:,} numbers", flush=True)
        ways = {"none": [], "en": [languages["en"]], "de": [languages["de"]]}
        rows: dict[tuple[str, str, str], list[float]] = {}
        for seed in range(seeds):
            for over in ("none", "en"):
                task = here / f"task-{over}-{seed}.safetensors"
                fields = {"steps": task_steps, "task": "classify", "seed": seed, "rate": 1e-3, **FIELDS}
                adaptr.fit(base, files["en-task"], task, method="pfeiffer", below=ways[over], **fields)
                for beneath in ("none",) if over == "none" else tuple(ways):
                    for language in LANGUAGES:
                        found = accuracy(base, ways[beneath], task, files[f"{language}-held"])
                        rows.setdefault((over, beneath, language), []).append(found)
        print("\n| task trained over | done over | English | German |\n|---|---|---|---|")
        for over, beneath in dict.fromkeys(key[:2] for key in rows):
            cells = [rows[over, beneath, language] for language in LANGUAGES]
            shown = [f"{statistics.mean(them):.3f} ({min(them):.3f} to {max(them):.3f})" for them in cells]
            print(f"| {over} | {beneath} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
