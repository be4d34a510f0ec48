"""Thousands of requests over hundreds of adapters on one pool, with updates and evictions; every answer is checked.

`python benchmarks/soak.py [REQUESTS] [ADAPTERS]`: each answer against the request alone with its adapter attached in
the usual way, in the version it had when the request joined; memory in the first and the last quarter.
"""

from __future__ import annotations

import gc
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

import adaptr
from adaptr.testing import shaken

METHODS = (("lora", {"r": 2}), ("lora", {"r": 7}), ("dora", {"r": 3}), ("ia3", {}), ("loha", {"r": 2}))


def base() -> Any:
    """A random Llama of two layers, the same each time."""
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=64, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    ).eval()  # fmt: skip


def adapter(plain: Any, number: int, seed: int) -> Any:
    method, config = METHODS[number % len(METHODS)]
    targets = None if method == "ia3" else ["attn.q", "attn.v", "mlp.down"][: 1 + number % 3]
    return shaken(adaptr.create(plain, method, targets, seed=seed, **config), seed)


class Traffic:
    """Requests that arrive at random, and files replaced in between. `asked`: the adapter each request began with."""

    def __init__(self, folder: Path, plain: Any, pool: Any, requests: int, adapters: int) -> None:
        self.folder, self.plain, self.pool, self.count = folder, plain, pool, requests
        self.draws = random.Random(0)
        self.now = {f"a{i}": adapter(plain, i, i) for i in range(adapters)}
        for name, one in self.now.items():
            adaptr.save(one, folder / f"{name}.safetensors")
            pool.add(name, folder / f"{name}.safetensors")
        self.asked: dict[int, Any] = {}
        self.updates = 0

    def __iter__(self) -> Iterator[adaptr.Request]:
        """A request joins right after it was asked for, so what its name means is settled here."""
        draws = self.draws
        for number in range(self.count):
            if draws.random() < 0.1:
                self.replace(draws.choice(list(self.now)))
            name = draws.choice([*self.now, None]) if draws.random() < 0.9 else None
            self.asked[number] = self.now.get(name)
            prompt = [draws.randrange(3, 64) for _ in range(draws.randrange(1, 12))]
            yield adaptr.Request(name, prompt, draws.randrange(1, 9), id=number)

    def replace(self, name: str) -> None:
        self.updates += 1
        one = adapter(self.plain, int(name[1:]), 10_000 + self.updates)
        adaptr.save(one, self.folder / f"{name}.safetensors", force=True)
        self.pool.update(name)
        self.now[name] = one


def alone(plain: Any, one: Any, request: Any) -> list[int]:
    """The greedy answer of the request by itself, each token from a whole forward."""
    handle = adaptr.attach(plain, one) if one is not None else None
    ids = list(request.prompt)
    try:
        with torch.inference_mode():
            for _ in range(request.max_new_tokens):
                ids.append(int(plain(torch.tensor([ids])).logits[0, -1].argmax()))
                if ids[-1] == 2:
                    break
    finally:
        if handle is not None:
            handle.detach()
    return ids[len(request.prompt) :]


def resident() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def soak(requests: int, adapters: int, batch: int = 8, slots: int = 12) -> dict[str, Any]:
    """Raises `AssertionError` at the first wrong answer; returns what there was to see."""
    torch.set_num_threads(1)
    plain, began, memory = base(), time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder, adaptr.pool(base(), slots=slots, memory=4 << 20) as pool:
        traffic, answered = Traffic(Path(folder), plain, pool, requests, adapters), 0
        for answer in pool.generate(traffic, batch):
            wanted = alone(plain, traffic.asked.pop(answer.request.id), answer.request)
            assert list(answer.tokens) == wanted, f"request {answer.request} got {answer.tokens}, alone {wanted}"
            answered += 1
            if answered % max(requests // 8, 1) == 0:
                memory.append(resident())
        assert answered == requests, f"{answered} answers to {requests} requests"
        assert not pool.residents.pins, "an adapter is still in use"
        return {
            "answers": answered,
            "updates": traffic.updates,
            "evictions": pool.residents.evictions,
            "memory MB, at each eighth": [round(m) for m in memory],
            "seconds": round(time.perf_counter() - began, 1),
        }


if __name__ == "__main__":
    print(soak(*(int(a) for a in (sys.argv[1:] + ["2000", "500"][len(sys.argv) - 1 :]))))
