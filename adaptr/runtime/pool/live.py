"""A pool: thousands of adapters on one model, of which each row of a batch names its own."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from adaptr import targets as places
from adaptr.adapter import Adapter
from adaptr.adapter.expression import Expression
from adaptr.errors import AlreadyAttached, UsageError, phrases, shown
from adaptr.host.attach import attached
from adaptr.host.live import model_of
from adaptr.host.swap import unmount
from adaptr.host.uses import use
from adaptr.runtime.pool.batch import Batch
from adaptr.runtime.pool.fit import Fitted, Place, fit, require
from adaptr.runtime.pool.followed import Followed
from adaptr.runtime.pool.lane import SERVED, LayerLane, Work
from adaptr.runtime.pool.places import Places
from adaptr.runtime.pool.registered import Registered, stamp_of
from adaptr.runtime.pool.residents import Key, Residents
from adaptr.sites.weight import put
from adaptr.sources.given import Given, one, opened
from adaptr.sources.resolve import Source

if TYPE_CHECKING:
    from adaptr.runtime.pool.request import Answer, Request

SLOT = "adaptr-pool"
Name = str | None
_POOLED: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def pool(model: nn.Module, slots: int = 64, memory: int = 1 << 30, dtype: torch.dtype = torch.float32) -> Pool:
    """Let each row of a batch have its own adapter, of any delta method, DoRA, (IA)3 or BitFit, or bottlenecks
    and what else is inserted behind modules and asks nothing of the whole forward.

    `slots`: how many adapters are on the model's device at once; `memory`: bytes for their factors there, beside a copy
    of those that the batch in hand needs; `dtype`: of both. Raises `AlreadyAttached` if there is a pool or an adapter
    on `model`.
    """
    return Pool(model_of(model), slots, memory, dtype)


class Pool:
    """Adapters by name. A `with` block, or `detach`, leaves the model as it was."""

    def __init__(self, model: nn.Module, slots: int, memory: int, dtype: torch.dtype) -> None:
        if slots < 1:
            raise UsageError(f"a pool of {slots} slots holds nothing", hint="give it one at least")
        if model in _POOLED:
            raise AlreadyAttached("there is a pool on this model already", hint="add to it, or detach it first")
        _require_bare(model)
        self.model, self.dtype = model, dtype
        self.residents = Residents(model, slots, memory, dtype)
        self._entries: dict[str, Registered] = {}
        self._lanes: dict[str, LayerLane] = {}
        self._places = Places(model)
        self._batch = Batch()
        self._matched: set[Place] = set()
        self._versions = 0
        self._detached = False
        self._followed = Followed(model)
        self._turn, self._thread = threading.Lock(), 0
        _POOLED.add(model)

    # ------------------------------------------------------------ registering

    def add(self, name: str, source: Given, look: bool = True) -> None:
        """Register an adapter: its header is read and held against the model, its tensors when a row names it.

        `source`: an adapter, a path, a reference, which is pulled, or a name in the store; rows have no weights.

        `look=False` puts the header off too, until a row names it: for thousands at once, of files that are known to be
        good. Raises `UsageError` for a name that is taken, `Unsupported` with the reason for what can't be a row of a
        batch, and what opening raises; what was not looked at raises it of the batch that wants it, before it runs.
        """
        if name in self._entries:
            raise UsageError(
                f"the pool has an adapter called `{name}` already", hint="`update` puts another in its place"
            )
        self._entries[name] = self._entry(source, look)

    def update(self, name: str, source: Given | None = None) -> None:
        """Put another adapter in the place of one, or look at its file again. Running requests end as they began."""
        before = self._require(name)
        self._entries[name] = self._entry(before.source if source is None else source)
        self.residents.drop((name, before.version))

    def remove(self, name: str) -> None:
        """Forget an adapter. Running requests end as they began."""
        self.residents.drop((name, self._require(name).version))
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    @property
    def resident(self) -> tuple[str, ...]:
        """The names of those on the device, the least recently used first."""
        return tuple(name for name, _ in self.residents.held)

    # ------------------------------------------------------------ running

    @contextmanager
    def rows(self, names: Sequence[Name]) -> Iterator[None]:
        """Forwards of the model inside have these adapters, one name or None for each row of the batch.

        Files that have changed since are read again on entry. Raises `UsageError` for a name that is not registered
        and for more adapters than the pool can hold at once.
        """
        with self.serving([self.key(name) for name in names]):
            yield

    def forward(self, names: Sequence[Name], *args: object, **kwargs: object) -> Any:
        """One forward of the model with these adapters."""
        with self.rows(names):
            return self.model(*args, **kwargs)

    def prefetch(self, names: Iterable[str]) -> None:
        """Bring adapters to the device before a row names them; as many as there are slots, no more."""
        keys = [key for key in map(self.key, dict.fromkeys(names)) if key is not None]
        self.load(keys[: self.residents.slots])

    def generate(self, requests: Iterable[Request], batch: int = 16) -> Iterator[Answer]:
        """Answers as they are done, each with its request; `answers` gives them in the order of the requests.

        Requests join and leave the running batch of at most `batch` rows between steps. `requests` is read when there
        is room, and may be a generator that gives them as they arrive. One that can't be answered, for its adapter, its
        tokens or what the model says to them, has its error as the answer, and the others go on.
        """
        from adaptr.runtime.pool.generate import generate

        return generate(self, requests, batch)

    def answers(self, requests: Iterable[Request], batch: int = 16) -> Iterator[Answer]:
        """As `generate`, in the order of the requests: what is done before an earlier one is kept until then."""
        from adaptr.runtime.pool.generate import in_order

        return in_order(self, requests, batch)

    def detach(self) -> None:
        """Take the pool off; the model is as it was. Calling it again does nothing."""
        if self._detached:
            return
        self._detached = True
        for path in list(self._lanes):
            unmount(self.model.get_submodule(path), SLOT)
        self._places.off()
        self._lanes, self._batch = {}, Batch()
        self._entries = {}
        self.residents.held.clear()
        _POOLED.discard(self.model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def __deepcopy__(self, memo: object) -> Self:
        raise UsageError("a pool belongs to one model", hint="copy the model, whose copy is bare, and pool that")

    # ------------------------------------------------------------ inside

    def key(self, name: Name) -> Key | None:
        """The adapter as it is now; looked at again where its files have changed."""
        if name is None:
            return None
        entry = self._require(name)
        if entry.changed:
            self.update(name)
        return name, self._entries[name].version

    @contextmanager
    def serving(self, keys: Sequence[Key | None]) -> Iterator[None]:
        """Forwards inside are for rows with these adapters in these versions. Threads take turns."""
        if self._thread == threading.get_ident():
            raise UsageError(
                "another batch of this pool is running", hint="run one `rows` or `generate` step at a time"
            )
        with self._turn:
            if self._detached:
                raise UsageError("this pool was detached", hint="make another one")
            _require_bare(self.model)
            self._thread = threading.get_ident()
            try:
                gathered = self._gather(tuple(keys))
                SERVED.set((*SERVED.get(), self))
                for path, lane in self._lanes.items():
                    lane.set(gathered[path], self)
                self._places.serve(self._places.works(tuple(keys), self.residents.held, self.residents.pages), self)
                yield
            finally:
                self._thread = 0
                SERVED.set(tuple(pool for pool in SERVED.get() if pool is not self))
                for lane in self._lanes.values():
                    lane.set(None)
                self._places.serve({}, None)

    def _gather(self, keys: tuple[Key | None, ...]) -> dict[str, Work]:
        wanted = [key for key in dict.fromkeys(keys) if key is not None]
        for key in self._followed.stale(list(self.residents.held)):
            self.residents.forget(key)
            self._batch = Batch()  # where the factors lie that were made of what was
        self.load(wanted)
        return self._batch.works(self._lanes, keys, self.residents.held, self.residents.pages)

    def load(self, keys: Sequence[Key]) -> None:
        """Have adapters on the device. Raises `NoRoom` where there is none."""
        for key in self.residents.use(keys):
            fitted = self._fitted(key)
            for path in fitted.rows:
                self._host(path)
            self._places.host(fitted.places)
            with torch.inference_mode(False), torch.no_grad():  # a forward with gradients may be next
                self.residents.put(key, fitted, keys)

    def _fitted(self, key: Key) -> Fitted:
        name, version = key
        entry = self._entries.get(name)
        if entry is None or entry.version != version:
            raise UsageError(
                f"`{name}` was updated or removed, and what it was is no longer on the device",
                hint="ask again, for one that the pool has now",
            )
        with torch.inference_mode(False), torch.no_grad():
            return fit(self.model, self._open(entry.source), self.dtype, partial(self._followed.reading, key))

    def _host(self, path: str) -> None:
        """Let the layer at `path` serve rows."""
        if path not in self._lanes:
            module = places.submodule(self.model, path)
            target = places.describe(path, module)
            assert target is not None, "targets were matched"
            self._lanes[path] = lane = LayerLane(target)
            put(module, SLOT, lane, use(self.model, path).read)

    def _entry(self, source: Given, look: bool = True) -> Registered:
        self._versions += 1
        what = one(source)
        kept = opened(what, self.model) if isinstance(what, Expression) else what
        found = Registered(kept, self._versions, stamp_of(kept))
        if look:
            require(self.model, self._open(kept), self._matched)
        elif isinstance(kept, Source) and not found.stamp:
            raise phrases.nothing_at(kept)
        return found

    def _open(self, source: Adapter | Source) -> Adapter:
        return source if isinstance(source, Adapter) else opened(source, self.model)

    def _require(self, name: str) -> Registered:
        if not isinstance(name, str):
            raise UsageError("a row's adapter", got=shown(name), want="a name, or None for the base")
        if name not in self._entries:
            raise UsageError(
                f"the pool has no adapter `{name}`",
                hint=phrases.meant(name, self._entries) or f"it has {len(self)} others",
            )
        return self._entries[name]


def _require_bare(model: nn.Module) -> None:
    """Raise `AlreadyAttached` if an adapter is attached, before the pool was made or since."""
    if attached(model):
        raise AlreadyAttached(
            f"adapter `{next(iter(attached(model)))}` is on this model and would be under all rows",
            hint="detach it first",
        )
