"""Merge a LoRA of rank 16 on all linear layers of SDXL's U-Net, and of Flux' blocks, into one file: against `cp`; and
one on the attention alone.

`python benchmarks/images.py [ROUNDS [NAME ...]]`. Real widths, random weights: SDXL's 70 transformer blocks whole (2.2
B parameters, fp16), of Flux 3 double and 6 single blocks of full width (1.9 B, bf16). Names are the published files':
kohya's, and diffusers' for the attention of Flux, of which q, k and v are rows of larger tensors of the base.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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


def sdxl_attention() -> Iterator[tuple[str, Shape]]:
    return (layer for layer in sdxl() if ".attn" in layer[0])


def flux_attention() -> Iterator[tuple[str, Shape]]:
    for n in range(DOUBLE):
        names = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
        yield from ((f"transformer_blocks.{n}.attn.{name}", (WIDTH, WIDTH)) for name in names)
    for n in range(SINGLE):
        names = ("to_q", "to_k", "to_v")
        yield from ((f"single_transformer_blocks.{n}.attn.{name}", (WIDTH, WIDTH)) for name in names)


@dataclass(frozen=True)
class Case:
    """A base, and what of it each adapter is on."""

    base: Callable[[], Iterator[tuple[str, Shape]]]
    dtype: torch.dtype
    adapters: Mapping[str, Callable[[], Iterator[tuple[str, Shape]]]]


CASES = {
    "SDXL": Case(sdxl, torch.float16, {"all": sdxl, "attention": sdxl_attention}),
    "Flux": Case(flux, torch.bfloat16, {"all": flux, "attention": flux_attention}),
}


def write(name: str, base: Path) -> None:
    """The base, and its adapters beside it."""
    case = CASES[name]
    noise = torch.randn(7 * WIDTH, 5 * WIDTH, dtype=case.dtype).mul_(0.02)
    save_file({f"{PREFIX}{path}.weight": noise[:out, :into].clone() for path, (out, into) in case.base()}, base)
    for what, layers in case.adapters.items():
        save_file(dict(lora(layers(), case.dtype)), beside(base, what))


def beside(base: Path, what: str) -> Path:
    return base.with_name(f"{base.stem}-{what}.safetensors")


def lora(layers: Iterator[tuple[str, Shape]], dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    for path, (out, into) in layers:
        down, up = (torch.randn(shape, dtype=dtype).mul_(0.02) for shape in ((RANK, into), (out, RANK)))
        if path.startswith(("transformer_blocks", "single_transformer_blocks")):  # diffusers' names
            yield f"transformer.{path}.lora_A.weight", down
            yield f"transformer.{path}.lora_B.weight", up
            continue
        key = f"lora_unet_{path.replace('.', '_')}"
        yield from ((f"{key}.lora_down.weight", down), (f"{key}.lora_up.weight", up))
        yield f"{key}.alpha", torch.tensor(RANK / 2, dtype=dtype)


def one(name: str, rounds: int, folder: Path) -> Iterator[str]:
    """The rows of one base. `cp` comes before each merge, so that whatever else the machine does meets both."""
    base, out = folder / f"{name}.safetensors", folder / f"{name}-out.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    measure.process(measure.own("images.py", "write", name, str(base)))
    ways = {
        (what, receipt): measure.own("merge.py", "adaptr", str(base), str(beside(base, what)), str(out), receipt)
        for what in CASES[name].adapters
        for receipt in ("none", "receipt")
    }
    found: dict[tuple[str, str], list[tuple[measure.Sample, measure.Sample]]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, command in ways.items():
            copied, merged = (_sample(out, line) for line in (["cp", str(base), str(out)], command))
            found[way] += [(copied, merged)] if number else []  # the first round warms the page cache
    measure.remove(
        out, out.with_name(f"{out.name}.adaptr"), base, *(beside(base, what) for what in CASES[name].adapters)
    )
    yield from (_row(name, *way, samples) for way, samples in found.items())


def _sample(out: Path, command: list[str]) -> measure.Sample:
    measure.remove(out, out.with_name(f"{out.name}.adaptr"))
    return measure.process(command)


def _row(name: str, what: str, receipt: str, samples: list[tuple[measure.Sample, measure.Sample]]) -> str:
    copies, works = [copied.work for copied, _ in samples], [sample.work for _, sample in samples]
    ratios = sorted(sample.work / copied.work for copied, sample in samples)
    spent = min(copied.cpu for copied, _ in samples), min(sample.said["cpu"] for _, sample in samples)
    cells = [
        f"{statistics.median(copies):.2f}",
        f"{statistics.median(works):.2f}",
        f"{statistics.median(works) / statistics.median(copies):.2f}",
        f"{min(works) / min(copies):.2f}",
        f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
        f"{spent[1]:.1f} / {spent[0]:.1f}",
        f"{max(sample.said['peak'] for _, sample in samples):.0f}",
    ]
    return f"| {name}, {what}, {receipt} | {' | '.join(cells)} |"


def main(rounds: int, names: list[str]) -> None:
    print("\n### Merge into image models: LoRA r=16, one file to one file\n")
    columns = "`cp` s | work s | of medians | of minima | pairs | least CPU s, and `cp`'s | peak MB"
    print(f"| base, layers, receipt | {columns} |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names or CASES:
        for row in one(name, rounds, measure.workplace()):
            print(row, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write(sys.argv[2], Path(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 3, sys.argv[2:])
