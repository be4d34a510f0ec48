"""Merge a kohya LoRA of rank 16 on all linear layers of SDXL's U-Net, and of Flux' blocks, into one file: against `cp`.

`python benchmarks/images.py [ROUNDS [NAME ...]]`. Real widths, random weights: SDXL's 70 transformer blocks whole (2.2
B parameters, fp16), of Flux 3 double and 6 single blocks of full width (1.9 B, bf16). Names are the published files'.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import measure
import torch
from safetensors.torch import save_file

Shape = tuple[int, int]
PREFIX = "model.diffusion_model."
RANK = 16
#: Where SDXL's U-Net attends: width and depth of each place.
SDXL = {
    **dict.fromkeys(("input_blocks.4.1", "input_blocks.5.1"), (640, 2)),
    **dict.fromkeys(("input_blocks.7.1", "input_blocks.8.1", "middle_block.1"), (1280, 10)),
    **dict.fromkeys((f"output_blocks.{n}.1" for n in range(3)), (1280, 10)),
    **dict.fromkeys((f"output_blocks.{n}.1" for n in range(3, 6)), (640, 2)),
}
CONTEXT = 2048
#: Flux: the width, and how many of its 19 and 38 blocks there are here.
WIDTH, DOUBLE, SINGLE = 3072, 3, 6


def sdxl() -> Iterator[tuple[str, Shape]]:
    """Linear layers, (out, in)."""
    for place, (d, depth) in SDXL.items():
        yield from ((f"{place}.proj_in", (d, d)), (f"{place}.proj_out", (d, d)))
        for n in range(depth):
            block = f"{place}.transformer_blocks.{n}"
            yield from ((f"{block}.attn1.{name}", (d, d)) for name in ("to_q", "to_k", "to_v", "to_out.0"))
            yield from ((f"{block}.attn2.{name}", (d, d)) for name in ("to_q", "to_out.0"))
            yield from ((f"{block}.attn2.{name}", (d, CONTEXT)) for name in ("to_k", "to_v"))
            yield from ((f"{block}.ff.net.0.proj", (8 * d, d)), (f"{block}.ff.net.2", (d, 4 * d)))


def flux() -> Iterator[tuple[str, Shape]]:
    d = WIDTH
    for n in range(DOUBLE):
        for side in ("img", "txt"):
            block = f"double_blocks.{n}.{side}"
            yield from ((f"{block}_attn.qkv", (3 * d, d)), (f"{block}_attn.proj", (d, d)))
            yield from (
                (f"{block}_mlp.0", (4 * d, d)),
                (f"{block}_mlp.2", (d, 4 * d)),
                (f"{block}_mod.lin", (6 * d, d)),
            )
    for n in range(SINGLE):
        block = f"single_blocks.{n}"
        yield from ((f"{block}.linear1", (7 * d, d)), (f"{block}.linear2", (d, 5 * d)))
        yield f"{block}.modulation.lin", (3 * d, d)


CASES = {"SDXL": (sdxl, torch.float16), "Flux": (flux, torch.bfloat16)}


def write(name: str, base: Path, adapter: Path) -> None:
    shapes, dtype = CASES[name]
    noise = torch.randn(7 * WIDTH, 5 * WIDTH, dtype=dtype).mul_(0.02)
    save_file({f"{PREFIX}{path}.weight": noise[:out, :into].clone() for path, (out, into) in shapes()}, base)
    lora = {}
    for path, (out, into) in shapes():
        key = f"lora_unet_{path.replace('.', '_')}"
        lora[f"{key}.lora_down.weight"] = torch.randn(RANK, into, dtype=dtype).mul_(0.02)
        lora[f"{key}.lora_up.weight"] = torch.randn(out, RANK, dtype=dtype).mul_(0.02)
        lora[f"{key}.alpha"] = torch.tensor(RANK / 2, dtype=dtype)
    save_file(lora, adapter)


def one(name: str, rounds: int, folder: Path) -> str:
    base, adapter, out = (folder / f"{name}{end}" for end in ("-base.safetensors", ".safetensors", "-out.safetensors"))
    if not base.exists():
        measure.process(measure.own("images.py", "write", name, str(base), str(adapter)))
    commands = {"cp": ["cp", str(base), str(out)]}
    for receipt in ("none", "receipt"):
        commands[receipt] = measure.own("merge.py", "adaptr", str(base), str(adapter), str(out), receipt)
    found: dict[str, list[measure.Sample]] = {what: [] for what in commands}
    for number in range(rounds + 1):
        for what, command in commands.items():
            measure.remove(out, out.with_name(f"{out.name}.adaptr"))
            sample = measure.process(command)
            found[what] += [sample] if number else []  # the first round warms the page cache
    measure.remove(out, out.with_name(f"{out.name}.adaptr"), base)
    works = {what: statistics.median(s.work for s in samples) for what, samples in found.items()}
    cpu = {what: statistics.median(s.cpu for s in samples) for what, samples in found.items()}
    peak = max(s.said["peak"] for s in found["receipt"])
    cells = [f"{works['cp']:.2f}"]
    cells += [f"{works[what]:.2f} ({works[what] / works['cp']:.2f} x, {cpu[what]:.1f})" for what in ("none", "receipt")]
    return f"| {name} | {' | '.join(cells)} | {peak:.0f} |"


def main(rounds: int, names: list[str]) -> None:
    print("\n### Merge into image models: LoRA r=16 on all linear layers, one file to one file\n")
    print("| base | cp s | work without receipt s (x cp, CPU s) | with receipt | peak MB |\n|---|---|---|---|---|")
    for name in names or CASES:
        print(one(name, rounds, measure.workplace()), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 3, sys.argv[2:])
