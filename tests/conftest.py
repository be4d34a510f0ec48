"""What every test gets."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")

#: What people set for themselves does not change what tests see. Read when huggingface_hub is imported, so before all.
for _name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
    os.environ.pop(_name, None)

#: Published files and those of other tools, beside the repository where they are at hand.
SHARED = Path(os.environ.get("ADAPTR_SHARED") or Path(__file__).resolve().parents[1].parent / "shared")


#: The collector went through all objects a hundred times a minute, for a tenth of the time of all tests.
gc.set_threshold(10_000, 10, 10)


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the published files are not here: {SHARED}")
    return SHARED


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """torch's own generator starts at the same place in every test: what fails, fails again."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _interrupts() -> Iterator[None]:
    """A job in the background, as of nohup, ignores interrupts, and so would the programs that tests interrupt."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="module")
def _imported_is_kept() -> None:
    """What is imported stays: the collector does not go through the objects of torch and transformers each time, which
    took half a second of a training in transformers' trainer.
    """
    if len(sys.modules) > _seen[-1] + 50:
        _seen.append(len(sys.modules))
        gc.collect()
        gc.freeze()


_seen = [0]
