"""Many adapters in one batch on SmolLM2's shape: a pool, PEFT's `adapter_names` and the bare base, one thread, fp32.

`python benchmarks/pool.py [ROUNDS] [REGISTERED] [ROWS] [PEFT]`: every row another adapter of rank 4, 8 or 16; PEFT gets
the first PEFT of them, 0 for none, as loading them takes it minutes.

`python benchmarks/pool.py inserted [ROUNDS] [ROWS]`: rows of bottleneck adapters, mixed, beside the same rows by
groups, one adapter at a time (`adaptr.stack`, `only`), each group a forward of its own, and beside the bare base.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import live
import measure
import synthetic
import torch

import adaptr

RANKS = (4, 8, 16)
FILES = 48


def files(count: int) -> list[Path]:
    """PEFT folders and adaptr files of mixed rank, made once."""
    found = []
    for i in range(count):
        folder = synthetic.lora(measure.workplace() / f"pool-{i}", synthetic.SMOLLM2, RANKS[i % 3], seed=i)
        file = folder.with_suffix(".safetensors")
        if not file.exists():
            adaptr.convert(folder, file)
        found.append(file)
    return found


def resident() -> float:
    """MB in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def small(count: int, alike: bool) -> list[Path]:
    """Files with tensors and a name of their own, of rank 1, 2 or 3, made once; headers as long as at any rank.

    Not `alike`: each leaves out another layer, so that no two are of one structure.
    """
    folder = measure.workplace() / ("small" if alike else "unlike")
    folder.mkdir(parents=True, exist_ok=True)
    ranks = [synthetic.lora(measure.workplace() / f"rank-{r}", synthetic.SMOLLM2, r) for r in (1, 2, 3)]
    like = [adaptr.load(rank).held() for rank in ranks]
    found = [folder / f"{i}.safetensors" for i in range(count)]
    for i, file in enumerate(found):
        if not file.exists():
            adaptr.save(_own(like[i % 3], i, leave=not alike), file)
    return found


def _own(adapter: Any, i: int, leave: bool) -> Any:
    """The `i`-th adapter like `adapter`, without its `i`-th target if one is left out."""
    left = list(adapter.targets)[i] if leave else ""
    targets = {path: target for path, target in adapter.targets.items() if path != left}
    tensors = {k: t * (1 + i / 1000) for k, t in adapter.tensors.items() if k.rpartition(":")[0] in targets}
    return adapter.replace(name=f"adapter-{i}", targets=targets, tensors=tensors)


def register(pool: Any, paths: list[Path], what: str) -> None:
    """Each file under a name of its own, opened or only found; they are removed afterwards."""
    size = sum(path.stat().st_size for path in paths) / 1e6
    for look in (True, False):
        before, took = resident(), []
        for path in paths:
            began = time.perf_counter()
            pool.add(path.stem, path, look=look)
            took.append(1e3 * (time.perf_counter() - began))
        first, last = (sum(part) / len(part) for part in (took[:100], took[-100:]))
        print(
            f"registered {len(paths)} distinct files, {what}, {size:.0f} MB in all, "
            f"header {'read' if look else 'put off'}: {sum(took) / 1e3:.2f} s, {resident() - before:+.1f} MB; "
            f"each of the first 100 {first:.2f} ms, of the last {last:.2f} ms; load {os.getloadavg()[0]:.1f}"
        )
        for path in paths:
            pool.remove(path.stem)


def compared(place: Path, paths: list[Path], bare: Any, pool: Any, count: int, rows: int, peft: int) -> dict[str, Any]:
    """The ways to run a batch, as functions from a step to what is measured."""
    distinct = [n for n in (1, 4, 16, 64, count) if n <= count]
    ways: dict[str, Any] = {"bare": (bare, lambda: _nothing())}
    for number in distinct:
        names = [f"a{i * max(number // rows, 1) % number}" for i in range(rows)]
        label = f"pool, rows over {number} adapters ({len(set(names))} in the batch)"
        ways[label] = (pool.model, lambda names=names: pool.rows(names))
    if peft:
        ways[f"PEFT adapter_names, {peft} adapters"] = (_peft(place, paths[:peft]), lambda: _nothing())
    return ways


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()


def _peft(place: Path, paths: list[Path]) -> Any:
    from peft import PeftModel

    began = time.perf_counter()
    folders = [p.with_suffix("") for p in paths]
    model = PeftModel.from_pretrained(live.base(place), folders[0], adapter_name="a0")
    for i, folder in enumerate(folders[1:], 1):
        model.load_adapter(folder, adapter_name=f"a{i}")
    print(f"PEFT loaded {len(paths)} adapters in {time.perf_counter() - began:.1f} s")
    names = {"adapter_names": [f"a{i}" for i in range(len(paths))]}
    return lambda *args, **kwargs: model.eval()(*args, **kwargs, **names)


#: Bottlenecks of like sizes for a width of 576.
INSERTED: dict[str, dict[str, Any]] = {
    "houlsby": {"m": 32},
    "pfeiffer": {"m": 64},
    "parallel": {"m": 64},
    "compacter": {},
}


def inserted(rounds: int, rows: int) -> None:
    """Processor time too, as a machine that others use tells little by its clock."""
    place = synthetic.llama(measure.workplace() / "smollm2", synthetic.SMOLLM2, shards=1)
    bare, pooled, turned = (live.base(place) for _ in range(3))
    made = {name: _moved(adaptr.create(bare, name, **config)) for name, config in INSERTED.items()}
    pool, stack = adaptr.pool(pooled, slots=8), adaptr.stack(turned, {name: (one, 1.0) for name, one in made.items()})
    for name, one in made.items():
        pool.add(name, one)
    mixed = [list(made)[i % len(made)] for i in range(rows)]
    ways: dict[str, Any] = {
        "bare, all rows at once": (bare, [(rows, _nothing)]),
        f"bare, {len(made)} groups": (bare, [(mixed.count(name), _nothing) for name in made]),
        f"attached by turns, {len(made)} groups": (turned, [(mixed.count(name), _turn(stack, name)) for name in made]),
        "pool, mixed": (pooled, [(rows, lambda: pool.rows(mixed))]),
        **{f"pool, {name} alone": (pooled, [(rows, lambda n=name: pool.rows([n] * rows))]) for name in made},
    }
    print(f"load before {os.getloadavg()[0]:.1f}")
    with torch.inference_mode():
        for title, length in (("Prefill of 8 tokens", 8), ("Decode of one token", 1)):
            took: dict[str, list[float]] = {label: [] for label in ways}
            steps = {label: _groups(bare, *way, length) for label, way in ways.items()}
            for number in range(rounds + 1):
                for label, step in steps.items():
                    began = time.process_time()
                    step()
                    if number:
                        took[label].append(time.process_time() - began)
            print(measure.table(f"{title}, {rows} rows, CPU", took, "bare, all rows at once"))
    print(f"load after {os.getloadavg()[0]:.1f}")


def _moved(adapter: Any) -> Any:
    generator = torch.Generator().manual_seed(1)
    noise = lambda t: 0.01 * torch.randn(t.shape, generator=generator)
    return adapter.replace(tensors={key: t + noise(t) for key, t in adapter.tensors.items()})


def _turn(stack: Any, name: str) -> Any:
    def turn() -> Any:
        stack.only(name)
        return _nothing()

    return turn


def _groups(bare: Any, model: Any, groups: list[tuple[int, Any]], length: int) -> Any:
    """All groups, one after the other; a decoded token stands behind 8, each group with a cache of its own."""
    if length > 1:
        given = [(torch.randint(0, 49152, (rows, length)), entered) for rows, entered in groups]
        return lambda: [_inside(entered, lambda ids=ids: model(ids)) for ids, entered in given]
    ids = [(torch.randint(0, 49152, (rows, 8)), entered) for rows, entered in groups]
    steps = [(_step(bare, model, entered, one, one[:, :1]), entered) for one, entered in ids]
    return lambda: [_inside(entered, step) for step, entered in steps]


def main(rounds: int, count: int, rows: int, peft: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    place = synthetic.llama(measure.workplace() / "smollm2", synthetic.SMOLLM2, shards=1)
    paths = files(min(FILES, max(count, peft)))
    bare = live.base(place)
    pool = adaptr.pool(live.base(place), slots=64)
    register(pool, small(count, alike=True), "rank 1, 2 or 3 on 210 layers")
    register(pool, small(min(count, 210), alike=False), "as many structures")
    for i in range(count):
        pool.add(f"a{i}", paths[i % len(paths)], look=False)
    ids, one = torch.randint(0, 49152, (rows, 8)), torch.randint(0, 49152, (rows, 1))
    with torch.inference_mode():
        ways = compared(place, paths, bare, pool, count, rows, peft)
        runs: dict[str, dict[str, Any]] = {"Prefill of 8 tokens": {}, "Decode of one token": {}}
        for label, (model, entered) in ways.items():
            step = _step(bare, model, entered, ids, one)
            runs["Prefill of 8 tokens"][label] = lambda m=model, e=entered: _inside(e, lambda: m(ids))
            runs["Decode of one token"][label] = lambda s=step, e=entered: _inside(e, s)
        for title, each in runs.items():
            print(measure.table(f"{title}, {rows} rows", timed(each, ways, rounds), "bare"))
        changing(pool, count, rows, rounds)
    print(f"evictions {pool.residents.evictions}, peak {measure.peak():.0f} MB")


def changing(pool: Any, count: int, rows: int, rounds: int) -> None:
    """What another composition of the batch costs, without the step: adapters are on the device already."""
    first, others = ([f"a{(i + shift) % count}" for i in range(rows)] for shift in (0, rows))
    joined = [others[0], *first[1:]]
    for what, names in (("one row", joined), ("all rows", others)):
        took = []
        for _ in range(rounds + 1):
            for one in (first, names):
                began = time.perf_counter()
                with pool.rows(one):
                    took.append(time.perf_counter() - began)
        print(f"another adapter in {what} of {rows}: {1000 * statistics.median(took[2:]):.0f} ms")


def _inside(entered: Any, work: Any) -> None:
    with entered():
        work()


def timed(each: dict[str, Any], ways: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Each round a way runs twice and the second is measured: the first gathers its composition."""
    found: dict[str, list[float]] = {label: [] for label in each}
    for number in range(rounds + 1):
        for label, work in each.items():
            work()
            began = time.perf_counter()
            work()
            if number:
                found[label].append(time.perf_counter() - began)
    return found


def _step(bare: Any, model: Any, entered: Any, ids: torch.Tensor, one: torch.Tensor) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache(config=bare.config)
    with entered():
        model(ids, past_key_values=cache, use_cache=True)

    def step() -> None:
        model(one, past_key_values=cache, use_cache=True)
        cache.crop(-1)

    return step


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["inserted"]:
        inserted(*(int(a) for a in (sys.argv[2:] + ["7", "16"][len(sys.argv) - 2 :])))
        sys.exit()
    main(*(int(a) for a in (sys.argv[1:] + ["5", "1000", "16", "0"][len(sys.argv) - 1 :])))
