"""One trial: a file in one format is converted into another, read back, and held against what it was."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import adaptr
from adaptr import foreign
from adaptr.changes.deltas import Deltas, deltas
from adaptr.errors import AdaptrError, LossyConversion, NoDelta
from adaptr.errors.spoken import typed
from adaptr.foreign import stored
from adaptr.foreign.formats import OWN
from adaptr.format import gguf
from adaptr.format.io import stored_of
from adaptr.testing.closeness import bits_equal, relative
from formats_table.samples import LIVE, Sample

if TYPE_CHECKING:
    from adaptr.adapter import Adapter

#: What is no error: deltas are compared in fp64, whose products end otherwise on other machines.
ROUNDING = 1e-14
#: What stands for the format in trials of reading alone.
UNBASED = "without its base"
#: What a trial can come to, the best first. `round trip`: back in the first format every tensor is bit for bit what it
#: was, and what the tool is told of them. `exact`: it does the same, to `ROUNDING`. `error`: it does nearly the same.
#: `lossy`: something had to be left out (`--lossy`). `refused`: with the reason. `crash`: an error of no name.
VERDICTS = ("round trip", "exact", "error", "lossy", "refused", "crash")


@dataclass(frozen=True)
class Trial:
    """`error`: ‖D' - D‖ / ‖D‖ of the worst place. `why`: of what is refused or lost, in words; `way`: the way on."""

    source: str
    to: str
    sample: str
    verdict: str
    command: str
    error: float = 0.0
    why: str = ""
    way: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.source, self.to, self.sample

    @property
    def grade(self) -> tuple[int, float]:
        """Less is better."""
        return VERDICTS.index(self.verdict), self.error


def tried(sample: Sample, to: str, out: Path) -> Trial:
    """Convert `sample` into the format `to`, below the folder `out`, which is empty."""
    target = out / (
        "there" + (".safetensors" if to == OWN else "" if foreign.get(to).folder else foreign.get(to).suffix)
    )
    lost: list[str] = []

    def made() -> tuple[str, float]:
        lost.extend(_converted(sample.source, target, to, sample.given))
        verdict, error = _compared(sample, adaptr.load(target, sample.base), target, out / "back")
        return "lossy" if lost else verdict, error

    found = _outcome(made)
    said = {"command": command(sample, to, bool(lost)), "why": "; ".join(lost)}
    return Trial(sample.format, to, sample.name, **{**said, **found})


def unbased(sample: Sample) -> Trial:
    """Read `sample` without its base."""
    found = _outcome(lambda: _compared(sample, adaptr.load(sample.source), None, None))
    looked = shlex.join(["adaptr", "inspect", *_words(sample)])
    return Trial(sample.format, UNBASED, sample.name, command=looked, **found)


def _outcome(made: Callable[[], tuple[str, float]]) -> dict[str, Any]:
    """What came of it, as fields of a trial."""
    with typed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            verdict, error = made()
        except AdaptrError as refusal:
            return {"verdict": "refused", "why": refusal.fact, "way": refusal.hint}
        except Exception as bug:  # what no error of adaptr's says is what this table is to find
            return {"verdict": "crash", "why": f"{type(bug).__name__}: {bug}"}
    return {"verdict": verdict, "error": float(f"{error:.1e}")}


def command(sample: Sample, to: str, lossy: bool = False) -> str:
    """What a person types for it, in the folder of the samples; in Python where the base has to be a live model."""
    if sample.ground == LIVE:
        return f'adaptr.convert("{sample.path}", "out", to="{to}", base={LIVE}{", lossy=True" if lossy else ""})'
    words = ["adaptr", "convert", *_words(sample), "--to", to]
    words += [*(["--base", sample.ground] if sample.ground else []), *(["--lossy"] if lossy else [])]
    return shlex.join([*words, "-o", "out"])


def _words(sample: Sample) -> list[str]:
    said = ((f"--{name.replace('_', '-')}", _option(value)) for name, value in sample.said.items())
    return [str(sample.path), *(word for pair in said for word in pair)]


def _option(value: Any) -> str:
    return ",".join("1" if one else "0" for one in value) if isinstance(value, tuple) else str(value)


def _converted(source: Any, out: Path, to: str, base: Any) -> tuple[str, ...]:
    """Write it, without what has no place there where that is all that stands against it, which is returned."""
    try:
        adaptr.convert(source, out, to=to, base=base)
    except LossyConversion:
        return adaptr.convert(source, out, to=to, base=base, lossy=True).lost
    return ()


# ---------------------------------------------------------------- comparing


def _compared(sample: Sample, after: Adapter, out: Path | None, back: Path | None) -> tuple[str, float]:
    """Of what was read again, from the file `out` that may be converted to `back`."""
    before = adaptr.load(sample.source, sample.base)
    if _same(before, after):
        returned = out is not None and back is not None and _returns(sample, before, out, back)
        return "round trip" if returned else "exact", 0.0
    error = difference(before, after, sample.base)
    return ("error", error) if error > ROUNDING else ("exact", 0.0)


def _same(before: Adapter, after: Adapter) -> bool:
    """Whether they are one adapter, under the names that they have in the base."""
    if (before.method, before.targets, before.config) != (after.method, after.targets, after.config):
        return False
    keys = before.tensors.keys()
    return keys == after.tensors.keys() and all(bits_equal(before.tensors[k], after.tensors[k]) for k in keys)


def _returns(sample: Sample, before: Adapter, out: Path, back: Path) -> bool:
    """Whether it comes back as the file that it was."""
    try:
        adaptr.convert(out, back, to=sample.format, base=sample.given)
    except AdaptrError:
        return False
    return _same(before, adaptr.load(back, sample.base)) and contents(sample, sample.path) == contents(sample, back)


def contents(sample: Sample, path: Path) -> Mapping[str, Any]:
    """Dtype, shape and bytes of every tensor of a file or folder, by its name there."""
    file = path if sample.format == OWN else foreign.get(sample.format).weights(path)
    if gguf.is_gguf(file):
        header, raw = gguf.open_header(file), file.read_bytes()
        data = {n: raw[header.data + entry.start : header.data + entry.stop] for n, entry in header.entries.items()}
        return {name: (entry.dtype, entry.shape, data[name]) for name, entry in header.entries.items()}
    tensors = stored.contents(file)[0]
    found = {name: stored_of(tensors, name) for name in tensors}
    return {name: (dtype, shape, b"".join(pieces)) for name, (dtype, shape, pieces) in found.items()}


def difference(before: Adapter, after: Adapter, base: Any) -> float:
    """The largest ‖D' - D‖ / ‖D‖ of a place, in fp64, of weights and biases; 1 for a place that is gone. What has no
    delta is compared by its tensors.
    """
    try:
        was, now = deltas(before, base), deltas(after, base)
    except NoDelta:
        return _of_tensors(before, after)
    errors = [relative(now[path].dense(), was[path].dense()) if path in now else 1.0 for path in was]
    return max([*errors, *_of_biases(was, now), *(1.0 for path in now if path not in was)], default=0.0)


def _of_biases(was: Deltas, now: Deltas) -> list[float]:
    return [relative(now.biases[path], shift) if path in now.biases else 1.0 for path, shift in was.biases.items()]


def _of_tensors(before: Adapter, after: Adapter) -> float:
    if before.tensors.keys() != after.tensors.keys():
        return 1.0
    return max(relative(after.tensors[key], tensor) for key, tensor in before.tensors.items())
