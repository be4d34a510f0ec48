"""Pipelines of random weights, LoRAs of them in the files of diffusers and kohya, and both merged. make.py FOLDER

The pipelines are written as diffusers saves them, and as the one file of CompVis, Stability or Black Forest Labs.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import adaptr
from adaptr.checkpoint.skeleton import skeleton
from adaptr.networks import clip, flux, unet

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))
from image_bases import one_file, pipeline  # noqa: E402

Tensors = dict[str, torch.Tensor]
#: What is adapted, by diffusers' names; behind `kohya` by those that kohya's files have for that model.
TARGETS = {
    "sd15": ["to_q", "to_k", "to_v", "to_out.0", "ff.net.2", "proj_in", "conv1", "conv", "q_proj", "fc1"],
    "sdxl": ["to_q", "to_v", "to_out.0", "proj_out", "conv_shortcut", "q_proj", "k_proj", "v_proj", "fc2"],
    "flux": ["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "proj_mlp", "proj_out", "q_proj"],
    "sdxl kohya": ["to_q", "to_v", "to_out.0", "proj_out", "skip_connection", "q_proj", "k_proj", "v_proj", "fc2"],
    # not `linear1`, which diffusers cuts at the width of the published model
    "flux kohya": ["img_attn.qkv", "txt_attn.qkv", "img_attn.proj", "linear2", "q_proj"],
}
#: Where a published file has the text encoders.
ENCODERS = {
    ("sd15", "text_encoder"): "cond_stage_model.transformer.text_model.",
    ("sdxl", "text_encoder"): "conditioner.embedders.0.transformer.text_model.",
    ("flux", "text_encoder"): "text_encoders.clip_l.transformer.text_model.",
}
OPEN_CLIP = "conditioner.embedders.1.model."


def drawn(shapes: dict[str, list[int]]) -> Tensors:
    draw = torch.Generator().manual_seed(7)
    return {name: torch.randn(shape, generator=draw) * 0.1 for name, shape in shapes.items() if shape}


def published(kind: str, tensors: Tensors) -> Tensors:
    """The tensors under the names of the file of one; what has none is left out, and nothing is trained of it."""
    found: Tensors = {}
    joined: dict[str, list[torch.Tensor]] = {}
    for name, tensor in tensors.items():
        component, _, rest = name.partition(".")
        path, _, leaf = rest.rpartition(".")
        if (kind, component) in ENCODERS:
            found[ENCODERS[kind, component] + rest.removeprefix(clip.MODEL)] = tensor
        elif component == "unet":
            found[f"model.diffusion_model.{_ldm(path, tensors)}.{leaf}"] = tensor
        else:
            start, table = (OPEN_CLIP, clip.TABLE) if component == "text_encoder_2" else ("", flux.TABLE)
            for spelling in table.others(path.removeprefix(clip.MODEL)):
                glue = "_" if spelling.paths[0].endswith("in_proj") else "."
                joined.setdefault(f"{start}{spelling.paths[0]}{glue}{leaf}", []).append(tensor)
    return {**found, **{name: torch.cat(_ordered(name, parts)) for name, parts in joined.items()}}


def _ordered(name: str, parts: list[torch.Tensor]) -> list[torch.Tensor]:
    """q, k and v, which come as k, q, v, by name; the MLP's rows of a single block last."""
    if len(parts) < 3:
        return parts
    k, q, v, *more = sorted(parts, key=lambda part: part.shape[0] > parts[0].shape[0])
    return [q, k, v, *more]


def _ldm(path: str, tensors: Tensors) -> str:
    names = [spelling.paths[0] for spelling in unet.others(path)]
    if len(names) > 1:  # a change of size behind a level with attention or without
        attends = any(other.startswith(f"unet.{path.split('.upsamplers')[0]}.attentions") for other in tensors)
        return names[int(attends)]
    return names[0] if names else path


def lora(base: Path, targets: list[str], out: Path, form: str) -> Path:
    """A LoRA of a pipeline's modules in a tool's format."""
    adapter = adaptr.create(skeleton(base), "lora", targets, r=4, alpha=2.0, seed=3)
    draw = torch.Generator().manual_seed(5)
    tensors = {key: torch.randn(tensor.shape, generator=draw) * 0.2 for key, tensor in adapter.tensors.items()}
    made = adapter.replace(tensors=tensors, base=dataclasses.replace(adapter.base, content="", structure=""))
    adaptr.save(made, out.with_suffix(".adaptr"))
    adaptr.convert(out.with_suffix(".adaptr"), out, to=form)
    return out


def kohyas(kind: str, tensors: Tensors) -> Tensors:
    """A pipeline with the names that kohya's files have for its modules: the published ones but in the encoders."""
    first = "transformer" if kind == "flux" else "unet"
    text = {name: tensor for name, tensor in tensors.items() if name.startswith("text_encoder")}
    names = {name: name.removeprefix("model.diffusion_model.") for name in published(kind, tensors)}
    strange = ("text_encoders.", "conditioner.", "cond_stage_model.")
    found = published(kind, tensors)
    return {**text, **{f"{first}.{names[name]}": found[name] for name in found if not name.startswith(strange)}}


def main(folder: Path) -> None:
    cases: list[dict[str, Any]] = []
    for kind, shapes in json.loads((HERE / "shapes.json").read_text()).items():
        tensors = drawn(shapes)
        save_file(tensors, folder / f"{kind}-base.safetensors")
        base = pipeline(folder / kind, tensors)
        single = one_file(folder / f"{kind}-one.safetensors", published(kind, tensors))
        strange = pipeline(folder / f"{kind}-kohyas", kohyas(kind, tensors)) if f"{kind} kohya" in TARGETS else base
        for form, trained in (("diffusers", base), ("kohya", strange)):
            targets = TARGETS.get(f"{kind} {form}", TARGETS[kind])
            adapter = lora(trained, targets, folder / f"{kind}-{form}.safetensors", form)
            for where, what in (("pipeline", base), ("one-file", single)):
                out = folder / f"{kind}-{form}-{where}{what.suffix}"
                adaptr.merge(what, adapter, out, receipt=False)
                case = {"kind": kind, "adapter": adapter.name, "merged": out.name, "limit": 1e-6}
                cases.append({"name": f"{kind}, {form} into {where}", **case})
    (folder / "cases.json").write_text(json.dumps(cases))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
