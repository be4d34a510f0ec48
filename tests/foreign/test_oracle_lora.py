"""PEFT 0.21 as the oracle of what its LORA is beside LoRA: other factors, scales and beginnings. On layers with grouped
heads, Conv1D, biases and tables; everything that learns is away from where it starts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import adaptr
from adaptr import errors as e
from adaptr.testing import assert_close, shaken
from peft_models import bert, gap, gpt2, llama, made, outputs, read_and_written_back, scrambled, written_and_read_back

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own
WIDE = ["q_proj", "k_proj", "down_proj"]
CONV1D = {"target_modules": ["c_attn"], "fan_in_fan_out": True}


def config(peft: Any, **said: Any) -> Any:
    inner = peft.tuners.lora.config
    kinds = {"velora_config": inner.VeloraConfig, "kasa_config": inner.KasaConfig, "use_bdlora": inner.BdLoraConfig}
    return peft.LoraConfig(**{name: kinds[name](**v) if name in kinds else v for name, v in said.items()})


#: Name to (model, the method that it is read as, arguments of `LoraConfig`).
FROM_PEFT: Mapping[str, tuple[Callable[[], nn.Module], str, dict[str, Any]]] = {
    "llama-rslora": (llama, "lora", {"target_modules": WIDE, "r": 3, "use_rslora": True}),
    "llama-mica": (llama, "mica", {"target_modules": WIDE, "r": 3, "lora_alpha": 7, "init_lora_weights": "mica"}),
    "llama-mica-tables": (llama, "mica", {"target_modules": ["embed_tokens"], "r": 3, "init_lora_weights": "mica"}),
    "gpt2-mica": (gpt2, "mica", {**CONV1D, "r": 3, "init_lora_weights": "mica"}),
    "llama-kasa": (
        llama,
        "kasa",
        {"target_modules": WIDE, "r": 3, "lora_alpha": 7, "rank_pattern": {"k_proj": 2}, "kasa_config": {"beta": 0.5}},
    ),
    "bert-kasa": (bert, "kasa", {"target_modules": ["query", "output.dense"], "r": 3, "kasa_config": {}}),
    "llama-velora": (
        llama,
        "velora",
        {"target_modules": WIDE, "r": 3, "velora_config": {"num_groups": 4, "scale": 0.5, "init_type": "random"}},
    ),
    "bert-velora": (bert, "velora", {"target_modules": ["query"], "r": 3, "velora_config": {"num_groups": 5}}),
    "llama-bd-lora": (
        llama,
        "bd-lora",
        {
            "target_modules": [*WIDE, "o_proj"],
            "r": 4,
            "use_bdlora": {
                "target_modules_bd_a": ["down_proj"],
                "target_modules_bd_b": ["q_proj", "k_proj"],
                "nblocks": 2,
                "match_strict": False,
            },
        },
    ),
}
#: Name to (model, method, arguments of `create`).
FROM_ADAPTR: Mapping[str, tuple[Callable[[], nn.Module], str, dict[str, Any]]] = {
    "llama-rslora": (llama, "rslora", {"targets": "all-linear", "r": 4}),
    "llama-lora-plus": (llama, "lora-plus", {"targets": ["all-linear", "embed"], "r": 4}),
    "gpt2-lora-fa": (gpt2, "lora-fa", {"targets": "all-linear", "r": 4, "bias": True}),
    "llama-pissa": (llama, "pissa", {"targets": "all-linear", "r": 4, "alpha": 3.0, "rslora": True}),
    "gpt2-pissa": (gpt2, "pissa", {"targets": "all-linear", "r": 4, "rounds": 2, "bias": True}),
    "gpt2-olora": (gpt2, "olora", {"targets": "all-linear", "r": 4, "overrides": {"*.0.*": {"r": 2}}}),
    "llama-eva": (llama, "eva", {"targets": "all-linear", "r": 4, "rho": 1.5}),
    "gpt2-corda": (gpt2, "corda", {"targets": "all-linear", "r": 4, "bias": True}),
    "llama-lora-ga": (llama, "lora-ga", {"targets": "all-linear", "r": 4, "alpha": 3.0}),
    "gpt2-mica": (gpt2, "mica", {"targets": ["all-linear", "embed"], "r": 4, "rslora": True}),
    "bert-kasa": (bert, "kasa", {"targets": "all-linear", "r": 4}),
    "bert-velora": (bert, "velora", {"targets": "all-linear", "groups": 4, "init": "random"}),
    "llama-bd-lora": (llama, "bd-lora", {"targets": "all-linear", "r": 4}),
    "llama-qalora": (llama, "qalora", {"targets": "all-linear", "r": 4, "group": 8}),
}


@pytest.mark.parametrize("name", FROM_PEFT)
def test_what_peft_wrote(peft: Any, name: str, tmp_path: Path) -> None:
    build, method, said = FROM_PEFT[name]
    read_and_written_back(
        SimpleNamespace(**vars(peft), Made=lambda **s: config(peft, **s)), build, "Made", said, tmp_path
    )
    assert adaptr.load(tmp_path / "peft", base=made(build)).method == method


@pytest.mark.parametrize("name", FROM_PEFT)
def test_what_peft_wrote_is_written_again_to_the_same_numbers(peft: Any, name: str, tmp_path: Path) -> None:
    build, _, said = FROM_PEFT[name]
    theirs = peft.get_peft_model(made(build), config(peft, **said))
    scrambled(theirs)
    theirs.save_pretrained(tmp_path / "peft")
    adaptr.convert(tmp_path / "peft", tmp_path / "a.adaptr.safetensors", base=made(build))
    adaptr.convert(tmp_path / "a.adaptr.safetensors", tmp_path / "back", to="peft")
    was, now = (load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("peft", "back"))
    assert was.keys() == now.keys()
    assert all(was[key].dtype == now[key].dtype and torch.equal(was[key], now[key]) for key in was)
    was, now = (json.loads((tmp_path / folder / "adapter_config.json").read_text()) for folder in ("peft", "back"))
    assert was == now


@pytest.mark.parametrize("name", FROM_ADAPTR)
def test_what_adaptr_wrote(peft: Any, name: str, tmp_path: Path) -> None:
    written_and_read_back(peft, *FROM_ADAPTR[name], tmp_path)


def test_qa_lora_on_a_base_of_gptq_is_peft_s_in_scale_and_groups(peft: Any, tmp_path: Path) -> None:
    """Its own class for it works on packed layers alone; what it computes is asked of its formula."""
    model = made(llama)
    adapter = shaken(adaptr.create(model, "qalora", ["attn.q", "mlp.down"], r=3, alpha=5.0, group=4), by=0.2)
    adapter = adapter.replace(base=adaptr.adapter.Base(quantization="gptq"))
    adaptr.save(adapter, tmp_path / "a.adaptr.safetensors")
    adaptr.convert(tmp_path / "a.adaptr.safetensors", tmp_path / "peft", to="peft")
    said = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert (said["use_qalora"], said["qalora_group_size"]) == (True, 4)
    tensors = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    back = adaptr.load(tmp_path / "peft")
    assert back.method == "qalora"
    for path, target in adapter.targets.items():
        width = target.shape[1]
        alpha = next(
            (v for key, v in said["alpha_pattern"].items() if re.fullmatch(rf"(.*\.)?({key})", path)),
            said["lora_alpha"],
        )
        A, B = (tensors[f"base_model.model.{path}.lora_{name}.weight"] for name in "AB")
        held = {name: {"default": SimpleNamespace(weight=tensor)} for name, tensor in (("lora_A", A), ("lora_B", B))}
        own = {"lora_dropout": {"default": nn.Identity()}, "scaling": {"default": alpha / 3}}
        layer = SimpleNamespace(**held, **own, qalora_group_size={"default": 4}, training=False, in_features=width)
        x = torch.randn(5, width)
        wanted = peft.tuners.lora.variants.QALoraLinearVariant.forward(layer, "default", x, torch.zeros(5, B.shape[0]))
        for one in (adapter, back):
            assert_close(x @ one[path].dense().mT, wanted)
    adaptr.convert(tmp_path / "peft", tmp_path / "b.adaptr.safetensors")
    adaptr.convert(tmp_path / "b.adaptr.safetensors", tmp_path / "again", to="peft")
    again = load_file(tmp_path / "again" / "adapter_model.safetensors")
    assert all(torch.equal(tensor, again[key]) for key, tensor in tensors.items())
    assert json.loads((tmp_path / "again" / "adapter_config.json").read_text()) == said


def test_kasa_is_refused_without_the_base_that_it_was_trained_on(peft: Any, tmp_path: Path) -> None:
    theirs = peft.get_peft_model(made(llama), config(peft, **FROM_PEFT["llama-kasa"][2]))
    theirs.save_pretrained(tmp_path / "peft")
    with pytest.raises(e.Unsupported, match="smallest singular values"):
        adaptr.load(tmp_path / "peft")


@pytest.mark.parametrize("sides", [{"target_modules_bd_a": ["proj"], "target_modules_bd_b": ["q_"]}, {}])
def test_blocks_in_both_factors_or_none_are_refused_as_peft_does(sides: Any, peft: Any, tmp_path: Path) -> None:
    said = {"target_modules_bd_b": ["q_proj"], "nblocks": 2}
    theirs = peft.get_peft_model(made(llama), config(peft, target_modules=["q_proj"], r=4, use_bdlora=said))
    theirs.save_pretrained(tmp_path / "a")
    place = tmp_path / "a" / "adapter_config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "use_bdlora": {**sides, "nblocks": 2}}))
    with pytest.raises(e.ConfigConflict, match="both factors" if sides else "none"):
        adaptr.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("method", "said"), [("kasa", {"beta": 1.0}), ("bd-lora", {"blocks": 4}), ("velora", {"c": 2.0})]
)
def test_what_peft_has_once_is_refused_where_targets_differ(method: str, said: dict[str, Any], tmp_path: Path) -> None:
    adapter = adaptr.create(made(llama), method, r=4, overrides={"*.0.*": said})
    adaptr.save(adapter, tmp_path / "a.safetensors")
    with pytest.raises(e.Unsupported, match="one for all targets"):
        adaptr.convert(tmp_path / "a.safetensors", tmp_path / "peft", to="peft")


def test_pissa_goes_to_peft_at_twice_the_rank_and_changes_nothing_at_first(peft: Any, tmp_path: Path) -> None:
    adaptr.save(adaptr.create(made(llama), "pissa", r=3), tmp_path / "a.safetensors")
    report = adaptr.convert(tmp_path / "a.safetensors", tmp_path / "peft", to="peft")
    assert report.notes[0].startswith("PEFT's files don't say how `pissa` is trained")
    said = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert (said["r"], said["lora_alpha"]) == (6, 6.0)
    theirs = peft.PeftModel.from_pretrained(made(llama), tmp_path / "peft").eval()
    assert gap(outputs(theirs), outputs(made(llama))) <= 1e-6
