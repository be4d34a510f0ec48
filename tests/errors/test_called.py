"""What places of adaptr's own are called, in messages and reports."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adaptr.errors import InputError, called


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(called, "_GIVEN", {})


def test_a_place_is_called_as_it_was_given_last() -> None:
    place = Path("/store/views/abc")
    called.call(place, "style:1")
    called.call(place, "style:2")
    assert called.called(place / "a.safetensors") == "style:2/a.safetensors"
    assert str(InputError(f"`{place}` is empty")) == "`style:2` is empty"


def test_a_message_is_made_while_another_thread_opens_artifacts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that switches threads while it is gone through, so that every reader without a lock meets a change."""
    opened = threading.Event()

    class Slow(dict[str, str]):
        def items(self):  # type: ignore[no-untyped-def, override]
            for number, pair in enumerate(super().items()):
                if number == 1:
                    opened.set()
                    time.sleep(0.01)
                yield pair

    monkeypatch.setattr(called, "_GIVEN", Slow())
    for number in range(3):
        called.call(f"/store/views/{number}", "other")

    def other() -> None:
        opened.wait()
        called.call("/store/views/new", "new")

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(other)
        assert called.called("nothing of the store") == "nothing of the store"
        working.result()


def test_the_newest_names_are_kept() -> None:
    for number in range(called.KEPT + 1):
        called.call(f"/store/views/{number:04}", f"name{number}")
    assert called.called("/store/views/0000/a") == "/store/views/0000/a"
    assert called.called(f"/store/views/{called.KEPT:04}/a") == f"name{called.KEPT}/a"
