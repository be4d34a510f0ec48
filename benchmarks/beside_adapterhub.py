"""What inserted modules and prefixes cost a forward, here and in AdapterHub's `adapters`.

`python benchmarks/beside_adapterhub.py [ROUNDS] [NAME...]`: layers of BERT-base's shape, batch 8 x 64, fp32, one
thread, no gradients. `adapters` pins an older transformers, so it runs in the environment that `make oracles` makes for
it, and each library is measured against the bare model of its own. Processes of the two take turns; in each, the bare
model and the one with the adapter do. Prefixes are ejected from the networks that made them.
"""

from __future__ import annotations

import json
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure

#: Method to (our configuration, theirs: a name of its own and fields), of the same sizes.
CASES: dict[str, tuple[dict[str, Any], tuple[str, dict[str, Any]]]] = {
    "pfeiffer": ({"m": 48, "activation": "relu"}, ("SeqBnConfig", {})),
    "houlsby": ({"m": 48, "activation": "silu"}, ("DoubleSeqBnConfig", {})),
    "parallel": ({"m": 384}, ("ParBnConfig", {})),
    "compacter": ({"m": 24, "n": 4, "activation": "gelu"}, ("CompacterConfig", {})),
    "prefix": ({"tokens": 30}, ("PrefixTuningConfig", {})),
}
WHO = ("adaptr", "adapters")
LAYERS, ROWS, LENGTH, ROUNDS, TURNS = 4, 8, 64, 5, 7


def bare() -> Any:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    return BertModel(BertConfig(num_hidden_layers=LAYERS, vocab_size=1000)).eval()


def ours(name: str) -> Any:
    import adaptr

    model = bare()
    adaptr.attach(model, adaptr.create(model, name, **CASES[name][0]))
    return model


def theirs(name: str) -> Any:
    import adapters

    model, (kind, fields) = bare(), CASES[name][1]
    adapters.init(model)
    model.add_adapter("it", config=getattr(adapters, kind)(**fields))
    model.set_active_adapters("it")
    if name == "prefix":
        model.eject_prefix_tuning("it")
    return model.eval()


def alone(who: str, name: str) -> None:
    """The process that is measured: medians in milliseconds, how many numbers were added, and its peak."""
    import torch

    torch.set_num_threads(1)
    ids = torch.randint(0, 1000, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    models = {"bare": bare(), "with": (ours if who == "adaptr" else theirs)(name)}
    runs: dict[str, Callable[[], Any]] = {key: (lambda m=m: m(input_ids=ids)) for key, m in models.items()}
    times: dict[str, list[float]] = {key: [] for key in runs}
    with torch.no_grad():
        for turn in range(TURNS + 1):  # the first does not count
            for key, run in runs.items():
                started = time.process_time()
                run()
                times[key] += [time.process_time() - started] if turn else []
    print(json.dumps({key: 1e3 * statistics.median(found) for key, found in times.items()}))


def python(who: str) -> str:
    if who == "adaptr":
        return sys.executable
    oracle = runpy.run_path(str(Path(__file__).parents[1] / "oracles" / "run.py"))
    tool = next(one for one in oracle["tools"]() if one.name == "adapterhub")
    return str(oracle["environment"](tool))


def main(rounds: int, names: list[str]) -> None:
    interpreters = {who: python(who) for who in WHO}
    print(f"\n### Beside `adapters`: {LAYERS} layers of BERT-base's shape, batch {ROWS} x {LENGTH}, fp32, one thread\n")
    print("| method | adaptr, of its bare model | adapters, of its | adaptr ms | adapters ms | ratio |")
    print("|---|---|---|---|---|---|")
    for name in names or CASES:
        found: dict[str, list[Any]] = {who: [] for who in WHO}
        for turn in range(rounds):
            for who in WHO if turn % 2 else reversed(WHO):
                command = [interpreters[who], __file__, "alone", who, name]
                found[who].append(measure.process(command, threads=1).said)
        cost = {who: statistics.median(said["with"] / said["bare"] for said in found[who]) for who in WHO}
        ms = {who: statistics.median(said["with"] for said in found[who]) for who in WHO}
        ratio = statistics.median(
            a["with"] / b["with"] for a, b in zip(found["adaptr"], found["adapters"], strict=True)
        )
        cells = [*(f"{cost[who]:.3f}" for who in WHO), *(f"{ms[who]:.1f}" for who in WHO), f"{ratio:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["alone"]:
        alone(*words[1:])
    else:
        counted = [int(word) for word in words if word.isdigit()]
        main(counted[0] if counted else ROUNDS, [word for word in words if not word.isdigit()])
