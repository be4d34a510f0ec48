"""Adapter files: round trips, private copies, files that change, odd tensors, odd paths."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import adaptr
from adaptr import Adapter, Target
from adaptr import errors as e
from adaptr.format import io, read, write

VALID = Path(__file__).resolve().parents[2] / "registry_spec/vectors/valid"


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copy(VALID / "minimal_lora.safetensors", tmp_path / "a.safetensors"))


def custom(tensors: dict[str, torch.Tensor]) -> Adapter:
    """An adapter of a method that nobody has, which may have any tensors."""
    targets = {key.rpartition(":")[0] for key in tensors}
    return Adapter("acme-any", {}, {path: Target(path, "linear", (1, 1)) for path in targets}, tensors)


shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)
dtypes = st.sampled_from([getattr(torch, name) for name in io.TORCH_NAMES.values()])
keys = st.builds(
    "{}:{}".format, st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), st.sampled_from("AB")
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(keys, st.tuples(shapes, dtypes), min_size=1, max_size=5))
def test_any_tensors_come_back_and_other_readers_see_the_same(tmp_path_factory, wanted):
    generator = torch.Generator().manual_seed(0)
    made = {}
    for key, (shape, dtype) in wanted.items():
        raw = torch.randint(0, 2, (*shape, dtype.itemsize), dtype=torch.uint8, generator=generator)
        made[key] = raw.view(dtype).reshape(shape) if raw.numel() else torch.empty(shape, dtype=dtype)
    folder = tmp_path_factory.mktemp("any")
    path = write(custom(made), folder / "a.safetensors")
    found, theirs = read(path).tensors, load_file(path)
    for key, tensor in made.items():
        for other in (found[key], theirs[key]):
            assert (other.dtype, other.shape) == (tensor.dtype, tensor.shape)
            assert bytes(io.raw_bytes(other)) == bytes(io.raw_bytes(tensor))
    assert write(read(path), folder / "b.safetensors").read_bytes() == path.read_bytes()
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).reshape(3, 4).t(),
        torch.arange(12.0)[::2],
        torch.tensor([1 + 2j, 3 - 1j]).conj(),
        torch.arange(4.0).expand(3, 4),
        torch.nn.Parameter(torch.ones(2)),
    ],
    ids=["transposed", "strided", "conjugate", "expanded", "parameter"],
)
def test_views_are_written_as_what_they_show(tensor, tmp_path):
    path = write(custom({"q:A": tensor}), tmp_path / "a.safetensors")
    assert torch.equal(read(path).tensors["q:A"], tensor.detach())


def test_writing_to_a_tensor_changes_neither_file_nor_adapter(copy):
    before, adapter = copy.read_bytes(), read(copy)
    key = next(iter(adapter.tensors))
    adapter.tensors[key].zero_()
    assert adapter.tensors[key].any()
    assert copy.read_bytes() == before


def test_reading_the_header_imports_neither_torch_nor_numpy(copy):
    code = "import sys; from adaptr.format import read; read(sys.argv[1]); print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code, copy], text=True) == "set()\n"


def test_a_lazy_adapter_survives_pickle(copy):
    adapter = pickle.loads(pickle.dumps(read(copy)))
    assert torch.equal(adapter.tensors["model.layers.0.self_attn.q_proj:A"].flatten()[:2], torch.tensor([1.0, 1.125]))


def test_a_file_cut_short_after_the_header_was_read_is_noticed(copy):
    adapter = read(copy)
    os.truncate(copy, copy.stat().st_size - 30)
    with pytest.raises(e.FileChanged, match="load it again"):
        dict(adapter.tensors)


def test_a_file_written_over_after_the_header_was_read_is_noticed(copy):
    adapter = read(copy)
    raw = copy.read_bytes()
    copy.write_bytes(raw[:-4] + b"\0\0\0\0")
    os.utime(copy, ns=(0, 0))
    with pytest.raises(e.FileChanged):
        dict(adapter.tensors)


def test_a_file_replaced_after_the_header_was_read_is_noticed(copy):
    adapter = read(copy)
    write(adapter.replace(name="new"), copy, force=True)
    with pytest.raises(e.FileChanged):
        dict(adapter.tensors)
    assert read(copy).name == "new"


def test_what_a_reader_would_refuse_is_not_written(tmp_path):
    adapter = read(VALID / "minimal_lora.safetensors")
    tensors = dict(adapter.tensors)
    A = tensors.pop("model.layers.0.self_attn.q_proj:A")
    for bad, error in [
        (adapter.replace(tensors=tensors), e.TensorMissing),
        (adapter.replace(tensors={**tensors, "model.layers.0.self_attn.q_proj:A": A.t()}), e.ShapeError),
        (adapter.replace(tensors={**adapter.tensors, "k" * 1100 + ":A": A}), e.KeyTooLong),
        (adapter.replace(tensors={**adapter.tensors, "no colon": A}), e.KeyMalformed),
        (adapter.replace(tensors={**adapter.tensors, "x:A": A.to(torch.complex128)}), e.DtypeUnknown),
        (adapter.replace(method="Lo RA"), e.FieldInvalid),
        (adapter.replace(requires=("telepathy",)), e.FeatureUnknown),
        (adapter.replace(version=7), e.VersionUnknown),
        (adapter.replace(training={"nested": eval("[" * 40 + "]" * 40)}), e.ManifestTooDeep),
    ]:
        with pytest.raises(error):
            write(bad, tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_extra_metadata_means_nothing(tmp_path):
    from safetensors.torch import save_file

    source = VALID / "minimal_lora.safetensors"
    adapter = read(source)
    metadata = {**adapter.tensors.header.metadata, "format": "pt"}
    save_file(dict(adapter.tensors), tmp_path / "theirs.safetensors", metadata)
    again = read(tmp_path / "theirs.safetensors")
    assert write(again, tmp_path / "ours.safetensors").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda p: None, e.InputError, "there is no file"),
        (lambda p: p.mkdir(), e.InputError, "is a folder"),
        (lambda p: os.mkfifo(p), e.InputError, "is a pipe"),
        (lambda p: p.symlink_to(p), e.InputError, "can't be read"),
    ],
    ids=["absent", "folder", "pipe", "loop"],
)
def test_what_is_no_file_is_said(make, error, says, tmp_path):
    make(tmp_path / "x")
    with pytest.raises(error, match=says):
        read(tmp_path / "x")


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
def test_impossible_paths(path):
    with pytest.raises(e.InputError, match="can't be read"):
        read(path)


def test_a_file_of_more_bits_than_torch_holds_is_read_but_not_its_tensor(tmp_path):
    import json
    import struct

    text = json.dumps({"a": {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "f4.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"1234")
    tensors = io.open_tensors(path)
    assert tensors.shape("a") == (8,)
    with pytest.raises(e.DtypeUnknown):
        tensors["a"]


def test_a_method_that_is_not_installed_is_read_and_shown():
    adapter = read(VALID / "unknown_method.safetensors")
    assert (adapter.method, adapter.config) == ("acme-rank", {"deep": [1, [2]]})
    with pytest.raises(e.UnknownMethod):
        adaptr.attach(torch.nn.Linear(1, 1), adapter)
