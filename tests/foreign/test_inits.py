"""Adapters whose tensors alone don't say what they do: first factors taken from the base, projections of a seed, old
and new ways to store plain LoRA. PEFT's outputs are the reference.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import adaptr
from adaptr import errors as e
from peft_models import gpt2, llama, made, outputs, scrambled

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own

LLAMA = {"target_modules": ["q_proj", "up_proj"], "r": 3, "lora_alpha": 7}
GPT2 = {"target_modules": ["c_attn", "c_fc"], "r": 3, "lora_alpha": 5, "fan_in_fan_out": True}
#: Name to (model, arguments of `LoraConfig`).
CHANGED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "pissa": (llama, {**LLAMA, "init_lora_weights": "pissa"}),
    "pissa-rslora": (llama, {**LLAMA, "init_lora_weights": "pissa", "use_rslora": True}),
    "pissa-ranks": (llama, {**LLAMA, "init_lora_weights": "pissa", "rank_pattern": {"up_proj": 5}}),
    "pissa-gpt2": (gpt2, {**GPT2, "init_lora_weights": "pissa"}),
    "olora": (llama, {**LLAMA, "init_lora_weights": "olora"}),
    "olora-rslora": (llama, {**LLAMA, "init_lora_weights": "olora", "use_rslora": True}),
}


def trained(peft: Any, build: Callable[[], nn.Module], config: Any, path: Path) -> torch.Tensor:
    """A PEFT adapter with random values in `path`, the model it is for in `base` beside it; its outputs."""
    made(build).save_pretrained(path.parent / "base")
    theirs = peft.get_peft_model(made(build), config).eval()
    scrambled(theirs)
    theirs.save_pretrained(path)
    return outputs(theirs)


@pytest.mark.parametrize("name", CHANGED)
def test_what_was_trained_on_a_changed_base_is_undone_at_twice_the_rank(peft: Any, name: str, tmp_path: Path) -> None:
    build, arguments = CHANGED[name]
    want = trained(peft, build, peft.LoraConfig(**arguments), tmp_path / "a")
    model = made(build)
    with adaptr.attach(model, adaptr.load(tmp_path / "a", base=model)):
        assert gap(outputs(model), want) <= 1e-5
    adaptr.merge(tmp_path / "base", [tmp_path / "a"], tmp_path / "merged")
    assert gap(outputs(type(model).from_pretrained(tmp_path / "merged").eval()), want) <= 1e-5


def test_what_was_undone_goes_to_peft_as_plain_lora(peft: Any, tmp_path: Path) -> None:
    want = trained(peft, llama, peft.LoraConfig(**LLAMA, init_lora_weights="pissa"), tmp_path / "a")
    adaptr.convert(tmp_path / "a", tmp_path / "x.adaptr.safetensors", base=tmp_path / "base")
    adaptr.convert(tmp_path / "x.adaptr.safetensors", tmp_path / "back", to="peft")
    assert json.loads((tmp_path / "back" / "adapter_config.json").read_text())["r"] == 6
    assert gap(outputs(peft.PeftModel.from_pretrained(made(llama), tmp_path / "back").eval()), want) <= 1e-5


def started(peft: Any, init: str, model: Any, **arguments: Any) -> Any:
    """PEFT's configuration for an initialisation, which may look at the model first."""
    ids = torch.tensor([[5, 7, 11, 2, 9, 3]])
    config = peft.LoraConfig(**LLAMA, init_lora_weights=init, **arguments)
    if init == "corda":
        config.corda_config = peft.tuners.lora.config.CordaConfig()
        from peft.tuners.lora.corda import preprocess_corda

        preprocess_corda(model, config, run_model=torch.no_grad()(lambda: model(ids)))
    if init == "lora_ga":
        config.lora_ga_config = peft.tuners.lora.config.LoraGAConfig()
        peft.preprocess_loraga(model, config, lambda: model(ids, labels=ids).loss.backward())
    return config


@pytest.mark.parametrize("arguments", [{}, {"use_rslora": True}, {"alpha_pattern": {"up_proj": 3}}])
@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora", "corda", "lora_ga"])
def test_what_peft_has_converted_is_plain_lora(peft: Any, init: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    """By `path_initial_model_for_weight_conversion`; before, only the base says what the first two do."""
    model = made(llama)
    theirs = peft.get_peft_model(model, started(peft, init, model, **arguments)).eval()
    begun = theirs.peft_config["default"]
    begun.init_lora_weights = True
    theirs.save_pretrained(tmp_path / "begun")
    begun.init_lora_weights = init
    scrambled(theirs)
    theirs.save_pretrained(tmp_path / "raw")
    theirs.save_pretrained(tmp_path / "a", path_initial_model_for_weight_conversion=str(tmp_path / "begun"))
    model = made(llama)
    with adaptr.attach(model, adaptr.load(tmp_path / "a")):
        assert gap(outputs(model), outputs(theirs)) <= 1e-5
    with pytest.raises(e.Unsupported, match=f"trained on a base that `{init}` changed first"):
        adaptr.load(tmp_path / "raw")


@pytest.mark.parametrize("init", ["eva", "orthogonal", "mica", "gaussian", False])
def test_a_start_that_leaves_the_base_as_it_is(peft: Any, init: Any, tmp_path: Path) -> None:
    want = trained(peft, llama, peft.LoraConfig(**{**LLAMA, "r": 4}, init_lora_weights=init), tmp_path / "a")
    model = made(llama)
    with adaptr.attach(model, adaptr.load(tmp_path / "a")):
        assert gap(outputs(model), want) <= 1e-5


@pytest.mark.parametrize("init", ["pissa", "olora", "pissa_niter_4"])
def test_what_only_the_base_says_is_refused_without_it(peft: Any, init: str, tmp_path: Path) -> None:
    trained(peft, llama, peft.LoraConfig(**LLAMA, init_lora_weights=init), tmp_path / "a")
    with pytest.raises(e.Unsupported, match=init):
        adaptr.load(tmp_path / "a")


@pytest.mark.parametrize(
    "given", [{"init_lora_weights": "pissa_niter_4"}, {"use_dora": True}, {"alora_invocation_tokens": [3]}]
)
def test_what_no_base_says_is_refused(peft: Any, given: dict[str, Any], tmp_path: Path) -> None:
    trained(peft, llama, peft.LoraConfig(**{**LLAMA, "init_lora_weights": "pissa", **given}), tmp_path / "a")
    with pytest.raises(e.Unsupported, match="pissa"):
        adaptr.load(tmp_path / "a", base=tmp_path / "base")


@pytest.mark.parametrize("build", [llama, gpt2])
def test_vera_without_its_projections(peft: Any, build: Any, tmp_path: Path) -> None:
    modules = ["q_proj", "down_proj"] if build is llama else ["c_attn"]
    config = peft.VeraConfig(target_modules=modules, r=5, save_projection=False, projection_prng_key=7)
    want = trained(peft, build, config, tmp_path / "a")
    model = made(build)
    with adaptr.attach(model, adaptr.load(tmp_path / "a", base=model)):
        assert gap(outputs(model), want) <= 1e-5
    adaptr.convert(tmp_path / "a", tmp_path / "x.adaptr.safetensors", base=tmp_path / "base")
    adaptr.convert(tmp_path / "x.adaptr.safetensors", tmp_path / "back", to="peft")
    assert gap(outputs(peft.PeftModel.from_pretrained(made(build), tmp_path / "back").eval()), want) <= 1e-5


def test_vera_of_another_rank_than_its_vectors(peft: Any, tmp_path: Path) -> None:
    """The projections would be as large as the configuration says."""
    trained(peft, llama, peft.VeraConfig(target_modules=["q_proj"], r=5, save_projection=False), tmp_path / "a")
    change(tmp_path / "a", r=2**40)
    with pytest.raises(e.ConfigConflict, match="rank"):
        adaptr.load(tmp_path / "a", base=tmp_path / "base")


def test_velora_has_the_forward_of_lora(peft: Any, tmp_path: Path) -> None:
    from peft.tuners.lora.config import VeloraConfig

    config = peft.LoraConfig(target_modules=["q_proj"], r=3, velora_config=VeloraConfig(num_groups=4))
    want = trained(peft, llama, config, tmp_path / "a")
    model = made(llama)
    with adaptr.attach(model, adaptr.load(tmp_path / "a")):
        assert gap(outputs(model), want) <= 1e-5
    adaptr.convert(tmp_path / "a", tmp_path / "x.adaptr.safetensors")
    adaptr.convert(tmp_path / "x.adaptr.safetensors", tmp_path / "back", to="peft")
    assert gap(outputs(peft.PeftModel.from_pretrained(made(llama), tmp_path / "back").eval()), want) <= 1e-5


@pytest.mark.parametrize("enabled", [[True, False, True], [True, True, True], [False, True, False]])
def test_fused_layers_of_old_versions(peft: Any, enabled: list[bool], tmp_path: Path) -> None:
    """`enable_lora`, as loralib's MergedLinear computes it: a convolution of groups, zeros between."""
    model, r, scale = made(gpt2), 2, 4 / 2
    torch.manual_seed(2)
    tensors, deltas, k = {}, [], sum(enabled)
    for n in range(2):
        A, B = torch.randn(r * k, 32) * 0.3, torch.randn(k * 32, r, 1) * 0.3
        path = f"base_model.model.transformer.h.{n}.attn.c_attn"
        tensors |= {f"{path}.lora_A.weight": A, f"{path}.lora_B.weight": B}
        grouped = torch.nn.functional.conv1d(A[None], B, groups=k)[0]
        delta = torch.zeros(3, 32, 32)
        delta[torch.tensor(enabled)] = grouped.view(k, 32, 32)
        deltas.append(delta.flatten(0, 1) * scale)
    config = {"r": r, "lora_alpha": 4, "target_modules": ["c_attn"], "enable_lora": enabled, "fan_in_fan_out": True}
    folder(tmp_path / "a", {"peft_type": "LORA", **config}, tensors)
    adapter = adaptr.load(tmp_path / "a")
    for n, want in enumerate(deltas):
        torch.testing.assert_close(adapter[f"transformer.h.{n}.attn.c_attn"].dense(), want)
    adaptr.convert(tmp_path / "a", tmp_path / "x.adaptr.safetensors")
    adaptr.convert(tmp_path / "x.adaptr.safetensors", tmp_path / "back", to="peft")
    with adaptr.attach(model, adapter):
        want = outputs(model)
    assert gap(outputs(peft.PeftModel.from_pretrained(made(gpt2), tmp_path / "back").eval()), want) <= 1e-5


@pytest.mark.parametrize("enabled", [[False], [1, 0], "yes", []])
def test_parts_that_are_none(enabled: Any, tmp_path: Path) -> None:
    path = "base_model.model.c_attn"
    tensors = {f"{path}.lora_A.weight": torch.ones(2, 6), f"{path}.lora_B.weight": torch.ones(4, 2, 1)}
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["c_attn"], "enable_lora": enabled}
    with pytest.raises(e.ConfigConflict, match="enable_lora"):
        adaptr.load(folder(tmp_path / "a", config, tensors))


def test_a_head_that_is_called_like_a_tensor_of_lora(tmp_path: Path) -> None:
    tensors = plain() | {"base_model.model.lora_head.dense.weight": torch.ones(4, 6)}
    adapter = adaptr.load(folder(tmp_path / "a", {**PLAIN, "modules_to_save": ["lora_head"]}, tensors))
    assert adapter.replaced_paths == ["lora_head.dense.weight"]


def test_a_stray_tensor_in_such_a_head(tmp_path: Path) -> None:
    tensors = plain() | {"base_model.model.lora_head.lora_mean": torch.ones(4)}
    with pytest.raises(e.TensorUnknown, match="lora_mean"):
        adaptr.load(folder(tmp_path / "a", {**PLAIN, "modules_to_save": ["lora_head"]}, tensors))


@pytest.mark.parametrize("name", ["", "default."])
def test_lora_inside_a_module_that_is_saved_whole(name: str, tmp_path: Path) -> None:
    """Its own copy of the base's weight is in the file as well; it is one adapter, not several."""
    at = f"base_model.model.classifier.modules_to_save.{name}"
    tensors = plain() | {
        f"{at}base_layer.weight": torch.full((5, 6), 2.0),
        f"{at}base_layer.bias": torch.zeros(5),
        f"{at}lora_A.{name}weight": torch.ones(4, 6),
        f"{at}lora_B.{name}weight": torch.ones(5, 4),
    }
    adapter = adaptr.load(folder(tmp_path / "a", {**PLAIN, "modules_to_save": ["classifier"]}, tensors))
    assert sorted(adapter.targets) == ["classifier", "layers.0.q_proj"]
    assert sorted(adapter.replaced_paths) == ["classifier.bias", "classifier.weight"]


def test_two_modules_under_one_that_is_saved_whole_are_two_adapters(tmp_path: Path) -> None:
    at = "base_model.model.classifier.modules_to_save"
    tensors = plain() | {f"{at}.one.weight": torch.ones(5, 6), f"{at}.two.weight": torch.ones(5, 6)}
    with pytest.raises(e.ConfigConflict, match="several adapters"):
        adaptr.load(folder(tmp_path / "a", {**PLAIN, "modules_to_save": ["classifier"]}, tensors))


def test_every_type_of_peft_is_known_by_name(peft: Any) -> None:
    from adaptr.foreign.peft import listed, types

    read = {kind.peft for kind in types.builtin()}
    assert {kind.value for kind in peft.PeftType} <= listed.PEFT | read


def qwen3_moe() -> nn.Module:
    config = transformers.Qwen3MoeConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        intermediate_size=48, moe_intermediate_size=12, num_experts=4, num_experts_per_tok=2, initializer_range=0.2,
    )  # fmt: skip
    return transformers.Qwen3MoeForCausalLM(config)


@pytest.mark.parametrize(
    "targets", [{"target_modules": ["q_proj", "gate"]}, {"target_parameters": ["mlp.gate.weight"]}]
)
def test_the_router_of_experts_is_merged(peft: Any, targets: dict[str, Any], tmp_path: Path) -> None:
    want = trained(peft, qwen3_moe, peft.LoraConfig(r=3, **{"target_modules": [], **targets}), tmp_path / "a")
    adaptr.merge(tmp_path / "base", [tmp_path / "a"], tmp_path / "merged")
    assert gap(outputs(transformers.Qwen3MoeForCausalLM.from_pretrained(tmp_path / "merged").eval()), want) <= 1e-5


# ---------------------------------------------------------------- what the tests share

PLAIN = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}


def plain() -> dict[str, torch.Tensor]:
    path = "base_model.model.layers.0.q_proj"
    return {f"{path}.lora_A.weight": torch.ones(4, 6), f"{path}.lora_B.weight": torch.ones(10, 4)}


def folder(path: Path, config: Any, tensors: dict[str, torch.Tensor]) -> Path:
    path.mkdir()
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


def change(path: Path, **fields: Any) -> None:
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, **fields}))


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())
