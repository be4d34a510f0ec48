"""What a folder of weights may look like, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import checkpoints as c
from adaptr import api
from adaptr.adapter import Target
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.parts import INDEX
from adaptr.errors import CheckpointError, InputError, LfsPointer
from adaptr.files import record

SHARD = "model-{:05d}-of-{:05d}.safetensors"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model in several files."""
    folder = c.saved("llama", tmp_path / "base", shard="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


def index(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / INDEX).read_text())["weight_map"]
    return found


def reindex(folder: Path, **changes: str) -> None:
    document = json.loads((folder / INDEX).read_text())
    document["weight_map"].update(changes)
    (folder / INDEX).write_text(json.dumps(document))


def test_shards_and_one_file_hold_the_same(tmp_path: Path, base: Path) -> None:
    whole = c.saved("llama", tmp_path / "whole")
    found, one = open_checkpoint(base), open_checkpoint(whole)
    assert set(found.tensors) == set(one.tensors) == set(index(base))
    assert found.config["model_type"] == "llama"
    assert found.nbytes == sum(p.stat().st_size for p in base.glob("*.safetensors"))
    file = open_checkpoint(whole / "model.safetensors")
    assert (file.config, file.side_files()) == ({}, {})
    assert set(file.tensors) == set(one.tensors)


def test_a_single_file_of_another_name(tmp_path: Path, base: Path) -> None:
    whole = c.saved("llama", tmp_path / "whole")
    (whole / "model.safetensors").rename(whole / "weights.safetensors")
    assert len(open_checkpoint(whole).tensors) == len(index(base))


def cached(folder: Path, model: Path, revision: str = "a1b2") -> Path:
    """The layout of the Hub's cache: blobs by digest, links to them by revision."""
    snapshot, blobs = folder / "snapshots" / revision, folder / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir(exist_ok=True)
    for path in model.iterdir():
        blob = blobs / f"{revision}{path.name}"
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return folder


def test_a_folder_of_the_hub_cache(tmp_path: Path, base: Path) -> None:
    hub = cached(tmp_path / "models--org--name", base)
    adapter = c.randomised(base)
    api.merge(hub, [adapter], tmp_path / "out")
    api.merge(base, [adapter], tmp_path / "direct")
    assert c.digests(tmp_path / "out") == c.digests(tmp_path / "direct")
    assert not any(p.is_symlink() for p in (tmp_path / "out").iterdir())
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(base)


def test_revisions_in_the_hub_cache(tmp_path: Path, base: Path) -> None:
    hub = cached(tmp_path / "models--org--name", base, "1")
    cached(hub, c.saved("gpt2", tmp_path / "other"), "2")
    with pytest.raises(CheckpointError, match="2 revisions and no `main`"):
        open_checkpoint(hub)
    (hub / "refs").mkdir()
    (hub / "refs/main").write_text("2")
    assert open_checkpoint(hub).config["model_type"] == "gpt2"
    (hub / "refs/main").write_text("3")
    with pytest.raises(InputError, match="`3`, which is not there"):
        open_checkpoint(hub)


def test_a_shard_is_missing(base: Path) -> None:
    lost = sorted(base.glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(InputError, match=lost.name):
        open_checkpoint(base)


def test_a_link_into_nothing(base: Path) -> None:
    lost = sorted(base.glob("*.safetensors"))[1]
    lost.unlink()
    lost.symlink_to("../../blobs/gone")
    with pytest.raises(InputError, match=lost.name):
        open_checkpoint(base)


def test_the_index_names_what_no_shard_holds(base: Path) -> None:
    reindex(base, ghost=next(iter(index(base).values())))
    with pytest.raises(CheckpointError, match="names `ghost`"):
        open_checkpoint(base)


@pytest.mark.parametrize("where", ["../secret.safetensors", "/etc/passwd", "deep/x.safetensors", "..", ""])
def test_the_index_never_leads_outside(base: Path, where: str) -> None:
    reindex(base, **{next(iter(index(base))): where})
    with pytest.raises(CheckpointError, match="outside its folder"):
        open_checkpoint(base)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "[1]", "{", "[" * 10**5])
def test_an_index_that_is_none(base: Path, content: str) -> None:
    (base / INDEX).write_text(content)
    with pytest.raises(CheckpointError):
        open_checkpoint(base)


def test_a_pointer_instead_of_weights(base: Path) -> None:
    shard = sorted(base.glob("*.safetensors"))[0]
    shard.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(LfsPointer, match="git lfs pull"):
        open_checkpoint(base)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.gguf"])
def test_weights_of_another_kind(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match="no safetensors weights"):
        open_checkpoint(tmp_path)


def test_neither_weights_nor_index(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=f"neither model.safetensors nor {INDEX}"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_shard_cut_short(base: Path, keep: int) -> None:
    shard = sorted(base.glob("*.safetensors"))[0]
    raw = shard.read_bytes()
    shard.write_bytes(raw[:keep])
    with pytest.raises(CheckpointError, match=shard.name):
        open_checkpoint(base)


def test_two_shards_with_one_tensor(tmp_path: Path) -> None:
    for number in (1, 2):
        c.bare(tmp_path, {"q.weight": torch.zeros(2)})
        (tmp_path / "model.safetensors").rename(tmp_path / SHARD.format(number, 2))
    names = {"q.weight": SHARD.format(1, 2), "p.weight": SHARD.format(2, 2)}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
    with pytest.raises(CheckpointError, match="same name"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("content", ["[]", "nonsense"])
def test_a_configuration_that_is_none(base: Path, content: str) -> None:
    (base / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_checkpoint(base)


def test_quantised_says_how(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(CheckpointError, match=r"packed \(gptq\), and none is"):
        open_checkpoint(base)


def test_what_travels_along(tmp_path: Path, base: Path) -> None:
    for name in ("tokenizer.json", "LICENSE", "pytorch_model.bin", "model.gguf", "consolidated.safetensors", ".hidden"):
        (base / name).write_text(name)
    (base / "original").mkdir()
    (base / "original/x").write_text("x")
    api.merge(base, [c.randomised(base)], tmp_path / "out")
    travelled = {p.name for p in (tmp_path / "out").iterdir() if p.suffix != ".safetensors"}
    assert travelled == {
        "config.json",
        INDEX,
        "generation_config.json",
        "tokenizer.json",
        "LICENSE",
        ".hidden",
        record.NAME,
        "adaptr",
    }
    assert not (tmp_path / "out/consolidated.safetensors").exists()


def test_a_header_written_unusually(tmp_path: Path) -> None:
    """Tensors out of order in the header and in the data, no padding, metadata last: legal, and kept byte for byte."""
    header = (
        b'{"p.weight":{"dtype":"F32","shape":[4,4],"data_offsets":[67,131]},"odd":{"dtype":"U8","shape":[3],'
        b'"data_offsets":[0,3]},"q.weight":{"shape":[4,4],"dtype":"F32","data_offsets":[3,67]},"__metadata__":{"a":"b"}}'
    )
    values = torch.randn(32).numpy().tobytes()
    (tmp_path / "base").mkdir()
    path = tmp_path / "base/model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"odd" + values)
    adapter = c.lora_at(Target("p", "linear", (4, 4)))
    api.merge(tmp_path / "base", [adapter], tmp_path / "out")
    out = (tmp_path / "out/model.safetensors").read_bytes()
    start = 8 + len(header)
    assert out[:start] == path.read_bytes()[:start]
    assert out[start : start + 67] == b"odd" + values[:64]
    found, before = (torch.frombuffer(bytearray(raw[-64:]), dtype=torch.float32).view(4, 4) for raw in (out, values))
    assert torch.allclose(found, before + c.delta(adapter, "p"), atol=1e-6)
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back/model.safetensors").read_bytes() == path.read_bytes()
