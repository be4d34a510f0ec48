"""Inserted modules of the `adapters` library and what models give with them. theirs.py FOLDER"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adapters
import cases
import torch
import transformers as t
from adapters import configuration as c
from safetensors.torch import save_file
from torch import Tensor, nn

SIZES: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 5, "hidden_size": 40, "intermediate_size": 56}
TEXT: dict[str, Any] = {"vocab_size": 50, "max_position_embeddings": 32}
T5: dict[str, Any] = {"d_model": 40, "d_kv": 8, "d_ff": 56, "num_layers": 2, "num_heads": 5, "vocab_size": 50}
MODELS: dict[str, Any] = {
    "bert": lambda: t.BertModel(t.BertConfig(**SIZES, **TEXT)),
    "distilbert": lambda: t.DistilBertModel(t.DistilBertConfig(**TEXT, dim=40, hidden_dim=56, n_layers=2, n_heads=5)),
    "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(vocab_size=50, n_embd=40, n_layer=2, n_head=5, n_positions=32)),
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SIZES, **TEXT)),
    "t5": lambda: t.T5ForConditionalGeneration(t.T5Config(**T5, decoder_start_token_id=0)),
    "vit": lambda: t.ViTModel(t.ViTConfig(**SIZES, image_size=16, patch_size=8)),
}
#: Method of adaptr to a configuration of theirs.
METHODS: dict[str, Any] = {
    "houlsby": lambda: c.DoubleSeqBnConfig(reduction_factor=8),
    "pfeiffer": lambda: c.SeqBnConfig(reduction_factor=8),
    "parallel": lambda: c.ParBnConfig(reduction_factor=8),
    "compacter": lambda: c.CompacterConfig(reduction_factor=5, phm_dim=4),
    # its own Compacter++ reads the sum with the residual, as its Pfeiffer adapters do, and the paper's does not
    "compacter-pp": lambda: c.CompacterConfig(reduction_factor=5, phm_dim=4, mh_adapter=False),
    "phm": lambda: c.CompacterConfig(reduction_factor=5, phm_dim=4, shared_phm_rule=False, factorized_phm_W=False),
    "loreft": lambda: c.LoReftConfig(r=2, prefix_positions=2, suffix_positions=1, tied_weights=True, dropout=0.0),
    "noreft": lambda: c.NoReftConfig(r=2, prefix_positions=2, suffix_positions=1, dropout=0.0),
}
PLACES = {"mh_adapter": "attn_out", "output_adapter": "ffn_out", "output_reft": "block_out"}


def given(name: str) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(3)
    if name == "vit":
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=draw)}
    ids = {"input_ids": torch.randint(3, 50, (2, 9), generator=draw)}
    if name == "t5":
        ids["decoder_input_ids"] = torch.randint(3, 50, (2, 6), generator=draw)
    return ids


def shaken(model: nn.Module, part: str, seed: int) -> None:
    """Values away from where they start, of the parameters with `part` in their names; of a basis there are some."""
    draw = torch.Generator().manual_seed(seed)
    for name, value in sorted(model.named_parameters()):
        if part in name and not name.endswith(".original"):
            value.data = (value.ndim == 1 and name.endswith("weight")) + 0.25 * torch.randn(value.shape, generator=draw)


def tensors(kind: str, module: Any, rule: Tensor | None) -> dict[str, Tensor]:
    """By adaptr's names."""
    if kind == "output_reft":
        found = {}
        for unit, end in zip(module.units, ("", "_s"), strict=False):
            named = {"R": unit.projection.weight, "W": unit.learned_source.weight, "b": unit.learned_source.bias}
            found |= {f"{name}{end}": value for name, value in named.items()}
        return found
    found = {}
    for side, layer in (("d", module.adapter_down[0]), ("u", module.adapter_up)):
        if isinstance(layer, nn.Linear):
            found |= {side.upper(): layer.weight, f"b_{side}": layer.bias}
        elif rule is not None:
            found |= {f"s_{side}": layer.W_left, f"t_{side}": layer.W_right, f"b_{side}": layer.b, "A": rule}
        else:
            found |= {f"A_{side}": layer.phm_rule, f"B_{side}": layer.W, f"b_{side}": layer.b}
    return found


def saved(model: Any, file: Path) -> None:
    """The adapter's tensors by place, number of the layer and name."""
    layers = model.get_adapter("a")
    rule = layers.pop(-1)["shared"]["phm_rule"] if -1 in layers else None
    found = {
        f"{PLACES[kind]}.{number}.{name}": value.detach().contiguous().clone()
        for number, places in layers.items()
        for kind, module in places.items()
        for name, value in tensors(kind, module, rule).items()
    }
    save_file(found, file)


def output(model: Any, name: str) -> list[Any]:
    with torch.no_grad():
        found: list[Any] = model(**given(name))[0].tolist()
    return found


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    for name, make in MODELS.items():
        torch.manual_seed(0)
        base = make().eval()
        shaken(base, "", 1)
        base.save_pretrained(folder / name)
        save_file(given(name), folder / f"{name}-given.safetensors")
        yield {"name": name, "base": name, "adapter": "", "outputs": output(base, name)}
        for number, (method, config) in enumerate(METHODS.items()):
            model = copy.deepcopy(base)
            adapters.init(model)
            model.add_adapter("a", config=config())
            shaken(model, ".a.", 10 + number)
            for shared in getattr(model.base_model, "shared_parameters", {}).values():
                shaken(nn.ParameterDict(shared), "", 5)
            model.set_active_adapters("a")
            file = folder / f"{name}-{method}.safetensors"
            saved(model.eval(), file)
            case = {"name": f"{method} on {name}", "base": name, "adapter": file.name, "method": method}
            yield {**case, "outputs": output(model, name)}


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder), "theirs.json", limit=1e-4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
