"""Archives of numpy's arrays: what they hold comes out as it is, whatever else they are is refused."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from adaptr import errors as e
from adaptr.foreign import npz

DTYPES = ("<f2", "<f4", "<f8", ">f4", "<i1", "<i4", ">i8", "<u1")


def archive(place: Path, members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(place, "w", how) as file:
        for name, raw in members.items():
            file.writestr(name, raw)
    return place


def array(value: object, **fields: tuple[str, str]) -> bytes:
    """An array's bytes, with the shape in its header changed."""
    file = io.BytesIO()
    np.save(file, np.asarray(value))
    raw = file.getvalue()
    for old, new in fields.values():
        raw = raw.replace(old.encode(), new.encode())
    return raw


@given(
    value=st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0))),
    by_columns=st.booleans(),
    packed=st.booleans(),
)
def test_what_numpy_saved_comes_out(
    value: np.ndarray, by_columns: bool, packed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    (np.savez_compressed if packed else np.savez)(path, **{"a.b": np.asarray(value, order="F" if by_columns else "C")})
    found = npz.arrays(path)["a.b"]
    assert tuple(found.shape) == value.shape
    np.testing.assert_array_equal(found.numpy(), value)


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"a.npy": b"nothing"}, "damaged"),
        ({"a.npy": array(np.ones(4))[:-1]}, "31 bytes.*has 32"),
        ({"a.npy": array(np.ones(4), shape=("(4,)", "(9,)"))}, r"32 bytes.*\(9,\) has 72"),
    ],
)
def test_what_is_damaged_is_refused(members: dict[str, bytes], match: str, tmp_path: Path) -> None:
    with pytest.raises(e.ForeignError, match=match):
        npz.arrays(archive(tmp_path / "a.npz", members))


@pytest.mark.parametrize("value", [np.array([{"a": 1}], object), np.array(["text"]), np.array([1j])])
def test_what_is_no_number_is_refused_and_not_unpickled(value: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=value)
    with pytest.raises(e.TensorUnknown, match="wanted numbers"):
        npz.arrays(tmp_path / "a.npz")


def test_what_was_packed_beyond_belief_is_not_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"a.npy": array(np.zeros(4_000_000))}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(e.ForeignError, match="as no weights are"):
        npz.arrays(path)


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns who writes one
        for number in (1.0, 2.0):
            file.writestr("a.npy", array(np.full(2, number)))
    with pytest.raises(e.ForeignError, match="contradicts"):
        npz.arrays(tmp_path / "a.npz")


def test_a_number_alone_is_a_tensor_of_no_axes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.float32(2))
    assert torch.equal(npz.arrays(tmp_path / "a.npz")["a"], torch.tensor(2.0))
