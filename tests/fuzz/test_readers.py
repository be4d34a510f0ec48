"""Readers against mutations of valid files: only an `AdaptrError` that can be printed comes out, and soon.

2,000 examples of each, the same every time. `make fuzz` runs 100,000 others of each (`ADAPTR_FUZZ`, a number), and says
by which name (`ADAPTR_FUZZ_SEED`) those that fail are made again.
"""

from __future__ import annotations

import functools
import os
import resource
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch import nn

from adaptr.checkpoint import skeleton
from adaptr.checkpoint.built import built
from adaptr.errors import AdaptrError
from fuzz.readers import Reader, examples, readers

COUNT = int(os.environ.get("ADAPTR_FUZZ", "2000"))
SEED = os.environ.get("ADAPTR_FUZZ_SEED", "0")
#: Of one example: seconds of processor time, and kB of memory.
SLOWEST, LARGEST = 2.0, 200_000
#: The least share of examples that pass the first check: what is not well formed says little of what comes behind it.
WELL_FORMED = 0.3
NAMES = (
    "adapter", "peft", "kohya", "dotted", "mlx", "loralib", "torchtune", "litgpt", "adapterhub", "gguf", "pickle",
    "checkpoint", "receipt", "recipe", "policy", "lock", "reference", "manifest", "index", "search", "credentials",
    "challenge", "realms", "bundle", "records", "table", "packed", "gguf-base", "research",
)  # fmt: skip


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Reader]]:
    root = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTR_HOME", str(root / "home"))
        patch.setenv("ADAPTR_AUTH_FILE", str(root / "auth.json"))
        patch.setenv("DOCKER_CONFIG", str(root / "docker"))
        patch.setenv("XDG_CONFIG_HOME", str(root / "config"))
        patch.setenv("XDG_RUNTIME_DIR", str(root / "run"))
        patch.setattr(skeleton, "built", lambda folder: _built(folder, (folder / "config.json").read_bytes()))
        (root / "readers").mkdir()
        yield dict(readers(root / "readers"))


@functools.lru_cache(maxsize=8)
def _built(folder: Path, config: bytes) -> nn.Module:
    """The model of a base, which readers only look at: built again where its configuration is another."""
    return built(folder)


def test_every_reader_has_its_examples(known: dict[str, Reader]) -> None:
    assert set(known) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_only_typed_errors(name: str, known: dict[str, Reader]) -> None:
    formed, wrong = 0, dict[str, str]()
    for example, (well_formed, read) in examples(known[name], f"{SEED}/{name}", COUNT):
        formed += well_formed
        found = _outcome(read)
        if found:
            wrong.setdefault(found, example)
    assert not wrong
    assert formed >= WELL_FORMED * COUNT


def _outcome(read: Callable[[], object]) -> str:
    """What is wrong with how a reader took an example; "" for nothing."""
    memory, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    said = _said(read)
    took, grown = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    if took > SLOWEST:
        return f"{took:.0f} seconds"
    return f"{grown >> 10} MB" if grown > LARGEST else said


def _said(read: Callable[[], object]) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
    except AdaptrError as error:
        return (
            "" if str(error).replace("\n", "").isprintable() else f"{type(error).__name__} can't be printed: {error!r}"
        )
    except Exception as error:
        ours = [one for one in traceback.extract_tb(error.__traceback__) if "/adaptr" in one.filename]
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        return f"{type(error).__name__} at {place}: {error}"[:200]
    return ""
