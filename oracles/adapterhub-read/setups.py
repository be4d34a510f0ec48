"""Set-ups of AdapterHub's library: several adapters, and the block that they are in."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import adapters
import torch
import transformers as t
from adapters import composition as over
from adapters import configuration as c
from safetensors.torch import save_file

SIZES: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5, "intermediate_size": 56,
    "max_position_embeddings": 32, "pad_token_id": 0,
}  # fmt: skip
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertModel", "BertConfig", {**SIZES, **STILL}),
    "llama": ("LlamaModel", "LlamaConfig", {**SIZES, "num_key_value_heads": 5}),
}
METHODS: dict[str, Any] = {
    "seq_bn": lambda: c.SeqBnConfig(reduction_factor=5),
    "lora": lambda: c.LoRAConfig(r=3, alpha=6),
    "ia3": lambda: c.IA3Config(),
    "prefix": lambda: c.PrefixTuningConfig(prefix_length=4, flat=True),
    "seq_bn_inv": lambda: c.SeqBnInvConfig(reduction_factor=5),
}
BLOCKS: dict[str, Callable[[], Any]] = {
    "Stack": lambda: over.Stack("a", "b"),
    "BatchSplit": lambda: over.BatchSplit("a", "b", batch_sizes=[2, 1]),
    "Parallel": lambda: over.Parallel("a", "b"),
    "Split": lambda: over.Split("a", "b", splits=[4, 5]),
    "Stack, Parallel": lambda: over.Stack("c", over.Parallel("a", "b")),
    "Stack, BatchSplit": lambda: over.Stack("c", over.BatchSplit("a", "b", batch_sizes=[1, 2])),
    "Stack, Fuse": lambda: over.Stack("c", over.Fuse("a", "b")),
    "BatchSplit of Stacks": lambda: over.BatchSplit(over.Stack("a", "c"), over.Stack("b", "a"), batch_sizes=[2, 1]),
}
#: A set-up to its block and the methods of a, b and c.
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    **{f"{block} of {m}": (block, (m, m)) for block in ("Stack", "BatchSplit", "Parallel")
       for m in ("seq_bn", "lora", "ia3", "prefix")},
    "Split of seq_bn": ("Split", ("seq_bn", "seq_bn")),
    "Stack of seq_bn and lora": ("Stack", ("seq_bn", "lora")),
    "Stack of ia3 and prefix": ("Stack", ("ia3", "prefix")),
    "Stack of seq_bn over Parallel": ("Stack, Parallel", ("seq_bn", "seq_bn", "seq_bn")),
    "Stack of seq_bn_inv over BatchSplit": ("Stack, BatchSplit", ("seq_bn", "seq_bn", "seq_bn_inv")),
    "Stack of lora over BatchSplit of prefix": ("Stack, BatchSplit", ("prefix", "prefix", "lora")),
    "Stack of seq_bn over Fuse": ("Stack, Fuse", ("seq_bn", "seq_bn", "seq_bn")),
    "BatchSplit of Stacks of lora": ("BatchSplit of Stacks", ("lora", "lora", "lora")),
}  # fmt: skip


def ids() -> torch.Tensor:
    return torch.randint(3, 50, (3, 9), generator=torch.Generator().manual_seed(3))


def output(model: Any) -> list[Any]:
    """By texts, for each of which a Parallel gives several."""
    with torch.no_grad():
        found: list[Any] = model(input_ids=ids())[0].unflatten(0, (-1, len(ids()))).tolist()
    return found


def made_in(folder: Path, shaken: Callable[..., None]) -> Iterator[dict[str, Any]]:
    for kind, (model, config, said) in MODELS.items():
        torch.manual_seed(0)
        base = getattr(t, model)._from_config(getattr(t, config)(**said), attn_implementation="eager").eval()
        shaken(base, "", 1)
        place = f"setup-{kind}"
        base.save_pretrained(folder / place)
        save_file({"input_ids": ids()}, folder / f"{place}-given.safetensors")
        case = {"base": place, "model": model, "texts": len(ids())}
        yield {**case, "name": place, "adapter": "", "outputs": output(base)}
        for number, (name, (block, methods)) in enumerate(CASES.items()):
            out = folder / f"{place}-{number}"
            try:
                outputs = saved(copy.deepcopy(base), out, block, methods, shaken)
            except Exception as error:
                print(f"{name} on {kind}: {type(error).__name__}: {str(error)[:150]}", file=sys.stderr)
                continue
            yield {**case, "name": f"{name} on {kind}", "adapter": out.name, "outputs": outputs}


def saved(made: Any, out: Path, block: str, methods: tuple[str, ...], shaken: Callable[..., None]) -> list[Any]:
    """What a set-up gives, which is written to `out`."""
    adapters.init(made)
    for seed, (one, method) in enumerate(zip("abc", methods, strict=False)):
        made.add_adapter(one, config=METHODS[method]())
        shaken(made, f".{one}.", 10 + seed)
    if "Fuse" in block:
        made.add_adapter_fusion(over.Fuse("a", "b"))
        shaken(made, ".a,b.", 20)
    setup = BLOCKS[block]()
    made.set_active_adapters(setup)
    made.eval().save_adapter_setup(str(out), setup, use_safetensors="prefix" not in methods)
    return output(made)
