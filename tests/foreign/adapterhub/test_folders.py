"""AdapterHub's folders, as its library wrote them, do on transformers 5 what they did there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import adaptr
from adaptr import errors as e
from adaptr import foreign
from hub_folders import GATES, HEADS, MODELS, headed, loaded, there

#: Case to the method that it becomes, in each of the models that have it.
READ = {
    "compacter": "compacter",
    "compacterpp": "compacter",
    "direft": "direft",
    "double_seq_bn": "houlsby",
    "dora": "dora",
    "dvora": "dora",
    "ia3": "ia3",
    "ia3_alpha": "ia3",
    "lora": "lora",
    "lora_gate": "gated-lora",
    "lora_qkv": "lora",
    "loreft": "loreft",
    "mam": "mam",
    "noreft": "noreft",
    "par_bn": "parallel",
    "par_bn_learned": "parallel",
    "prefix": "prefix",
    "prefix_flat": "prefix",
    "seq_bn": "pfeiffer",
    "seq_bn_drop": "pfeiffer",
    "seq_bn_inv": "mad-x",
    "seq_bn_ln": "pfeiffer",
    "seq_bn_perlayer": "pfeiffer",
    "unipelt": "unipelt",
    "vera": "lora",
    "vera_cfg": "lora",
}
GATED = ("lora_gate", "unipelt")


@HEADS
@GATES
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", READ)
def test_a_folder_of_adapterhub_does_what_it_does_there(
    model: str, case: str, models: dict[str, Any], shared: Path
) -> None:
    folder, host = there(shared, model, case), models[model]
    want = load_file(folder / "expected.safetensors")
    found = loaded(folder / "bin", case, host)
    assert found.method == READ[case]
    with torch.no_grad(), adaptr.attach(host, found):
        hidden = host(input_ids=want["input_ids"], attention_mask=want["attention_mask"])[0]
    out = headed(hidden, folder / "bin", want["input_ids"], model)
    real = want["attention_mask"].bool()
    if case in GATED:  # the mean of a text's gates has its padding in it there
        real = real & real.all(1, keepdim=True)
    real = real if out.ndim == 3 else real[:, 0]
    if "base_out" in want:
        assert float((want["out"] - want["base_out"])[real].abs().max()) > 0.1
    torch.testing.assert_close(out[real], want["out"][real], atol=1e-5, rtol=0)


@HEADS
@GATES
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", READ)
def test_both_containers_hold_the_same(model: str, case: str, models: dict[str, Any], shared: Path) -> None:
    folder = there(shared, model, case)
    if not (folder / "st").exists():
        pytest.skip("AdapterHub writes one of them")
    found, other = (loaded(folder / name, case, models[model]) for name in ("bin", "st"))
    assert found.targets == other.targets
    assert all(torch.equal(tensor, other.tensors[key]) for key, tensor in found.tensors.items())


@HEADS
@GATES
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", READ)
def test_there_and_back_it_does_the_same(
    model: str, case: str, models: dict[str, Any], shared: Path, tmp_path: Path
) -> None:
    folder, host = there(shared, model, case), models[model]
    found = loaded(folder / "bin", case, host)
    if found.replaced_paths:
        with pytest.raises(e.LossyConversion, match="the whole parameter"):
            foreign.get("adapterhub").write(found, tmp_path / "out")
        return
    if case == "direft":
        with pytest.raises(e.Unsupported, match="its library reads the files of DiReFT as NoReFT"):
            foreign.get("adapterhub").write(found, tmp_path / "out")
        return
    foreign.get("adapterhub").write(found, tmp_path / "out")
    back = adaptr.load(tmp_path / "out", host)
    assert back.method == found.method
    ids = torch.arange(1, 13).view(2, 6)
    outs = []
    for one in (found, back):
        with torch.no_grad(), adaptr.attach(host, one):
            outs.append(host(input_ids=ids)[0])
    torch.testing.assert_close(outs[0], outs[1], atol=1e-5, rtol=0)
