"""LoRA that begins with factors of the base: what PEFT converts, and what is to be said where it did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adaptr
from adaptr import errors as e
from adaptr.format.digest import of_file
from foreign.test_inits import LLAMA, change, gap
from peft_models import IDS, llama, made, outputs, scrambled

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own


def corda(peft: Any, model: nn.Module, config: Any) -> None:
    from peft.tuners.lora.corda import preprocess_corda

    preprocess_corda(model, config, run_model=lambda: [model(IDS[:1]) for _ in range(4)])


def lora_ga(peft: Any, model: nn.Module, config: Any) -> None:
    from peft.tuners.lora.loraga import preprocess_loraga

    preprocess_loraga(model, config, lambda: model(IDS, labels=IDS).loss.backward())


def nothing(peft: Any, model: nn.Module, config: Any) -> None: ...


#: Initialisations that change the base, and what PEFT does with data first.
PREPARED: dict[str, Any] = {
    "pissa": nothing, "pissa_niter_4": nothing, "olora": nothing, "corda": corda, "lora_ga": lora_ga,
}  # fmt: skip


def prepared(peft: Any, init: str) -> Any:
    """A PEFT model that begins so."""
    from peft.tuners.lora.config import CordaConfig, LoraGAConfig

    model, config = made(llama), peft.LoraConfig(**LLAMA, init_lora_weights=init)
    config.corda_config = CordaConfig() if init == "corda" else None
    config.lora_ga_config = LoraGAConfig() if init == "lora_ga" else None
    PREPARED[init](peft, model, config)
    return peft.get_peft_model(model, config).eval()


@pytest.mark.parametrize("init", PREPARED)
def test_what_peft_converted_where_it_was_trained_is_plain_lora(peft: Any, init: str, tmp_path: Path) -> None:
    theirs = prepared(peft, init)
    theirs.peft_config["default"].init_lora_weights = True  # as PEFT's documentation wants it
    theirs.save_pretrained(tmp_path / "initial")
    theirs.peft_config["default"].init_lora_weights = init
    scrambled(theirs)
    want, model = outputs(theirs), made(llama)
    theirs.save_pretrained(tmp_path / "a", path_initial_model_for_weight_conversion=tmp_path / "initial")
    with adaptr.attach(model, adaptr.load(tmp_path / "a")):
        assert gap(outputs(model), want) <= 1e-5


@pytest.mark.parametrize("init", PREPARED)
def test_with_the_adapter_before_training_it_is_right_on_the_base(peft: Any, init: str, tmp_path: Path) -> None:
    theirs = prepared(peft, init)
    theirs.save_pretrained(tmp_path / "initial")
    scrambled(theirs)
    want, model = outputs(theirs), made(llama)
    theirs.save_pretrained(tmp_path / "a")
    given = adaptr.source(tmp_path / "a", initial=tmp_path / "initial")
    with adaptr.attach(model, given):
        assert gap(outputs(model), want) <= 1e-5
    report = adaptr.convert(given, tmp_path / "a.safetensors")
    (parent,) = adaptr.load(report.out).lineage["parents"]
    assert parent["supplied"] == {"initial": of_file(tmp_path / "initial" / "adapter_model.safetensors")}
    change(tmp_path / "initial", lora_alpha=5)
    with pytest.raises(e.ConfigConflict, match="`lora_alpha` differs"):
        adaptr.load(given)
    change(tmp_path / "a", init_lora_weights=True)
    with pytest.raises(e.UsageError, match="`--initial` is given, and by its `init_lora_weights` its base was not"):
        adaptr.load(given)


@pytest.mark.parametrize("init", ["corda", "lora_ga"])
def test_what_data_changed_of_the_base_is_refused_with_the_way_on(peft: Any, init: str, tmp_path: Path) -> None:
    theirs, model = prepared(peft, init), made(llama)
    model.save_pretrained(tmp_path / "base")
    theirs.save_pretrained(tmp_path / "a")
    with pytest.raises(e.Unsupported, match=f"{init}.*path_initial_model_for_weight_conversion"):
        adaptr.load(tmp_path / "a", base=tmp_path / "base")


@pytest.mark.parametrize("init", PREPARED)
def test_on_the_changed_base_itself_it_is_plain_lora_once_that_is_said(peft: Any, init: str, tmp_path: Path) -> None:
    theirs = prepared(peft, init)
    scrambled(theirs)
    want = outputs(theirs)
    theirs.save_pretrained(tmp_path / "a")
    change(tmp_path / "a", init_lora_weights=True)
    model = theirs.unload()
    with adaptr.attach(model, adaptr.load(tmp_path / "a")):
        assert gap(outputs(model), want) <= 1e-5


def test_eva_leaves_the_base_and_gives_each_layer_its_rank(peft: Any, tmp_path: Path) -> None:
    from peft.tuners.lora.config import EvaConfig
    from peft.tuners.lora.eva import initialize_lora_eva_weights

    config = peft.LoraConfig(**LLAMA, init_lora_weights="eva", eva_config=EvaConfig())
    theirs = peft.get_peft_model(made(llama), config)
    initialize_lora_eva_weights(theirs, [{"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}] * 8)
    scrambled(theirs.eval())
    theirs.save_pretrained(tmp_path / "a")
    model, adapter = made(llama), adaptr.load(tmp_path / "a")
    with adaptr.attach(model, adapter):
        assert gap(outputs(model), outputs(theirs)) <= 1e-5
    assert sum(target.config["r"] for target in adapter.targets.values()) == 12
