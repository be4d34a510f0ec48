"""What places of adaptr's own are called, in messages and reports."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adaptr import called
from adaptr.errors import InputError


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(called, "_GIVEN", {})


def test_a_place_is_called_as_it_was_given_last() -> None:
    place = Path("/store/views/abc")
    called.call(place, "style:1")
    called.call(place, "style:2")
    assert called.called(place / "a.safetensors") == "style:2/a.safetensors"
    assert str(InputError(f"`{place}` is empty")) == "`style:2` is empty"


def test_a_message_is_made_while_another_thread_opens_artifacts() -> None:
    done = threading.Event()

    def others() -> None:
        for number in range(100_000):
            called.call(f"/store/views/{number}", "other")
            if done.is_set():
                return

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(others)
        try:
            for _ in range(200):
                assert called.called("nothing of the store") == "nothing of the store"
        finally:
            done.set()
        working.result()
