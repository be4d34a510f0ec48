"""QA-LoRA, and whatever else is one number for each row and group, merged into zero points that are floats."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import adaptr
from adaptr.adapter import Adapter, Target
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.reading import whole
from packed_bases import PATHS, exact, lora

#: Inputs that have one zero point in the references.
GROUP = 64
#: As large as a trained adapter beside the weights, far below a step of four bits.
USUAL = 0.0075


@pytest.fixture
def base(shared: Path) -> Path:
    return shared / "quant-refs" / "hqq"


def qalora(base: Path, group: int = GROUP, size: float = USUAL, rows: int | None = None) -> Adapter:
    """Of a size relative to the weights; only the first `rows` of each change."""
    plain = lora(open_checkpoint(base), size)
    tensors, targets = dict(plain.tensors), {}
    for path, target in plain.targets.items():
        A, B = tensors[f"{path}:A"], tensors[f"{path}:B"]
        pooled = A.unflatten(1, (-1, group)).mean(-1)
        B *= (B @ A).norm() / (B @ pooled.repeat_interleave(group, 1)).norm()
        B[rows or len(B) :] = 0
        tensors[f"{path}:A"] = pooled
        targets[path] = Target(path, target.kind, target.shape, {**target.config, "group": group})
    return Adapter("qalora", {}, targets, tensors)


def as_lora(adapter: Adapter, group: int = GROUP) -> Adapter:
    """The same, said by a method that knows of no groups."""
    tensors = {k: v.repeat_interleave(group, 1) if k.endswith(":A") else v for k, v in adapter.tensors.items()}
    targets = {path: Target(path, one.kind, one.shape, {"r": 4, "alpha": 4}) for path, one in adapter.targets.items()}
    return Adapter("lora", {}, targets, tensors)


def moved(base: Path, out: Path) -> set[str]:
    """The roles of the stored tensors that are other ones."""
    before, after = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    return {name.rpartition(".")[2] for name in before if not torch.equal(before[name], after[name])}


def require_undone(base: Path, folder: Path) -> None:
    adaptr.unmerge(folder / "out", folder / "back")
    for name in ("model.safetensors", "config.json"):
        assert (folder / "back" / name).read_bytes() == (base / name).read_bytes()


@pytest.mark.parametrize("group", [GROUP, 2 * GROUP])
def test_zero_points_move_and_no_code_does(base: Path, tmp_path: Path, group: int) -> None:
    adapter = qalora(base, group)
    report = adaptr.merge(base, adapter, tmp_path / "out", packed=True)
    assert moved(base, tmp_path / "out") == {"zero"}
    assert report.packed is not None
    assert report.packed.scheme == "hqq-zeros"
    assert report.packed.survived == pytest.approx(1, abs=0.01)
    assert report.packed.left < 0.1
    proof = adaptr.verify(tmp_path / "out", base, adapter)
    assert proof.exact
    assert not adaptr.verify(tmp_path / "out", base, qalora(base, group)).ok
    require_undone(base, tmp_path)


def test_a_zero_point_is_off_by_its_own_rounding(base: Path, tmp_path: Path) -> None:
    adapter, before = qalora(base), open_checkpoint(base)
    adaptr.merge(base, adapter, tmp_path / "out", packed=True)
    stored, made = load_file(base / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    for path in PATHS:
        change = exact(before, as_lora(adapter), path) - whole(before.tensors[f"{path}.weight"]).float()
        shift = change[:, ::GROUP].reshape(-1, 1) / stored[f"{path}.scale"].float()
        wanted = stored[f"{path}.zero"].float() - shift
        assert torch.allclose(made[f"{path}.zero"].float(), wanted, rtol=2**-11, atol=1e-4)


def test_what_bf16_rounds_of_zero_points_is_told(base: Path, tmp_path: Path) -> None:
    parts = load_file(base / "model.safetensors")
    for name, part in parts.items():
        parts[name] = part.bfloat16() if name.endswith((".scale", ".zero")) else part
        if name.endswith(".compute_dtype"):
            parts[name] = torch.tensor(list(b"torch.bfloat16"), dtype=torch.uint8)
    coarse = tmp_path / "base"
    coarse.mkdir()
    save_file(parts, coarse / "model.safetensors")
    (coarse / "config.json").write_bytes((base / "config.json").read_bytes())
    report = adaptr.merge(coarse, qalora(coarse), tmp_path / "out", packed=True)
    assert moved(coarse, tmp_path / "out") == {"zero"}
    assert report.packed is not None
    assert report.packed.survived == pytest.approx(0.96, abs=0.08)
    assert 0.3 < report.packed.left < 0.8
    require_undone(coarse, tmp_path)


def test_what_says_so_by_its_numbers_alone_goes_there_too(base: Path, tmp_path: Path) -> None:
    adapter = qalora(base)
    adaptr.merge(base, [as_lora(adapter), (qalora(base, 2 * GROUP), 0.5)], tmp_path / "out", packed=True)
    assert moved(base, tmp_path / "out") == {"zero"}
    require_undone(base, tmp_path)


def test_of_few_rows_the_receipt_has_no_copy_of_all_zero_points(base: Path, tmp_path: Path) -> None:
    adapter = qalora(base, rows=4)
    adaptr.merge(base, adapter, tmp_path / "out", packed=True)
    assert moved(base, tmp_path / "out") == {"zero"}
    assert adaptr.verify(tmp_path / "out", base, adapter).exact
    receipt = load_receipt(tmp_path / "out")
    assert any(name.endswith(".zero:codes") for name in receipt)
    assert not any(name.endswith(":old") for name in receipt)
    require_undone(base, tmp_path)


def load_receipt(out: Path) -> set[str]:
    from adaptr.merging import receipt

    return set(receipt.read(out).header.entries)


def test_as_floats_it_is_as_any_other(base: Path, tmp_path: Path) -> None:
    adapter = qalora(base)
    adaptr.merge(base, adapter, tmp_path / "out")
    assert not any(isinstance(open_checkpoint(tmp_path / "out").tensors[f"{p}.weight"], Packed) for p in PATHS)
    assert adaptr.verify(tmp_path / "out", base, adapter).exact
    require_undone(base, tmp_path)


@pytest.mark.parametrize("group", [GROUP // 2, 1])
def test_what_changes_inside_of_a_group_moves_codes(base: Path, tmp_path: Path, group: int) -> None:
    adapter = qalora(base, group, size=0.3)
    report = adaptr.merge(base, adapter, tmp_path / "out", packed=True)
    assert moved(base, tmp_path / "out") == {"W_q"}
    assert report.packed is not None
    assert report.packed.scheme == "hqq"
    require_undone(base, tmp_path)


@pytest.mark.parametrize(("name", "codes"), [("gptq-int4", "qweight"), ("awq", "qweight")])
def test_zero_points_that_are_whole_numbers_stay(shared: Path, tmp_path: Path, name: str, codes: str) -> None:
    base = shared / "quant-refs" / name
    adapter = qalora(base, size=0.3)
    report = adaptr.merge(base, adapter, tmp_path / "out", packed=True)
    assert moved(base, tmp_path / "out") == {codes}
    assert report.packed is not None
    assert report.packed.survived < 1
    require_undone(base, tmp_path)


def test_what_rounding_loses_of_it_can_lie_beside(base: Path, tmp_path: Path) -> None:
    report = adaptr.merge(base, qalora(base), tmp_path / "out", packed=True, compensate=4)
    assert report.packed is not None
    assert report.packed.compensation is not None
    assert report.packed.compensation.left < report.packed.left
