"""What adaptr costs on an accelerator, in a few minutes: attach, decode, training steps, nf4, a pool, merging in place.

`python benchmarks/gpu.py [DEVICE]`, for `make gpu`: beside PEFT, in turn, on SmolLM2's shape. Each part says what
it found as it ends, and one that fails says so and stops no other.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import measure
import synthetic
import torch
from live import LINEARS, decoder
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import logging

import adaptr

ROUNDS, PROMPT = 15, 128


class Bench:
    """The device, and how to wait for it and to ask what it holds."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.cuda = device == "cuda"
        self.dtype = torch.bfloat16 if self.cuda else torch.float32
        self.place = synthetic.llama(measure.workplace() / "smollm2", synthetic.SMOLLM2, shards=1)
        self.folder = synthetic.lora(measure.workplace() / "lora-small", synthetic.SMOLLM2)

    def base(self, **load: Any) -> Any:
        model = AutoModelForCausalLM.from_pretrained(self.place, dtype=self.dtype, **load).eval()
        return model if load else model.to(self.device)

    def waiting(self, work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            work()
            if self.cuda:
                torch.cuda.synchronize()

        return run

    @contextmanager
    def peak(self) -> Iterator[dict[str, float]]:
        """MB at the highest point above what was held before; nothing where the device does not say."""
        found: dict[str, float] = {}
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() if self.cuda else 0
        yield found
        found["MB"] = (torch.cuda.max_memory_allocated() - before) / 1e6 if self.cuda else float("nan")


def heading(bench: Bench) -> str:
    name = torch.cuda.get_device_name() if bench.cuda else "a processor, for a trial"
    return f"## {name}, torch {torch.__version__}, {str(bench.dtype).removeprefix('torch.')}"


def attaching(bench: Bench) -> str:
    from peft import PeftModel

    file = bench.folder.with_suffix(".safetensors")
    if not file.exists():
        adaptr.convert(bench.folder, file)
    ours, theirs = bench.base(), bench.base()
    work = {
        "adaptr: load, attach, detach": bench.waiting(lambda: adaptr.attach(ours, adaptr.load(file)).detach()),
        "PEFT: from_pretrained, unload": bench.waiting(
            lambda: PeftModel.from_pretrained(theirs, bench.folder).unload()
        ),
        "adaptr: merged in place, and off": bench.waiting(lambda: adaptr.attach(ours, file, merged=True).detach()),
    }
    found = measure.interleave(work, ROUNDS)
    return measure.table("Attach a LoRA r=16 to 210 linear layers", found, "PEFT: from_pretrained, unload")


def decoding(bench: Bench) -> str:
    from peft import PeftModel

    bare, ours, dora = bench.base(), bench.base(), bench.base()
    adaptr.attach(ours, bench.folder)
    adaptr.attach(dora, adaptr.create(dora, "dora", LINEARS, r=16))
    theirs = PeftModel.from_pretrained(bench.base(), bench.folder).eval()
    models = {"bare": bare, "adaptr LoRA r16": ours, "PEFT LoRA r16": theirs, "adaptr DoRA r16": dora}
    ids, one = (torch.randint(0, 49152, (1, n), device=bench.device) for n in (PROMPT, 1))
    with torch.inference_mode():
        steps = {name: bench.waiting(decoder(model, ids, one)) for name, model in models.items()}
        return measure.table("Decode of one token", measure.interleave(steps, 4 * ROUNDS, 5), "bare")


def training(bench: Bench) -> str:
    rows, memory = {}, {}
    for name, model, learning in _trained(bench):
        step = bench.waiting(_step(bench, model, learning))
        step()
        with bench.peak() as peak:
            rows[name] = measure.interleave({name: step}, ROUNDS, 3)[name]
        memory[name] = peak["MB"]
    shown = measure.table("Training step, batch 4 x 128, all linear layers", rows, "PEFT lora")
    return shown + "\n\nPeak above what the model holds, MB: " + _listed(memory)


def _trained(bench: Bench) -> Iterator[tuple[str, Any, list[Any]]]:
    from peft import LoraConfig, get_peft_model

    for method in ("lora", "dora"):
        model = bench.base()
        yield (
            f"adaptr {method}",
            model,
            list(adaptr.train(model, adaptr.create(model, method, LINEARS, r=16)).parameters()),
        )
        config = LoraConfig(
            r=16, lora_alpha=16, target_modules=LINEARS, use_dora=method == "dora", task_type="CAUSAL_LM"
        )
        theirs = get_peft_model(bench.base(), config)
        yield f"PEFT {method}", theirs, [p for p in theirs.parameters() if p.requires_grad]


def _step(bench: Bench, model: Any, learning: list[Any]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(learning, lr=1e-4)
    ids = torch.randint(0, 49152, (4, PROMPT), device=bench.device)
    model.train()

    def step() -> None:
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def four_bits(bench: Bench) -> str:
    """An nf4 base: a step after a forward without gradients, which is where weights were repacked on a processor."""
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=bench.dtype, bnb_4bit_use_double_quant=True
    )
    model = bench.base(quantization_config=config, device_map={"": bench.device})
    session = adaptr.train(model, adaptr.create(model, "lora", LINEARS, r=16))
    learning = list(session.parameters())
    with torch.no_grad():
        model(torch.randint(0, 49152, (1, 8), device=bench.device))
    step = bench.waiting(_step(bench, model, learning))
    rows = measure.interleave({"adaptr lora on nf4": step}, ROUNDS, 3)
    moved = sum(bool(p.any()) for key, p in session.named().items() if key.endswith(":B"))
    table = measure.table("Training step on an nf4 base", rows, "adaptr lora on nf4")
    return f"{table}\n\n{moved} of {len(learning) // 2} factors B have moved"


def pooling(bench: Bench) -> str:
    model, count = bench.base(), 8
    fresh = adaptr.create(model, "lora", LINEARS, r=16)
    pool = adaptr.pool(model)
    for i in range(count):
        noise = {k: t + 0.01 * torch.randn_like(t) for k, t in fresh.tensors.items()}
        pool.add(f"a{i}", fresh.replace(tensors=noise))
    bare, ids = bench.base(), torch.randint(0, 49152, (count, PROMPT), device=bench.device)

    def mixed() -> None:
        with pool.rows([f"a{i}" for i in range(count)]):
            model(ids)

    work = {"bare": bench.waiting(lambda: bare(ids)), f"pool, {count} adapters in {count} rows": bench.waiting(mixed)}
    with torch.inference_mode():
        return measure.table("A batch of eight rows", measure.interleave(work, ROUNDS, 3), "bare")


def compiling(bench: Bench) -> str:
    bare, ours = bench.base(), bench.base()
    adaptr.attach(ours, bench.folder)
    ids = torch.randint(0, 49152, (4, PROMPT), device=bench.device)
    models = {"bare, compiled": torch.compile(bare), "adaptr LoRA, compiled": torch.compile(ours)}
    with torch.inference_mode():
        work = {name: bench.waiting(lambda m=m: m(ids, use_cache=False)) for name, m in models.items()}
        return measure.table("Prefill of 4 x 128, compiled", measure.interleave(work, ROUNDS, 3), "bare, compiled")


def _listed(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in found.items())


PARTS = (attaching, decoding, training, four_bits, pooling)


def main(device: str) -> int:
    logging.disable_progress_bar()
    torch.manual_seed(0)
    bench, failed = Bench(device), []
    print(heading(bench), flush=True)
    for part in PARTS:
        began = time.perf_counter()
        try:
            print(part(bench), flush=True)
        except Exception:  # the others are worth having on a machine that is only lent
            failed.append(part.__name__)
            print(f"\n### {part.__name__} failed\n\n```\n{traceback.format_exc(limit=4)}```", flush=True)
        print(f"\n({part.__name__}: {time.perf_counter() - began:.0f} s)", flush=True)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "cuda"))
