"""Methods of a test's own as an installed distribution would bring them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from adaptr import Method, plugins


class _Point:
    def __init__(self, found: type[Method]) -> None:
        self.value, self.found = f"{found.__module__}:{found.__name__}", found

    def load(self) -> type[Method]:
        return self.found


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch, *methods: type[Method]) -> Iterator[None]:
    found = {cls.name: _Point(cls) for cls in methods}
    monkeypatch.setattr("adaptr.discovery._points", lambda group: found if group == "adaptr.methods" else {})
    try:
        yield
    finally:
        plugins.method.cache_clear()
        plugins.manager.cache_clear()
