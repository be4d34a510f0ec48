"""Checkpoints of a training: what it changed, written beside and renamed; one that is there is whole.

A run has a folder, `OUT.run/`. In it are the newest two, `checkpoint-<step>/`, each with the session's state, the
optimiser, the schedule, the generators of each process and the trainer's own counters, `about.json`: what it is of, and
`files.json`: the digests of all these, as a trainer goes on without a file that is missing, to something else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

from adaptr.errors import AdaptrError, DiskFull, InputError, MachineError, OutputExists, UsageError, shown
from adaptr.files import FULL
from adaptr.format import digest

KEPT = 2
#: How transformers calls them.
PREFIX = "checkpoint-"
STAGING, SESSION, ABOUT, FILES = ".partial", "session.pt", "about.json", "files.json"
_NAME = re.compile(rf"{PREFIX}(\d+)")
#: How libraries say that a disk is full where they hide the system's own word.
_WORDS = ("no space left", "file write failed", "os error 28", "enforce fail", "file too large", "os error 27")


def folder(out: Path) -> Path:
    """Where the run lies that writes `out`."""
    return out.with_name(out.name + ".run")


def staging(run: str | os.PathLike[str]) -> Path:
    return Path(run) / STAGING


def all_of(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = ((path, _NAME.fullmatch(path.name)) for path in run.glob(f"{PREFIX}*"))
    return [path for path, _ in sorted(((p, int(name[1])) for p, name in found if name), key=itemgetter(1))]


def latest(run: Path) -> Path:
    """Raises `UsageError` where there is none."""
    found = all_of(run)
    if not found:
        raise UsageError(f"`{run}` has no checkpoint to go on from", hint="leave `--resume` out to begin anew")
    return found[-1]


@contextmanager
def held(run: Path) -> Iterator[None]:
    """The folder of a run, for this training alone. Raises `OutputExists` where another one has it now, `MachineError`
    where there can be none.
    """
    import fcntl

    with explained(run):
        run.mkdir(parents=True, exist_ok=True)
    at = os.open(run, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system can lock
            try:
                fcntl.flock(at, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputExists(
                    f"another training writes `{run}` now", hint="wait for its end, or give another output"
                ) from None
        yield
    finally:
        os.close(at)
        with suppress(OSError):  # unless there is something in it
            run.rmdir()


@contextmanager
def written(run: str, step: int, accelerator: Any) -> Iterator[None]:
    """Around the writing of a checkpoint, by all processes, into `staging`."""
    place, part = Path(run), staging(run)
    if accelerator.is_main_process:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        with explained(place):
            yield
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                _put(part / f"{PREFIX}{step}", place)
    finally:
        if accelerator.is_main_process:
            shutil.rmtree(part, ignore_errors=True)
    accelerator.wait_for_everyone()


def _put(made: Path, run: Path) -> None:
    """Let the bytes reach the disk before the name does; then drop what is too old."""
    digests = {path.name: digest.of_file(path) for path in sorted(made.iterdir())}
    Path(made, FILES).write_text(json.dumps(digests, indent=1), encoding="utf-8")
    for path in (*made.iterdir(), made):
        _settle(path)
    final = run / made.name
    shutil.rmtree(final, ignore_errors=True)
    made.rename(final)
    _settle(run)
    for old in all_of(run)[:-KEPT]:
        shutil.rmtree(old)


def _settle(path: Path) -> None:
    at = os.open(path, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """A disk that is full, in one word, whichever library met it."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = getattr(error, "errno", None) in FULL or any(word in str(error).lower() for word in _WORDS)
        if full:
            raise DiskFull(
                f"no space left for a checkpoint in `{place}`; the one before is still whole",
                hint="make room, and go on with `--resume`",
            ) from error
        if isinstance(error, OSError):
            raise MachineError(f"`{place}` can't be written: {error.strerror or error}") from error
        raise


def put(part: str, state: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """The session's state, and what the checkpoint is of."""
    import torch

    os.makedirs(part, exist_ok=True)
    torch.save(dict(state), Path(part, SESSION))
    Path(part, ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True), encoding="utf-8")


def require_whole(checkpoint: Path) -> None:
    """Raises `InputError` for a checkpoint of which something is missing or was changed."""
    try:
        wanted = json.loads(Path(checkpoint, FILES).read_text(encoding="utf-8"))
        wrong = [name for name, one in wanted.items() if digest.of_file(checkpoint / name) != one]
    except (OSError, ValueError, AttributeError, AdaptrError) as error:
        raise _broken(checkpoint, str(error)) from error
    if wrong:
        raise _broken(checkpoint, f"`{wrong[0]}` is not what was written")


def _broken(checkpoint: Path, reason: str) -> InputError:
    before = [path for path in all_of(checkpoint.parent) if path != checkpoint]
    way = f"take it away, and `--resume` goes on from `{before[-1].name}`" if before else "`--force` begins anew"
    return InputError(f"`{checkpoint}` is no whole checkpoint of a training: {reason}", hint=way)


def require(checkpoint: Path, about: Mapping[str, Any]) -> None:
    """Raises `UsageError` for a checkpoint of another recipe, base or data, naming what differs; as `require_whole`."""
    require_whole(checkpoint)
    found = json.loads(Path(checkpoint, ABOUT).read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(about))
    differ = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    if differ:
        said = ", ".join(
            f"`{key}` {shown(str(found.get(key)))}, now {shown(str(wanted.get(key)))}" for key in differ[:4]
        )
        raise UsageError(
            f"`{checkpoint}` is of another training: {said}",
            hint="say what it was begun with, or leave `--resume` out and give `--force` to begin anew",
        )


def state(checkpoint: str | os.PathLike[str], about: Mapping[str, Any]) -> dict[str, Any]:
    """The session's state in a checkpoint of that training."""
    import torch

    require(Path(checkpoint), about)
    found: dict[str, Any] = torch.load(Path(checkpoint, SESSION), weights_only=True)
    return found
