"""Prompts as Flax packs them and TensorStore cuts them in chunks, as in T5X's checkpoints. theirs.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import jax.numpy as jnp
import numpy as np
import tensorstore
from flax import serialization

TOKENS, WIDTH = 5, 12
PATH = ("encoder", "prompt", "prompt", "prompt")
DTYPES = ("float32", "bfloat16", "float16")


def drawn(number: int, dtype: str) -> Any:
    return jnp.asarray(np.random.default_rng(number).normal(size=(TOKENS, WIDTH)), dtype)


def nested(value: Any) -> dict[str, Any]:
    for name in reversed(PATH):
        value = {name: value}
    found: dict[str, Any] = value
    return found


def chunked(folder: Path, value: Any, chunks: tuple[int, int]) -> None:
    """As T5X has TensorStore write a parameter."""
    spec = {
        "driver": "zarr", "kvstore": {"driver": "file", "path": str(folder)}, "dtype": str(value.dtype),
        "metadata": {"shape": list(value.shape), "chunks": list(chunks), "compressor": {"id": "gzip"}},
    }  # fmt: skip
    tensorstore.open(spec, create=True, open=True).result().write(np.asarray(value)).result()


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    yield {"name": "nothing", "adapter": "", "outputs": np.zeros((TOKENS, WIDTH)).tolist()}
    for number, dtype in enumerate(DTYPES):
        value = drawn(number, dtype)
        outputs = np.asarray(value, "float64").tolist()
        place = folder / f"checkpoint_{number}"
        state = {"step": np.int32(7), "param_states": nested(value + 1)}
        whole = {"version": 3, "optimizer": {"target": nested(value), "state": state}}
        place.write_bytes(serialization.msgpack_serialize(serialization.to_state_dict(whole)))
        yield {"name": f"msgpack, {dtype}", "adapter": place.name, "outputs": outputs}
        apart = folder / f"chunked{number}"
        chunked(apart / f"target.{'.'.join(PATH)}", value, (2, 5) if number else (TOKENS, WIDTH))
        (apart / "checkpoint").write_bytes(serialization.msgpack_serialize({"version": 3, "optimizer": {}}))
        yield {"name": f"zarr, {dtype}", "adapter": apart.name, "outputs": outputs}


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder), "theirs.json", base="", limit=0.0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
