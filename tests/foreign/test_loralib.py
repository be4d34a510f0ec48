"""loralib's LoRA: what its layers compute, and what only the code knows that trained them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import adaptr
from adaptr import errors as e
from adaptr import foreign

#: Of the reference: module to its alpha, and whether its weight is the transpose of its change.
MODULES = {
    "emb": (3.0, True), "layer.0.query": (6.0, False), "layer.0.c_attn": (5.0, False), "layer.0.fanin": (2.0, True),
}  # fmt: skip
MASK = (True, False, True)


def base() -> nn.Module:
    """What the reference was made on."""
    from transformers.pytorch_utils import Conv1D

    layer = {"query": nn.Linear(21, 28), "c_attn": nn.Linear(21, 63), "fanin": Conv1D(14, 21)}
    found = {
        "emb": nn.Embedding(30, 21),
        "layer": nn.ModuleList([nn.ModuleDict(layer)]),
        "classifier": nn.Linear(28, 3),
    }
    return nn.ModuleDict(found)


def source(path: Path, alpha: float = 6.0) -> Any:
    return adaptr.source(path, alpha=alpha, enable_lora=MASK)


def saved(place: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save(tensors, place)
    return place


def pair(path: str, r: int = 2, into: int = 4, out: int = 6, parts: int = 1) -> dict[str, Tensor]:
    return {f"{path}.lora_A": torch.randn(r * parts, into), f"{path}.lora_B": torch.randn(out, r)}


@pytest.mark.parametrize("path", MODULES)
@pytest.mark.parametrize("known", [None, base()])
def test_each_layer_changes_as_loralib_merges_it(path: str, known: nn.Module | None, shared: Path) -> None:
    folder, (alpha, turned) = shared / "formats-refs" / "loralib", MODULES[path]
    before, after = (load_file(folder / name) for name in ("base.safetensors", "expected.safetensors"))
    found = adaptr.load(source(folder / "lora_none.pt", alpha), known)
    want = after[f"{path}.weight"] - before[f"{path}.weight"]
    assert float(want.abs().max()) > 0.05
    torch.testing.assert_close(found[path].dense(), want.T if turned else want, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "whole"),
    [("none", []), ("all", ["classifier.bias", "layer.0.c_attn.bias", "layer.0.fanin.bias", "layer.0.query.bias"]),
     ("lora_only", ["layer.0.c_attn.bias", "layer.0.fanin.bias", "layer.0.query.bias"])],
)  # fmt: skip
def test_biases_come_along_as_they_are(name: str, whole: list[str], shared: Path) -> None:
    path = shared / "formats-refs" / "loralib" / f"lora_{name}.pt"
    found = adaptr.load(source(path), base())
    assert (foreign.of(path).name, sorted(found.replaced_paths)) == ("loralib", whole)
    stored = torch.load(path, weights_only=True)
    assert all(torch.equal(found.tensors[f"{key}:="], stored[key]) for key in whole)


def test_kinds_are_the_bases(shared: Path) -> None:
    found = adaptr.load(source(shared / "formats-refs" / "loralib" / "lora_none.pt"), base())
    kinds = {path: target.kind for path, target in found.targets.items()}
    assert kinds == {
        "emb": "embedding",
        "layer.0.query": "linear",
        "layer.0.c_attn": "linear",
        "layer.0.fanin": "linear_t",
    }


def test_published_factors_of_roberta_and_its_head(shared: Path) -> None:
    place = shared / "real" / "loralib-roberta-base-mnli"
    for path in (place, place / "roberta_base_lora_mnli.bin"):
        found = adaptr.load(adaptr.source(path, alpha=16))
        assert (len(found.targets), len(found.replaced_paths)) == (24, 4)
        assert {(t.config["r"], t.config["alpha"]) for t in found.targets.values()} == {(8, 16.0)}


# ---------------------------------------------------------------- what has to be said


def test_the_alpha_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(e.ConfigMissing, match=r"alpha of the adapter.*`--alpha`.*`lora_alpha` of the layers"):
        adaptr.load(saved(tmp_path / "a.pt", pair("m.q")))


def test_the_parts_of_a_fused_projection_are_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", pair("m.c_attn", parts=2))
    with pytest.raises(e.ConfigMissing, match=r"which 2 of its parts.*`--enable-lora"):
        adaptr.load(adaptr.source(path, alpha=4))
    with pytest.raises(e.ConfigConflict, match="has factors of 2 parts, wanted 1"):
        adaptr.load(adaptr.source(path, alpha=4, enable_lora=[True, False, False]))


def test_the_parts_of_a_plain_layer_are_not(tmp_path: Path) -> None:
    with pytest.raises(e.UsageError, match="no module of the file is a fused projection"):
        adaptr.load(adaptr.source(saved(tmp_path / "a.pt", pair("m.q")), alpha=4, enable_lora=MASK))


def test_one_part_alone_is_known_by_the_base(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", pair("c_attn", into=4, out=3) | pair("q", into=4, out=3))
    said = adaptr.source(path, alpha=2, enable_lora=[False, True, False])
    with pytest.raises(e.ConfigMissing, match="only the base says"):
        adaptr.load(said)
    found = adaptr.load(said, nn.ModuleDict({"c_attn": nn.Linear(4, 9), "q": nn.Linear(4, 3)}))
    assert {path: target.shape for path, target in found.targets.items()} == {"c_attn": (9, 4), "q": (3, 4)}
    change = found["c_attn"].dense()
    assert not change[:3].any()
    assert not change[6:].any()
    assert change[3:6].any()


@pytest.mark.parametrize(
    ("tensors", "error", "match"),
    [
        (pair("m.q") | {"m.q.lora_E": torch.ones(2, 1)}, e.TensorUnknown, "lora_E"),
        (pair("m.q") | {"m.q.weight": torch.ones(6, 4)}, e.Unsupported, "may have merged"),
        ({"m.q.lora_A": torch.ones(2, 4)}, e.TensorAbsent, "no `lora_B`"),
        ({"m.q.lora_A": torch.ones(3, 4), "m.q.lora_B": torch.ones(6, 2)}, e.ConfigConflict, "a multiple of 2 rows"),
    ],
)
def test_what_is_no_loralib_is_refused(
    tensors: dict[str, Tensor], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(source(saved(tmp_path / "a.pt", tensors)))


@pytest.mark.parametrize(
    "name", ["transformer.h.0.attn.qkv", "transformer.h.0.mlp.fc_1", "bert.layer.0.loras.x", "base_model.model.q"]
)
def test_names_of_other_tools_are_not_its_own(name: str, tmp_path: Path) -> None:
    assert not foreign.get("loralib").detect(saved(tmp_path / "a.pt", pair(name)))
