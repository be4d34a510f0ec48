"""Independent pieces of work on a few threads, one torch thread each: the same results whatever their number."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import zip_longest
from typing import TypeVar

from adaptr.checkpoint.rewrite import Slot

T = TypeVar("T")
R = TypeVar("R")

MOST = 4


def available() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def single_threaded() -> Iterator[None]:
    """Torch on one thread, as it was afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def spread(slots: Sequence[Slot]) -> list[Slot]:
    """Big tensors first, neighbours in different files: writes to one file wait for each other."""
    files: dict[int, list[Slot]] = {}
    for slot in sorted(slots, key=lambda slot: (-slot.entry.nbytes, slot.name)):
        files.setdefault(slot.target, []).append(slot)
    turns = zip_longest(*files.values())
    return [slot for turn in turns for slot in turn if slot is not None]


def _reuse_freed_memory() -> None:
    """Let blocks take the place of blocks before them.

    glibc gives free memory back to the system, and faults it in again page by page, whenever more of it is free than
    the largest chunk freed so far suggests. So a large one is freed, of which no page was ever touched.
    """
    import torch

    large = torch.empty((1 << 25) - (1 << 16), dtype=torch.uint8)
    del large


def run(work: Callable[[T], R], items: Sequence[T]) -> dict[int, R]:
    """`work` on each item; results by index. The first failure is raised once the running ones have stopped."""
    import torch

    _reuse_freed_memory()
    threads = min(MOST, available(), max(len(items), 1))
    with single_threaded(), ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = {pool.submit(_quietly, work, item): index for index, item in enumerate(items)}
        try:
            return {futures[done]: done.result() for done in as_completed(futures)}
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _quietly(work: Callable[[T], R], item: T) -> R:
    import torch

    with torch.no_grad():
        return work(item)
