"""A LoRA with a head of every kind, as AdapterHub's library writes them, and what these give. theirs.py FOLDER"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adapters
import cases
import torch
import transformers as t
from adapterhub_bases import BASES
from safetensors.torch import save_file
from torch import Tensor, nn

ENCODERS = ("bert", "roberta", "xlm-roberta", "albert", "electra", "distilbert", "deberta-v2")
TURNED = {"bert": "tanh", "albert": "tanh", "roberta": "tanh", "xlm-roberta": "tanh", "electra": "gelu",
          "distilbert": "relu", "deberta-v2": "gelu"}  # fmt: skip
WORDS = ("causal_lm", "masked_lm", "seq2seq_lm")
Case = tuple[str, str, dict[str, Any]]


def every() -> Iterator[Case]:
    """(base, how the class of transformers ends, the head's configuration)"""
    texts, pooled = {"head_type": "classification", "num_labels": 3, "layers": 2}, {"layers": 1, "use_pooler": True}
    tags, spans = (
        {"head_type": "tagging", "num_labels": 4, "layers": 1},
        {"head_type": "question_answering", "layers": 1},
    )
    words = {"layers": 2, "layer_norm": True, "bias": True}
    for base in ENCODERS:
        own = {**texts, "activation_function": TURNED[base]}
        yield base, "ForSequenceClassification", own
        yield base, "ForMultipleChoice", {**own, "head_type": "multiple_choice", "num_choices": 2, "num_labels": None}
        yield base, "ForTokenClassification", tags
        yield base, "ForQuestionAnswering", spans
        gelu = "gelu_new" if base == "albert" else "gelu"
        yield base, "ForMaskedLM", {"head_type": "masked_lm", "activation_function": gelu, **words}
    for base in ("bert", "albert"):
        yield base, "ForSequenceClassification", {**texts, **pooled}
        yield base, "ForMultipleChoice", {**texts, **pooled, "head_type": "multiple_choice", "num_choices": 2,
                                          "num_labels": None}  # fmt: skip
    yield "roberta", "ForMultipleChoice", {**pooled, "head_type": "multiple_choice", "num_choices": 2}
    yield "bert", "ForSequenceClassification", {**texts, **pooled, "head_type": "multilabel_classification"}
    yield "roberta", "ForSequenceClassification", {**texts, "activation_function": "tanh", "bias": False}
    causal = {"head_type": "causal_lm", "activation_function": "gelu", **words}
    yield "bert, apart", "LMHeadModel", causal
    yield "bert, apart", "ForMaskedLM", {**causal, "head_type": "masked_lm"}
    yield "bert-generation", "Decoder", {"head_type": "causal_lm", "layers": 1, "bias": True}
    for base in ("gpt2", "gptj", "llama", "mistral"):
        lm = "LMHeadModel" if base == "gpt2" else "ForCausalLM"
        yield base, "ForSequenceClassification", {**texts, "layers": 1}
        yield base, "ForSequenceClassification", {**texts, "layers": 1, "bias": False}
        yield base, "ForQuestionAnswering", spans
        if base != "gptj":
            yield base, "ForTokenClassification", tags
        yield base, lm, {"head_type": "causal_lm", "layers": 1, "bias": base in ("gptj", "mistral")}
    for base in ("bart", "mbart", "plbart", "t5", "mt5"):
        yield base, "ForSequenceClassification", {**texts, "activation_function": "tanh"}
        yield base, "ForConditionalGeneration", {"head_type": "seq2seq_lm", "layers": 1, "bias": base == "mbart"}
        if base != "plbart":
            yield base, "ForQuestionAnswering", spans
    yield "whisper", "ForConditionalGeneration", {"head_type": "seq2seq_lm", "layers": 1}
    for base in ("vit", "beit"):
        yield base, "ForImageClassification", {"head_type": "image_classification", "num_labels": 3, "layers": 1}


def given(base: str, kind: str) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(3)
    if base in ("vit", "beit"):
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=draw)}
    ids = torch.randint(3, 50, (2, 2, 7) if kind == "multiple_choice" else (2, 7), generator=draw)
    ids[..., -1] = 2
    first = {"input_features": torch.randn(2, 8, 16, generator=draw)} if base == "whisper" else {"input_ids": ids}
    two = kind == "seq2seq_lm"
    return {**first, **({"decoder_input_ids": ids[:, :5].contiguous()} if two else {})}


def shaken(model: nn.Module, part: str, seed: int, but: frozenset[int] = frozenset()) -> None:
    """Values away from where they start, of the parameters with `part` in their names."""
    draw = torch.Generator().manual_seed(seed)
    for name, value in sorted(model.named_parameters()):
        if part in name and id(value) not in but:
            norm = value.ndim == 1 and name.endswith("weight")
            value.data = float(norm) + 0.25 * torch.randn(value.shape, generator=draw)


def answers(out: Any) -> list[Any]:
    both = [out[name] for name in ("start_logits", "end_logits") if name in out]
    found: list[Any] = (torch.stack(both) if both else out.logits).tolist()
    return found


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    for number, (base, ends, config) in enumerate(every()):
        begins, plain, said = BASES[base]
        place = folder / base
        if not place.exists():
            torch.manual_seed(0)
            body = getattr(t, begins + plain)._from_config(getattr(t, f"{begins}Config")(**said)).eval()
            shaken(body, "", 1)
            body.save_pretrained(place)
        model = getattr(adapters, f"{begins}AdapterModel").from_pretrained(place, attn_implementation="eager").eval()
        model.add_adapter("a", config=adapters.LoRAConfig(r=3, alpha=6))
        body = frozenset(map(id, model.base_model.parameters()))
        own = {name: value for name, value in config.items() if value is not None}
        model.add_prediction_head_from_config("a", own)
        shaken(model, "loras.a.", 7)
        shaken(model, "heads.a.", 20 + number, body)
        out, name = f"a{number}", f"{config['head_type']} of {begins}{ends}, {number}"
        inputs = given(base, str(config["head_type"]))
        save_file(inputs, folder / f"{out}-given.safetensors")
        case = {"base": out, "body": base, "model": begins + ends, "labels": labels(config)}
        with torch.no_grad():
            yield {**case, "name": f"{name}, the head", "adapter": "", "outputs": answers(model.eval()(**inputs))}
            model.set_active_adapters("a")
            yield {**case, "name": name, "adapter": out, "outputs": answers(model(**inputs))}
        model.save_adapter(str(folder / out), "a", use_safetensors=True)


def labels(config: dict[str, Any]) -> int:
    """How many answers the last layer has, 0 for the words of a vocabulary."""
    return 0 if config["head_type"] in WORDS else config.get("num_labels") or 2


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder), "theirs.json", limit=1e-4)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]))
