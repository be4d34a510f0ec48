"""LoRA as the tools write it whose formats are only read: drawn here, in the names and shapes that their files have.

A format that adaptr starts to read gets an entry in `MADE`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RANK, ALPHA = 4, 2.0
#: Of the two bases in `samples`: width, rows of keys and values; the width of the pipeline.
LLAMA, GROUPED, PIPELINE = 32, 16, 16
HEADS = 4
Factors = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Made:
    """`base`: of which its layers are. `file`: what it is called, in a folder where `beside` has others by name.
    `tensors`: names and shapes. `said`: what the file lacks. `wrapped`: under which name of the pickle they are.
    """

    base: str
    file: str
    tensors: Callable[[], Factors]
    said: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)
    wrapped: str = ""

    def write(self, folder: Path) -> Path:
        """Write it; the folder where there is more than one file, else the file."""
        import torch
        from safetensors.torch import save_file

        folder.mkdir(exist_ok=True)
        generator = torch.Generator().manual_seed(2)
        found = {name: 0.1 * torch.randn(shape, generator=generator) if shape else torch.tensor(ALPHA)
                 for name, shape in self.tensors()}  # fmt: skip
        if self.file.endswith(".npy"):
            (one,) = found.values()
            (folder / self.file).write_bytes(_array(one.numpy()))
        elif self.file.endswith(".safetensors"):
            save_file(found, folder / self.file)
        else:
            torch.save({self.wrapped: found} if self.wrapped else found, folder / self.file)
        for name, text in self.beside.items():
            (folder / name).write_text(text)
        return folder if self.beside else folder / self.file


def _array(value: Any) -> bytes:
    import io

    import numpy as np

    np.save(file := io.BytesIO(), value)
    return file.getvalue()


def _pair(called: str, down: str, up: str, into: int, out: int, alpha: str = "") -> Factors:
    yield f"{called}.{down}", (RANK, into)
    yield f"{called}.{up}", (out, RANK)
    if alpha:
        yield f"{called}.{alpha}", ()


def _each(places: Mapping[str, tuple[int, int]], down: str, up: str, alpha: str = "") -> Factors:
    for called, (into, out) in places.items():
        yield from _pair(called, down, up, into, out, alpha)


def _llama(path: str) -> dict[str, tuple[int, int]]:
    """Queries and values of both layers, `path` with a place for the layer and the letter."""
    return {path.format(i=i, n=n): (LLAMA, LLAMA if n == "q" else GROUPED) for i in range(2) for n in "qv"}


_FLUX = {
    "double_blocks.0.img_attn.qkv": (PIPELINE, 3 * PIPELINE),
    "double_blocks.0.img_attn.proj": (PIPELINE, PIPELINE),
    "single_blocks.0.linear1": (PIPELINE, 5 * PIPELINE),
}
_TEXT = {f"text_encoder.text_model.encoder.layers.{i}.self_attn.{n}_proj": (PIPELINE, PIPELINE)
         for i in range(2) for n in "qv"}  # fmt: skip


def _cloneofsimo() -> Factors:
    """Two layers of a text encoder, by number."""
    for number in range(8):
        yield f"text_encoder:{number}:up", (PIPELINE, RANK)
        yield f"text_encoder:{number}:down", (RANK, PIPELINE)


def _comfyui() -> Factors:
    return _each({f"diffusion_model.{name}": size for name, size in _FLUX.items()}, "lora_A.weight", "lora_B.weight")


def _onetrainer() -> Factors:
    block = "transformer.transformer_blocks.0.attn"
    places = {f"{block}.{name}": (PIPELINE, PIPELINE) for name in ("to_q", "to_v", "to_out.0")}
    return _each({**_TEXT, **places}, "lora_down.weight", "lora_up.weight", "alpha")


def _omi() -> Factors:
    """As OneTrainer wrote them: of Flux's transformer and CLIP."""
    block, text = "transformer.double_blocks.0", "text_encoder."
    places = {f"{block}.img_attn.{name}": (PIPELINE, PIPELINE) for name in ("qkv.0", "qkv.2", "proj")}
    places |= {f"clip_l.{path.removeprefix(text)}": size for path, size in _TEXT.items()}
    return _each(places, "lora_down.weight", "lora_up.weight", "alpha")


def _xlabs() -> Factors:
    for name, out in (("qkv", 3 * PIPELINE), ("proj", PIPELINE)):
        yield from _pair(f"double_blocks.0.processor.{name}_lora1", "down.weight", "up.weight", PIPELINE, out)


def _loralib() -> Factors:
    return _each(_llama("model.layers.{i}.self_attn.{n}_proj"), "lora_A", "lora_B")


def _torchtune() -> Factors:
    return _each(_llama("layers.{i}.attn.{n}_proj"), "lora_a.weight", "lora_b.weight")


def _adapterhub() -> Factors:
    return _each(_llama("model.layers.{i}.self_attn.{n}_proj.loras.mine"), "lora_A", "lora_B")


_ADAPTERHUB = (
    '{"config": {"architecture": "lora", "attn_matrices": ["q", "v"], "composition_mode": "add", "r": 4, '
    '"alpha": 2.0}, "model_class": "LlamaAdapterModel", "model_type": "llama", "name": "mine", '
    '"version": "adapters.1.3.0"}'
)


def _litgpt() -> Factors:
    for i in range(2):
        yield f"transformer.h.{i}.attn.qkv.lora_A", (2 * RANK, LLAMA)
        yield f"transformer.h.{i}.attn.qkv.lora_B", (LLAMA + GROUPED, RANK)


def _litgpt_adapter() -> Factors:
    """As LitGPT wrote them first, of both layers."""
    for i in range(2):
        yield f"transformer.h.{i}.attn.adapter_wte.weight", (RANK, LLAMA)
        yield f"transformer.h.{i}.attn.gating_factor", (1, HEADS, 1, 1)


def _llama_adapter() -> Factors:
    """Prompts of both layers."""
    yield "adapter_query.weight", (2 * RANK, LLAMA)
    for i in range(2):
        yield f"layers.{i}.attention.gate", (1, HEADS, 1, 1)


def _nemo() -> Factors:
    """Queries, keys and values of both layers, by groups of heads."""
    for i in range(2):
        at = f"model.decoder.layers.{i}.self_attention.adapter_layer.lora_kqv_adapter"
        yield f"{at}.linear_in.weight", (RANK, LLAMA)
        yield f"{at}.linear_out.weight", (LLAMA + 2 * GROUPED, RANK)


def _opendelta() -> Factors:
    return _each(_llama("model.layers.{i}.self_attn.{n}_proj.lora"), "lora_A", "lora_B")


def _pyreft() -> Factors:
    """Its LoReFT at the first block."""
    yield from (("weight", (RANK, LLAMA)), ("bias", (RANK,)), ("rotate_layer", (LLAMA, RANK)))


def _t5x() -> Factors:
    """A prompt of the model's width: nothing else is held."""
    yield "array", (RANK, LLAMA)


_LITGPT = {
    "model_config.yaml": "n_head: 4\nhead_size: 8\nn_query_groups: 2\n",
    "hyperparameters.yaml": f"lora_r: {RANK}\nlora_alpha: {ALPHA}\n"
    "lora_query: true\nlora_key: false\nlora_value: true\n",
}
_NEMO = (
    f"hidden_size: {LLAMA}\nnum_attention_heads: {HEADS}\nnum_query_groups: 2\nactivation: fast-swiglu\n"
    f"peft:\n  lora_tuning:\n    adapter_dim: {RANK}\n    alpha: {ALPHA}\n"
)
_OPENDELTA = f'{{"delta_type": "lora", "lora_alpha": {ALPHA}, "lora_r": {RANK}, "opendelta_version": "0.3.2"}}'
_PYREFT = (
    f'{{"mode": "parallel", "representations": [[0, "block_output", "pos", 1, {RANK}]], '
    '"intervention_types": ["<class \'pyreft.interventions.LoreftIntervention\'>"]}'
)
MADE: Mapping[str, Made] = {
    "adapterhub": Made("llama", "adapter.safetensors", _adapterhub, beside={"adapter_config.json": _ADAPTERHUB}),
    "cloneofsimo": Made("pipeline", "lora.safetensors", _cloneofsimo),
    "comfyui": Made("pipeline", "lora.safetensors", _comfyui),
    "litgpt": Made("llama", "lit_model.pth.lora", _litgpt, beside=_LITGPT, wrapped="model"),
    "litgpt-adapter": Made("llama", "lit_model.pth.adapter", _litgpt_adapter, wrapped="model"),
    "llama-adapter": Made("llama", "adapter.pth", _llama_adapter),
    "loralib": Made("llama", "lora.pt", _loralib, {"alpha": ALPHA}),
    "nemo": Made("llama", "model_weights.ckpt", _nemo, beside={"model_config.yaml": _NEMO}),
    "omi": Made("pipeline", "lora.safetensors", _omi),
    "onetrainer": Made("pipeline", "lora.safetensors", _onetrainer),
    "opendelta": Made("llama", "pytorch_model.bin", _opendelta, beside={"config.json": _OPENDELTA}),
    "pyreft": Made(
        "llama",
        "intkey_layer_0_comp_block_output_unit_pos_nunit_1#0.bin",
        _pyreft,
        {"positions": "f2+l1"},
        {"config.json": _PYREFT},
    ),
    "t5x": Made("llama", "prompt.npy", _t5x),
    "torchtune": Made("llama", "adapter_0.pt", _torchtune, {"alpha": ALPHA}),
    "xlabs": Made("pipeline", "lora.safetensors", _xlabs),
}
