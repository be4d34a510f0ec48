"""LoRAs that begin with what batches show: EVA, CorDA and LoRA-GA, against the formulas and PEFT's own."""

from __future__ import annotations

import copy
from typing import Any

import peft
import pytest
import torch
from peft.tuners.lora.config import CordaConfig, EvaConfig, LoraGAConfig
from peft.tuners.lora.corda import preprocess_corda
from torch import Tensor

import adaptr
import peft_models
from adaptr.errors import BadConfig
from adaptr.testing import assert_close
from methods.layers import PATHS, Layers, inputs

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's own
IDS = torch.tensor([[5, 7, 11, 2, 9, 3, 4, 8, 1, 6, 10, 12]])


def begun(method: str, runs: int = 2, **config: Any) -> tuple[adaptr.Adapter, list[Tensor]]:
    """An adapter that has looked at batches, and these."""
    model, batches = Layers(), [inputs(40) * (n + 1) for n in range(runs)]
    with adaptr.train(model, adaptr.create(model, method, list(PATHS), **config)) as session:
        session.prepare([lambda x=x: (model(x).square().mean(), None) for x in batches])  # type: ignore[misc]
        return session.adapted(), batches


def given(path: str, batches: list[Tensor]) -> list[Tensor]:
    """What a layer gets, (tokens, in), a batch each."""
    model, seen = Layers(), []
    hook = model.get_submodule(path).register_forward_pre_hook(lambda _, x: seen.append(x[0].flatten(0, -2)))
    with torch.no_grad():
        for x in batches:
            model(x)
    hook.remove()
    return seen


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("runs", [1, 3])
def test_eva_begins_with_the_principal_components_of_all_that_a_layer_is_given(path: str, runs: int) -> None:
    adapter, batches = begun("eva", runs, r=3, rho=1.0)
    X = torch.cat(given(path, batches)).double()
    wanted = torch.linalg.svd(X - X.mean(0), full_matrices=False).Vh[: int(adapter.at(path)["A"].any(1).sum())]
    A = adapter.at(path)["A"].double()[: len(wanted)]
    if runs == 1:  # later ones are learnt of what was kept of the earlier
        assert_close(A.mT @ A, wanted.mT @ wanted, 1e-4)
    assert_close(A @ A.mT, torch.eye(len(A), dtype=A.dtype), 1e-5)
    assert not adapter.at(path)["B"].any()


def test_eva_gives_ranks_to_what_explains_most_and_keeps_the_scale() -> None:
    model = Layers()
    with adaptr.train(model, adaptr.create(model, "eva", list(PATHS), r=3, alpha=6.0, rho=2.0)) as session:
        session.prepare([lambda: (model(inputs(40)).square().mean(), None)])
        ranks = {path: int(session.adapted().at(path)["A"].any(1).sum()) for path in PATHS}
        for parameter in session.parameters():
            parameter.data += 0.1 * parameter.data.any(1, keepdim=True) if len(parameter) == 6 else 0.0
        before = session.adapted()
        after = session.finish()
    assert sum(ranks.values()) == 6
    for path, rank in ranks.items():
        assert (after.targets[path].config["r"], after.targets[path].config["alpha"]) == (rank, 2.0 * rank)
        assert after.at(path)["A"].shape[0] == rank
        assert_close(after[path].dense(), before[path].dense())


def test_eva_leaves_out_what_got_no_rank() -> None:
    model = Layers()
    adapter = adaptr.create(model, "eva", list(PATHS), r=1, rho=1.0)
    adapter.tensors["turned:A"].zero_()  # type: ignore[attr-defined]
    with adaptr.train(model, adapter) as session:
        assert session.finish().targets.keys() == {"wide"}


def test_eva_finds_what_peft_s_finds() -> None:
    model = peft_models.made(peft_models.llama)
    config = peft.LoraConfig(
        r=5, target_modules=["q_proj"], init_lora_weights="eva", eva_config=EvaConfig(rho=1.0), task_type="CAUSAL_LM"
    )
    theirs = peft.get_peft_model(copy.deepcopy(model), config, low_cpu_mem_usage=True)
    batches = [{"input_ids": IDS, "attention_mask": torch.tensor([[1] * 9 + [0] * 3])}]
    peft.initialize_lora_eva_weights(theirs, batches, show_progress_bar=False)
    adapter = adaptr.create(model, "eva", ["attn.q"], r=5, rho=1.0)
    with adaptr.train(model, adapter) as session:
        session.prepare([lambda: (model(**batches[0]).logits.mean(), None)])
        for path in adapter.targets:
            A = theirs.base_model.model.get_submodule(path).lora_A["default"].weight
            found = session.adapted().at(path)["A"]
            assert_close(found.mT @ found, A.mT @ A, 1e-4)


@pytest.mark.parametrize("keep", ["ipm", "kpm"])
@pytest.mark.parametrize("path", PATHS)
def test_corda_takes_out_what_the_inputs_need_most_or_least(path: str, keep: str) -> None:
    adapter, batches = begun("corda", 3, r=2, alpha=3.0, keep=keep)
    each = [x.double() / x.max().abs().double() for x in given(path, batches)]
    C = sum(x.mT @ x for x in each) / 3
    W = Layers().weight(path).double()
    C = C + torch.eye(len(C)) * C.diagonal().mean() * 0.01
    U, S, Vh = torch.linalg.svd(W @ C, full_matrices=False)
    part = slice(2) if keep == "ipm" else slice(-2, None)
    p = {name: tensor.double() for name, tensor in adapter.at(path).items()}
    assert_close(1.5 * p["B0"] @ p["A0"], U[:, part] * S[part] @ Vh[part] @ torch.linalg.inv(C), 1e-4)
    assert torch.equal(p["A"], p["A0"])
    assert torch.equal(p["B"], p["B0"])


def gradient(path: str, batches: list[Tensor]) -> Tensor:
    """The mean gradient of a weight (out, in)."""
    model = Layers().requires_grad_(True)
    for x in batches:
        (model(x).square().mean() / len(batches)).backward()
    found = model.get_submodule(path).weight.grad
    assert isinstance(found, Tensor)
    return found if path == "wide" else found.mT


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("direction", ["ArB2r", "A2rBr", "ArBr"])
def test_lora_ga_begins_with_the_gradient_s_directions(path: str, direction: str) -> None:
    adapter, batches = begun("lora-ga", 2, r=2, alpha=3.0, direction=direction, size="unit")
    U, S, Vh = torch.linalg.svd(gradient(path, batches).double(), full_matrices=False)
    of_A, of_B = {"ArB2r": ([0, 1], [2, 3]), "A2rBr": ([2, 3], [0, 1]), "ArBr": ([1, 3], [0, 2])}[direction]
    p = {name: tensor.double() for name, tensor in adapter.at(path).items()}
    assert_close((p["A0"] @ Vh[of_A].mT).abs(), torch.eye(2), 1e-3)
    assert_close((p["B0"].mT @ U[:, of_B]).abs(), torch.diag(S[of_B]), 1e-3)


@pytest.mark.parametrize("method", ["eva", "corda", "lora-ga"])
def test_looking_at_data_changes_nothing_that_the_model_does(method: str) -> None:
    adapter, _ = begun(method, r=2)
    model = Layers()
    with torch.no_grad():
        before = model(inputs())
        with adaptr.attach(model, adapter):
            assert_close(model(inputs()), before)


@pytest.mark.parametrize("said", [{}, {"alpha": 7}, {"use_rslora": True}])
@pytest.mark.parametrize("method", ["corda", "lora-ga"])
def test_peft_begins_with_the_same(method: str, said: dict[str, Any]) -> None:
    model = peft_models.made(peft_models.llama)
    config = peft.LoraConfig(
        r=3, lora_alpha=said.get("alpha", 3), target_modules=["q_proj", "down_proj"],
        init_lora_weights=method.replace("-", "_"), use_rslora=said.get("use_rslora", False),
    )  # fmt: skip
    theirs: Any = copy.deepcopy(model)
    if method == "corda":
        config.corda_config = CordaConfig(corda_method="ipm")
        preprocess_corda(theirs, config, run_model=torch.no_grad()(lambda: theirs(IDS)))
    else:
        config.lora_ga_config = LoraGAConfig()
        peft.preprocess_loraga(theirs, config, lambda: theirs(IDS, labels=IDS).loss.backward())
    theirs = peft.get_peft_model(theirs, config)
    own = {"alpha": float(said.get("alpha", 3)), "rslora": said.get("use_rslora", False)}
    adapter = adaptr.create(model, method, ["attn.q", "mlp.down"], r=3, **own)
    with adaptr.train(model, adapter) as session:
        session.prepare([lambda: (model(IDS, labels=IDS).loss, None)])
        for path in adapter.targets:
            layer = theirs.base_model.model.get_submodule(path)
            p = session.adapted().at(path)
            wanted, found = (B.abs() @ A.abs() for B, A in (pair(layer), (p["B"], p["A"])))  # signs are left open
            assert_close(found / wanted.norm(), wanted / wanted.norm(), 1e-3)


def pair(layer: Any) -> tuple[Tensor, Tensor]:
    return layer.lora_B["default"].weight.detach(), layer.lora_A["default"].weight.detach()


def test_lora_ga_of_a_rank_that_the_gradient_has_not_twice_is_refused() -> None:
    with pytest.raises(BadConfig, match="half of the gradient"):
        adaptr.create(Layers(), "lora-ga", "wide", r=5)
