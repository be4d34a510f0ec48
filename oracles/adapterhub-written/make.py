"""Adapters as adaptr writes them for AdapterHub's library, and what adaptr computes with them. make.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cases
import others
import torch
import transformers as t
from safetensors.torch import save_file

import adaptr
from adaptr.testing.samples import shaken

IDS = [[5, 7, 40, 33, 12, 44, 21, 36, 42, 9, 13]]
SIZES = {"vocab_size": 50, "hidden_size": 40, "num_hidden_layers": 3, "intermediate_size": 56}
SHORT = {"max_position_embeddings": 32, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LLAMA = {**SIZES, "num_attention_heads": 5, "num_key_value_heads": 5, "max_position_embeddings": 32, "pad_token_id": 0}
GPT2 = {"vocab_size": 50, "n_embd": 40, "n_layer": 3, "n_head": 5, "n_positions": 32, "n_inner": 56}
MODELS: dict[str, Any] = {
    "bert": lambda: t.BertModel(t.BertConfig(**SIZES, **SHORT, num_attention_heads=5)),
    "gpt2": lambda: t.GPT2Model(t.GPT2Config(**GPT2)),
    "llama": lambda: t.LlamaModel(t.LlamaConfig(**LLAMA)),
}
#: The layers of LoRA, by model: queries and values, and what AdapterHub has besides.
FACTORS = {
    "bert": (["query", "value"], ["query", "key", "value", "intermediate.dense", "re:.*layer.\\d+.output.dense"]),
    "gpt2": (["c_attn"], ["c_attn", "c_fc", "re:.*mlp.c_proj"]),
    "llama": (["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]),
}
#: Case to the method and its configuration, on every model.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "houlsby": ("houlsby", {"m": 6, "activation": "gelu"}),
    "pfeiffer, the sum": ("pfeiffer", {"m": 8, "residual": True}),
    "pfeiffer, a norm of its own": ("pfeiffer", {"m": 7, "residual": True, "normed": True, "keeps": "read"}),
    "compacter": ("compacter", {"m": 8, "n": 4, "activation": "gelu"}),
    "compacter-pp": ("compacter-pp", {"m": 8, "n": 4, "r": 2}),
    "prefix": ("prefix", {"tokens": 4}),
    "gated lora": ("gated-lora", {"r": 3, "of": "text"}),
    "gated lora, scaled": ("gated-lora", {"r": 2, "alpha": 5.0, "scale": "alpha", "of": "text"}),
    "gated prefix": ("gated-prefix", {"tokens": 4, "of": "text"}),
    "gated prefix, two gates": ("gated-prefix", {"tokens": 4, "of": "text", "gates": 2}),
    "gated pfeiffer": ("gated-pfeiffer", {"m": 8, "of": "text", "activation": "gelu"}),
    "unipelt": ("unipelt", {"m": 5, "r": 3, "tokens": 3, "of": "text"}),
    "loreft": ("loreft", {"r": 3, "first": 2, "last": 0, "finished": True}),
    "noreft, one set for both ends": ("noreft", {"r": 3, "first": 2, "last": 2, "share_weights": True}),
}


def made(name: str) -> Any:
    """The model `name`, the same values each time, large enough that every layer is heard in the outputs."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    model.set_attn_implementation("eager")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.15)
    return model


def adapters(name: str, model: Any) -> Iterator[tuple[str, adaptr.Adapter]]:
    few, all_of_them = FACTORS[name]
    yield "lora", adaptr.create(model, "lora", few, r=3, alpha=5.0)
    yield "lora, everything", adaptr.create(model, "lora", all_of_them, r=4, alpha=8.0)
    yield "ia3", adaptr.create(model, "ia3", few, side="out")
    if name == "llama":
        yield "dora", adaptr.create(model, "dora", all_of_them, r=3, alpha=7.0)
    if name == "bert":
        yield "prompt", adaptr.create(model, "prompt", tokens=4, place="embeddings")
        yield "prompt behind the first token", adaptr.create(model, "prompt", tokens=3, place="embeddings", ahead=1)
        yield "parallel", adaptr.create(model, "parallel", m=8, s=2.0)
        yield "mam", adaptr.create(model, "mam", m=8, tokens=3)
    if name == "gpt2":
        yield "invertible", adaptr.create(model, "invertible", ["drop"], activation="gelu")
    else:
        yield "mad-x", adaptr.create(model, "mad-x", m=6)
    for case, (method, config) in CASES.items():
        yield case, adaptr.create(model, method, **config)
    yield "adapter-fusion", fused(model)
    lower = [f"re:.*\\.?(layer|layers|h)\\.[02]\\..*{end}" for end in ("output.dropout", "mlp.dropout", "mlp")]
    places = [one for one in lower if _has(model, one)][:1]
    yield "houlsby, not in all layers", adaptr.create(model, "houlsby", places, m=5)


def fused(model: Any) -> adaptr.Adapter:
    """Over two bottlenecks that were trained."""
    from adaptr.composing import gather

    both = {n: shaken(adaptr.create(model, "pfeiffer", m=5, residual=True), seed) for seed, n in enumerate("ab")}
    return gather.over("adapter-fusion", both, model)


def finished(adapter: adaptr.Adapter) -> adaptr.Adapter:
    """An intervention as it is after its training, whose basis is orthonormal."""
    if adapter.method != "loreft":
        return adapter
    tensors = {key: torch.linalg.qr(tensor.mT).Q.mT.contiguous() if key.rpartition(":")[2] in ("R", "R_s") else tensor
               for key, tensor in adapter.tensors.items()}  # fmt: skip
    return adapter.replace(tensors=tensors)


def _has(model: Any, pattern: str) -> bool:
    try:
        return bool(adaptr.create(model, "houlsby", [pattern], m=1).targets)
    except adaptr.errors.AdaptrError:
        return False


def outputs(model: Any, given: dict[str, torch.Tensor]) -> list[Any]:
    with torch.no_grad():
        found: list[Any] = model(**given)[0][0].double().tolist()
    return found


def every() -> Iterator[tuple[str, Any, dict[str, torch.Tensor], Iterable[tuple[str, adaptr.Adapter]]]]:
    """(name, model, what it is given, adapters)"""
    for name in MODELS:
        model = made(name)
        yield name, model, {"input_ids": torch.tensor(IDS)}, adapters(name, model)
    for name in others.TYPES:
        model = others.made(name)
        yield name, model, others.given(name), others.adapters(name, model)


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    for name, model, given, mine in every():
        model.save_pretrained(folder / name)
        if name == "clip":
            others.rename(folder / name)
        save_file(given, folder / f"{name}-given.safetensors")
        yield {"name": f"{name}, the base", "base": name, "adapter": "", "outputs": outputs(model, given)}
        for number, (case, fresh) in enumerate(mine):
            adapter = finished(shaken(fresh))
            own, out = folder / f"{name}{number}.safetensors", f"{name}{number}"
            adaptr.save(adapter, own)
            adaptr.convert(own, folder / out, to="adapterhub", base=folder / name)
            with adaptr.attach(model, adapter):
                found = outputs(model, given)
            rows = {"rows": rows_of(adapter)} if adapter.method == "prompt" else {}
            yield {"name": f"{name}, {case}", "base": name, "adapter": out, "outputs": found, **rows}
    for name in others.TYPES:
        for adapter in others.refused(name, others.made(name)):
            refuse(adapter, folder / name, folder)


def refuse(adapter: adaptr.Adapter, base: Path, folder: Path) -> None:
    """Raises `AssertionError` for what is written all the same."""
    adaptr.save(adapter, folder / "refused.safetensors", force=True)
    try:
        adaptr.convert(folder / "refused.safetensors", folder / "refused", to="adapterhub", base=base)
    except adaptr.errors.Unsupported:
        return
    raise AssertionError(f"{adapter.method} on {base.name}")


def rows_of(prompt: adaptr.Adapter) -> tuple[int, int]:
    """Where its rows begin in a model, and where the text goes on."""
    return prompt.config["ahead"], prompt.config["ahead"] + prompt.config["tokens"]


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder), limit=1e-4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
