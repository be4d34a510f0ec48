"""AdapterDrop: how long a step of training and a forward take by the layers that have no adapter.

    python examples/dropping.py [--rounds N]

On all-MiniLM-L6-v2 (six layers), 16 texts of 64 tokens, `pfeiffer` with m = 48. Each figure is the least of the rounds,
in which all numbers of dropped layers take turns; beside it is the base's own forward. Where no layer below an adapter
has a backward, a step took 100, 90, 78, 68, 61 and 50 % for 0 to 5 of the six (two busy cores, torch 2.13).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import real_models
import torch
from transformers import AutoModel

import adaptr


def least(rounds: int, jobs: dict[object, Callable[[], object]]) -> dict[object, float]:
    """The shortest time of each, in milliseconds."""
    found = dict.fromkeys(jobs, float("inf"))
    for _ in range(rounds):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            found[name] = min(found[name], 1000 * (time.perf_counter() - start))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    models = {n: AutoModel.from_pretrained(real_models.minilm()).eval() for n in (None, *range(6))}
    ids = torch.randint(1000, 20_000, (16, 64))

    def forward(n: int | None) -> object:
        with torch.no_grad():
            return models[n](ids)

    def step(n: int) -> None:
        session = sessions[n]
        loss = session.objective(lambda: ((out := models[n](ids)).last_hidden_state.square().mean(), out))
        loss.backward()
        for p in session.parameters():
            p.grad = None

    adapters = {n: adaptr.create(models[n], "adapterdrop", drop=n, robust=False) for n in range(6)}
    for n, adapter in adapters.items():
        adaptr.attach(models[n], adapter)
    forwards = least(rounds, {n: lambda n=n: forward(n) for n in models})
    models = {n: AutoModel.from_pretrained(real_models.minilm()).eval() for n in range(6)}
    sessions = {n: adaptr.train(models[n], adapters[n]) for n in models}
    steps = least(rounds, {n: lambda n=n: step(n) for n in models})
    print(f"base alone: forward {forwards[None]:.1f} ms")
    print("dropped  forward     step")
    for n in range(6):
        print(f"{n:7}  {forwards[n]:5.1f} ms {steps[n]:5.1f} ms  {steps[n] / steps[0]:4.0%}")


if __name__ == "__main__":
    main()
