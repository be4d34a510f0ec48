"""Merging into GGUF files: what comes out, what unmerging gives back, what verifying says, and what is refused."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

import adaptr
import gguf_files
from adaptr.adapter import Adapter, Target, kinds
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.reading import whole
from adaptr.errors import LossyConversion, NothingChanged, OutputExists, Unsupported, UsageError
from adaptr.format.gguf import open_header
from packed_bases import PATHS, exact, lora

FLOATS, BLOCKS = ("F32", "F16", "BF16"), ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
EPS = {"F32": 2**-23, "F16": 2**-10, "BF16": 2**-7}
EMBEDDINGS = "model.embed_tokens"


def round_trip(base: Path, adapter: Adapter, **options: Any) -> Any:
    """Merged beside the base, proven, and taken out again; the report."""
    before, out, back = base.read_bytes(), base.with_name("out.gguf"), base.with_name("back.gguf")
    report = adaptr.merge(base, adapter, out, **options)
    assert adaptr.verify(out, base, adapter).exact
    adaptr.unmerge(out, back)
    assert back.read_bytes() == before == base.read_bytes()
    assert before[: open_header(base).data] == out.read_bytes()[: open_header(base).data]
    return report


def weights(file: Path) -> dict[str, Tensor]:
    return {name: whole(stored).float() for name, stored in open_checkpoint(file).tensors.items()}


@pytest.mark.parametrize("arch", ["llama", "gemma2"])
@pytest.mark.parametrize("kind", FLOATS)
def test_floats_are_rounded_once(tmp_path: Path, kind: str, arch: str) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", kind, arch)
    before = open_checkpoint(base)
    adapter = lora(before, 0.2)
    report = round_trip(base, adapter)
    assert report.packed is None
    made = weights(tmp_path / "out.gguf")
    for path in PATHS:
        want = exact(before, adapter, path)
        assert torch.allclose(made[f"{path}.weight"], want, rtol=EPS[kind], atol=1e-6)
    assert all(torch.equal(made[name], W) for name, W in weights(base).items() if name[:-7] not in PATHS)


@pytest.mark.parametrize("arch", ["llama", "gemma2"])
@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_are_written_in_their_type_and_never_farther_off_than_the_base(
    tmp_path: Path, kind: str, arch: str
) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", kind, arch)
    before = open_checkpoint(base)
    adapter = lora(before, 0.2)
    report = round_trip(base, adapter)
    old, made = weights(base), weights(tmp_path / "out.gguf")
    square = lost = moved = 0.0
    for name in (f"{path}.weight" for path in PATHS):
        W, D = made[name], exact(before, adapter, name[:-7]) - old[name]
        off, was = ((x.reshape(-1, 32) ** 2).sum(1) for x in (W - old[name] - D, D))
        assert (off <= was * 1.0001).all()
        square, lost, moved = square + was.sum(), lost + off.sum(), moved + ((W - old[name]) * D).sum()
    assert report.packed.survived == pytest.approx(float(moved / square), rel=1e-4)
    assert report.packed.left == pytest.approx(float(lost / square) ** 0.5, rel=1e-4)
    assert report.packed.tensors.keys() == {f"{path}.weight" for path in PATHS}
    assert report.packed.tensors[f"{PATHS[0]}.weight"]["scheme"] == f"gguf-{kind.lower()}"
    assert report.receipt_bytes < base.stat().st_size


def test_large_changes_are_rounded_as_the_library_does(tmp_path: Path) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", "Q8_0")
    before = open_checkpoint(base)
    adapter = lora(before, 3.0, PATHS[1:2])
    adaptr.merge(base, adapter, tmp_path / "out.gguf")
    want = exact(before, adapter, PATHS[1]).numpy()
    code = gguf.GGMLQuantizationType.Q8_0
    want = gguf.quants.dequantize(gguf.quants.quantize(want, code), code)
    assert np.abs(weights(tmp_path / "out.gguf")[f"{PATHS[1]}.weight"].numpy() - want).max() < 1e-5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_transformers_loads_what_comes_out(tmp_path: Path, kind: str) -> None:
    import transformers

    base = gguf_files.base(tmp_path / "base.gguf", kind)
    adaptr.merge(base, lora(open_checkpoint(base), 0.2), tmp_path / "out.gguf")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="out.gguf")
    loaded: Mapping[str, Tensor] = model.state_dict()
    assert all(torch.equal(loaded[name].float(), W) for name, W in weights(tmp_path / "out.gguf").items())


def test_rows_that_do_not_change_keep_their_bytes(tmp_path: Path) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", "Q4_0")
    adapter = lora(open_checkpoint(base), 0.5, PATHS[1:2])
    B = adapter.tensors[f"{PATHS[1]}:B"].clone()
    B[1:] = 0
    adapter = adapter.replace(tensors={**adapter.tensors, f"{PATHS[1]}:B": B})
    adaptr.merge(base, adapter, tmp_path / "out.gguf")
    header = open_header(base)
    at, row = header.data + header.entries["blk.0.ffn_down.weight"].start, gguf_files.WIDTH // 32 * 18
    one, two = base.read_bytes(), (tmp_path / "out.gguf").read_bytes()
    assert one[at : at + row] != two[at : at + row]
    assert one[at + row :] == two[at + row :]
    assert one[:at] == two[:at]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_matrices_that_transformers_turns(tmp_path: Path, kind: str) -> None:
    base = gguf_files.gpt2(tmp_path / "base.gguf", kind)
    paths = {"transformer.h.0.attn.c_attn": (192, 64), "transformer.h.0.mlp.c_fc": (256, 64)}
    targets, tensors = {}, {}
    for path, (out, into) in paths.items():
        targets[path] = Target(path, kinds.layer(transposed=True), (out, into), {"r": 2, "alpha": 2, "bias": True})
        tensors |= {f"{path}:A": torch.randn(2, into), f"{path}:B": torch.randn(out, 2), f"{path}:b": torch.randn(out)}
    report = round_trip(base, Adapter("lora", {}, targets, tensors))
    old, made = weights(base), weights(tmp_path / "out.gguf")
    for path in paths:
        want = old[f"{path}.weight"] + (tensors[f"{path}:B"] @ tensors[f"{path}:A"]).T
        assert (made[f"{path}.weight"] - want).norm() < 0.01 * want.norm()
        assert torch.allclose(made[f"{path}.bias"], old[f"{path}.bias"] + tensors[f"{path}:b"])
    assert (report.packed is None) == (kind == "F32")


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_a_parameter_that_is_replaced(tmp_path: Path, kind: str) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", kind, "gemma2")
    value = {f"model.layers.0.{name}.weight": torch.randn(64, 64) for name in ("self_attn.q_proj", "mlp.up_proj")}
    value["model.norm.weight"] = torch.randn(64)
    adapter = lora(open_checkpoint(base), 0.2, PATHS[1:2])
    round_trip(base, adapter.replace(tensors={**adapter.tensors, **{f"{key}:=": v for key, v in value.items()}}))
    made = weights(tmp_path / "out.gguf")
    assert all((made[key] - v).norm() < 0.01 * v.norm() for key, v in value.items())


def test_tied_embeddings_change_together(tmp_path: Path) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", "Q8_0")
    adapter = lora(open_checkpoint(base), 0.2, (EMBEDDINGS,))
    target = Target(EMBEDDINGS, kinds.layer(transposed=True), (64, 32), {"r": 4, "alpha": 4})
    A, B = (adapter.tensors[f"{EMBEDDINGS}:{factor}"] for factor in "AB")
    adapter = adapter.replace(targets={EMBEDDINGS: target}, tensors={f"{EMBEDDINGS}:A": B.T, f"{EMBEDDINGS}:B": A.T})
    with pytest.raises(Unsupported, match=r"lm_head\.weight.*would be a tensor"):
        adaptr.merge(base, adapter, tmp_path / "untied.gguf", tied="untie")
    round_trip(base, adapter, tied="both")


@pytest.mark.parametrize("packed", [False, True])
def test_types_that_are_only_read_become_q8_0(shared: Path, tmp_path: Path, packed: bool) -> None:
    base = shared / "quant-refs" / "gguf-q4_k" / "model.gguf"
    adapter, out = lora(open_checkpoint(base), 0.02), tmp_path / "out.gguf"
    report = adaptr.merge(base, adapter, out, packed=packed)
    note = "3 weights are Q8_0 now, as Q4_K can only be read: 111 kB became 209 kB"
    assert report.notes == [note]
    assert report.packed is not None
    assert report.packed.survived > 0.99
    was, now = open_header(base).entries, open_header(out).entries
    changed = {name for name, entry in now.items() if entry.dtype != was[name].dtype}
    assert changed == {f"blk.0.{layer}.weight" for layer in ("attn_q", "ffn_down", "ffn_gate")}
    gguf.GGUFReader(out)
    assert adaptr.verify(out, base, adapter).exact
    adaptr.unmerge(out, tmp_path / "back.gguf")
    assert (tmp_path / "back.gguf").read_bytes() == base.read_bytes()


def test_the_same_bytes_every_time_and_other_names_of_files(tmp_path: Path) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", "Q8_0")
    adapter = lora(open_checkpoint(base), 0.2)
    for name in ("one.gguf", "two.gguf"):
        adaptr.merge(base, adapter, tmp_path / name)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()
    receipts = [(tmp_path / f"{name}.gguf.adaptr" / "receipt.safetensors").read_bytes() for name in ("one", "two")]
    assert receipts[0] == receipts[1]
    for end in ("", ".adaptr"):
        (tmp_path / f"one.gguf{end}").rename(tmp_path / f"other.gguf{end}")
    adaptr.unmerge(tmp_path / "other.gguf", tmp_path / "back.gguf")
    assert (tmp_path / "back.gguf").read_bytes() == base.read_bytes()
    adaptr.merge(base, adapter, tmp_path / "bare.gguf", receipt=False)
    assert (tmp_path / "bare.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


def test_what_hardly_survives_is_refused(tmp_path: Path) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", "Q4_0")
    adapter = lora(open_checkpoint(base), 0.01)
    with pytest.raises(LossyConversion, match=r"gguf-q4_0.*`adaptr convert --to gguf`"):
        adaptr.merge(base, adapter, tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["base.gguf"]
    report = round_trip(base, lora(open_checkpoint(base), 0.03), packed=True, compensate=8)
    assert report.packed.survived < 0.5
    assert report.packed.compensation.left < 0.1
    adapter = lora(open_checkpoint(base), 0.03)
    adaptr.merge(base, adapter, tmp_path / "lossy.gguf", lossy=True)


def test_nothing_is_merged_where_nothing_would_change(tmp_path: Path) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", "Q4_0")
    with pytest.raises(NothingChanged):
        adaptr.merge(base, lora(open_checkpoint(base), 1e-5), tmp_path / "out.gguf", lossy=True)


def test_what_a_header_can_not_say_is_refused(tmp_path: Path) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", "Q8_0")
    adapter = lora(open_checkpoint(base), 0.2)
    more = adapter.replace(tensors={**adapter.tensors, f"{EMBEDDINGS}.weight:=": torch.randn(40, 64)})
    with pytest.raises(Unsupported, match=r"embed_tokens\.weight.*another size"):
        adaptr.merge(base, more, tmp_path / "out.gguf", tied="both")
    more = adapter.replace(tensors={**adapter.tensors, "score.weight:=": torch.randn(2, 64)})
    with pytest.raises(Unsupported, match=r"score\.weight.*has no room"):
        adaptr.merge(base, more, tmp_path / "out.gguf")


def spread(base: Path, between: bytes) -> None:
    """The file with bytes before its last tensor."""
    header, raw = open_header(base), bytearray(base.read_bytes())
    name, entry = max(header.entries.items(), key=lambda item: item[1].start)
    struct.pack_into("<Q", raw, header.places[name] + 4, entry.start + len(between))
    raw[header.data + entry.start : header.data + entry.start] = between
    base.write_bytes(raw)


@pytest.mark.parametrize("where", ["between", "behind"])
def test_bytes_that_are_of_no_tensor_are_refused(tmp_path: Path, where: str) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", "Q8_0")
    if where == "between":
        spread(base, b"more" * 8)
    else:
        base.write_bytes(base.read_bytes() + b"more")
    with pytest.raises(Unsupported, match="more than the tensors"):
        adaptr.merge(base, lora(open_checkpoint(base), 0.2), tmp_path / "out.gguf")


def test_zeros_between_tensors_come_back(tmp_path: Path) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", "Q8_0")
    spread(base, bytes(64))
    round_trip(base, lora(open_checkpoint(base), 0.2))


@pytest.mark.parametrize("behind", [0, 5])
def test_zeros_behind_the_last_tensor_come_back(tmp_path: Path, behind: int) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", "Q8_0")
    header = open_header(base)
    end = header.data + max(entry.stop for entry in header.entries.values())
    base.write_bytes(base.read_bytes()[:end] + bytes(behind))
    round_trip(base, lora(open_checkpoint(base), 0.2))


def test_a_file_stays_of_its_format(tmp_path: Path) -> None:
    base = gguf_files.base(tmp_path / "base.gguf", "Q8_0")
    adapter = lora(open_checkpoint(base), 0.2)
    for name in ("out", "out.safetensors"):
        with pytest.raises(UsageError, match=r"say `-o .*out\.gguf`"):
            adaptr.merge(base, adapter, tmp_path / name)
    with pytest.raises(OutputExists):
        adaptr.merge(base, adapter, base, force=True)
    adaptr.merge(base, adapter, tmp_path / "out.gguf")
    with pytest.raises(UsageError, match=r"say `-o .*back\.gguf`"):
        adaptr.unmerge(tmp_path / "out.gguf", tmp_path / "back")
