"""Readers of checkpoints, and of the receipts in merged ones."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from random import Random

import checkpoints
from adaptr import api
from adaptr.artifacts.history import log as history
from adaptr.checkpoint import open_checkpoint
from adaptr.merging import receipt
from fuzz import mutations
from fuzz.readers.examples import Example, Reader, is_header, is_json


def _checkpoints(folder: Path) -> dict[str, Reader]:
    place, out = folder / "checkpoint", folder / "merged"
    valid = checkpoints.saved("llama", folder / "base", shard="12KB")
    files = {path.name: path.read_bytes() for path in valid.iterdir()}
    place.mkdir()
    names = ("../base/model.safetensors", "/etc/passwd", "..", "", "x\0", "config.json", "é" * 300, "adaptr")
    adapter = checkpoints.lora_at_q()

    def example(random: Random) -> Example:
        found = dict(files)
        name = random.choice(("config.json", "model.safetensors.index.json", random.choice(sorted(files))))
        if name.endswith(".json"):
            document = json.loads(files[name])
            if "weight_map" in document and random.random() < 0.3:
                document["weight_map"][random.choice(sorted(document["weight_map"]))] = random.choice(names)
            found[name] = mutations.text(random, document)
        else:
            found[name] = mutations.safetensors(random, files[name], "")
        for one, raw in found.items():
            (place / one).write_bytes(raw)
        good = is_json(found[name]) if name.endswith(".json") else is_header(found[name])
        deep = random.random() < 0.01

        def read() -> None:
            open_checkpoint(place)
            if deep:
                api.merge(place, [adapter], out, force=True)

        return good, read

    return {"checkpoint": example}


def _receipts(folder: Path) -> dict[str, Reader]:
    base = checkpoints.saved("llama", folder / "base2")
    merged, back = folder / "with-receipt", folder / "back"
    api.merge(base, [checkpoints.lora_at_q()], merged)
    file = merged / receipt.FOLDER / receipt.FILE
    valid = file.read_bytes()

    def example(random: Random) -> Example:
        raw = _receipt(random, valid)
        file.write_bytes(raw)
        deep = random.random() < 0.02

        def read() -> None:
            if deep:
                api.unmerge(merged, back, force=True)
            else:
                receipt.read(merged)
                history(merged)

        return is_header(raw), read

    return {"receipt": example}


def _receipt(random: Random, valid: bytes) -> bytes:
    """A receipt changed in its document, its header, or one of its blobs."""
    if random.random() < 0.7:
        return mutations.safetensors(random, valid, receipt.KEY)
    head, data = mutations.split(valid)
    name = random.choice([key for key in head if key != "__metadata__"])
    start, stop = head[name]["data_offsets"]
    blob = mutations.flipped(random, data[start:stop])
    blob = blob if random.random() < 0.5 else struct.pack("<8Q", *(random.choice((1, 2, 8, 2**40, 2**63)),) * 8)
    blob = blob[: stop - start].ljust(stop - start, b"\1")
    return mutations.joined(json.dumps(head), data[:start] + blob + data[stop:])


READERS = (_checkpoints, _receipts)
