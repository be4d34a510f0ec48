"""Which weights of the base were read to make an adapter a row (DoRA's norms), and whether they are as they were."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from adaptr.contract import View
from adaptr.host.layer import base_view
from adaptr.host.watch import Watch
from adaptr.runtime.pool.residents import Key
from adaptr.targets import submodule


class Followed:
    """The layers that were read for each adapter, each watched once for all."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._watches: dict[str, Watch | None] = {}  # None where a change would not be noticed
        self._reads: dict[Key, set[str]] = {}

    def reading(self, key: Key, path: str, view: View) -> View:
        """`view` of the layer at `path`, which notes that it was read for `key`."""

        def noted() -> None:
            self._reads.setdefault(key, set()).add(path)
            if path not in self._watches:
                sources = self._sources(path)
                self._watches[path] = Watch(sources) if Watch.can(sources) else None

        def rows(s: slice) -> Tensor:
            noted()
            return view.rows(s)

        def bias() -> Tensor | None:
            noted()
            return view.bias

        return view.then(rows=rows, bias=bias)

    def stale(self, held: Iterable[Key]) -> list[Key]:
        """Those of `held` for which a layer was read that has changed since; they are to be made again."""
        now = {path: self._sources(path) for path in self._watches}
        changed = {path for path, watch in self._watches.items() if watch is None or not watch.holds(now[path])}
        found = [key for key in held if not changed.isdisjoint(self._reads.get(key, ()))]
        for key in found:
            del self._reads[key]
        for path in changed:
            del self._watches[path]
        return found

    def _sources(self, path: str) -> tuple[Any, ...]:
        module = submodule(self._model, path)
        return *base_view(module).sources(), module._parameters.get("bias")
