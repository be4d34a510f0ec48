"""torchtune's LoRA and DoRA: what its models compute, on a base of transformers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import adaptr
import tiny
from adaptr import errors as e
from adaptr import foreign

CASES = ("lora_qv", "lora_all", "dora_qkv")


@pytest.fixture(scope="module")
def model(shared: Path) -> Any:
    from transformers import AutoModelForCausalLM

    base = shared / "formats-refs" / "llama" / "base"
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def factors(name: str, r: int = 2, into: int = 6, out: int = 4) -> dict[str, Tensor]:
    return {f"{name}.lora_a.weight": torch.randn(r, into), f"{name}.lora_b.weight": torch.randn(out, r)}


def saved(folder: Path, tensors: dict[str, Tensor], name: str = "adapter_0.pt") -> Path:
    torch.save(tensors, folder / name)
    return folder / name


@pytest.mark.parametrize("case", CASES)
def test_a_file_of_torchtune_does_what_it_does_there(case: str, model: Any, shared: Path) -> None:
    folder = shared / "formats-refs" / "torchtune" / case
    want = load_file(folder / "expected.safetensors")
    found = adaptr.load(adaptr.source(folder / "adapter_0.pt", alpha=7), model)
    with torch.no_grad():
        bare = model(want["input_ids"]).logits
        with adaptr.attach(model, found):
            logits = model(want["input_ids"]).logits
    assert float((want["logits"] - bare).abs().max()) > 1
    torch.testing.assert_close(logits, want["logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["lora_qv", "lora_all"])
def test_it_is_what_torchtune_itself_exports(case: str, model: Any, shared: Path, tmp_path: Path) -> None:
    """Of plain LoRA, bit for bit; its export of DoRA leaves magnitudes of queries and keys as they were."""
    folder = shared / "formats-refs" / "torchtune" / case
    adaptr.convert(adaptr.source(folder / "adapter_0.pt", alpha=7), tmp_path / "out", to="peft", base=model)
    ours, theirs = (load_file(place / "adapter_model.safetensors") for place in (tmp_path / "out", folder / "peft"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_rows_that_go_by_no_head_need_no_base(tmp_path: Path) -> None:
    tensors = factors("layers.1.attn.v_proj") | factors("layers.0.mlp.w3") | factors("output")
    found = adaptr.load(adaptr.source(saved(tmp_path, tensors), scale=2.0))
    assert list(found.targets) == ["lm_head", "model.layers.0.mlp.up_proj", "model.layers.1.self_attn.v_proj"]
    with pytest.raises(e.ConfigMissing, match=r"order that goes by the model's heads.*`base=`"):
        adaptr.load(adaptr.source(saved(tmp_path, factors("layers.0.attn.k_proj")), scale=2.0))


def test_the_alpha_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(e.ConfigMissing, match=r"alpha of the adapter.*`--alpha`.*recipe's configuration"):
        adaptr.load(saved(tmp_path, factors("output")))


def test_rows_of_a_model_that_torchtune_does_not_turn_stay(tmp_path: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = Qwen2ForCausalLM(
        Qwen2Config(hidden_size=16, intermediate_size=8, num_hidden_layers=1, vocab_size=8, **heads)
    )
    tensors = factors("layers.0.attn.q_proj", into=16, out=16)
    found = adaptr.load(adaptr.source(saved(tmp_path, tensors), alpha=2), model)
    assert torch.equal(
        found.tensors["model.layers.0.self_attn.q_proj:B"], tensors["layers.0.attn.q_proj.lora_b.weight"]
    )


def test_a_model_whose_rows_are_not_known_is_refused(tmp_path: Path) -> None:
    model = tiny.model("llama")
    model.config.model_type = "other"
    path = "model.layers.0.self_attn.q_proj"
    out, into = model.get_submodule(path).weight.shape
    file = saved(tmp_path, factors("layers.0.attn.q_proj", 2, into, out))
    with pytest.raises(e.Unsupported, match=r"type `other`.*it knows llama"):
        adaptr.load(adaptr.source(file, alpha=2), model)


@pytest.mark.parametrize(
    ("tensors", "error", "match"),
    [
        (factors("decoder.layers.0.attn.q_proj"), e.TensorUnknown, "on a model like Llama"),
        (factors("layers.0.attn.qkv"), e.TensorUnknown, "on a model like Llama"),
        (factors("output") | {"output.bias": torch.ones(4)}, e.TensorUnknown, "`output.bias`"),
        (factors("layers.0.mlp.w1") | factors("layers.00.mlp.w1"), e.ConfigConflict, "are one tensor"),
        ({"output.lora_a.weight": torch.ones(2, 6)}, e.TensorAbsent, "no `lora_up"),
    ],
)
def test_what_is_no_such_file_is_refused(
    tensors: dict[str, Tensor], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(adaptr.source(saved(tmp_path, tensors), alpha=2))


def test_an_export_beside_it_is_the_one_that_is_read(shared: Path, tmp_path: Path) -> None:
    place = shutil.copytree(shared / "formats-refs" / "torchtune" / "lora_qv" / "peft", tmp_path / "epoch_0")
    shutil.copy(shared / "formats-refs" / "torchtune" / "lora_qv" / "adapter_0.pt", place / "adapter_model.pt")
    assert foreign.of(place).name == "peft"
