"""The laws of packings: known from others', read in any rows, written again as it was, merged into and unmerged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import adaptr
from adaptr import packings
from adaptr.adapter import Adapter, Target, kinds
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.decoded import Held
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.reading import every_row, reading, whole
from adaptr.packings import Codec, Grid, Packing, Sink
from adaptr.testing.closeness import bits_equal
from adaptr.testing.skipping import skip

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

#: The layers of the checkpoint that laws are tried on, the first of which an adapter changes.
LAYERS = ("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj")
HEAD = "lm_head.weight"
SIZE = 128
#: How large a change is beside the weights: it must outlive four bits.
CHANGE = 0.5


class PackingLaws:
    """One test a law. `packing`: its name; `said`: what the `quantization_config` says besides."""

    packing: ClassVar[str]
    said: ClassVar[Mapping[str, Any]] = {}

    @property
    def own(self) -> Packing:
        found: Packing = packings.SORT.load(self.packing, Packing)
        return found

    def packed(self, W: Tensor) -> Mapping[str, Tensor]:
        """A matrix, fp32, as the tensors of its layer: `{"weight": ...}` and what it needs beside."""
        raise NotImplementedError

    def base(self, folder: Path) -> Path:
        """A checkpoint with two packed layers, and a head in bf16."""
        import torch
        from safetensors.torch import save_file

        drawn = torch.Generator().manual_seed(0)
        tensors = {HEAD: torch.randn(8, SIZE, generator=drawn).bfloat16()}
        for path in LAYERS:
            found = self.packed(torch.randn(SIZE, SIZE, generator=drawn))
            tensors |= {f"{path}.{leaf}": part.contiguous() for leaf, part in found.items()}
        out = folder / "base"
        out.mkdir()
        save_file(tensors, out / "model.safetensors", {"format": "pt"})
        config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16"}
        said = {"quant_method": self.packing, **self.said}
        (out / "config.json").write_text(json.dumps({**config, "quantization_config": said}))
        return out

    def test_law_1_its_configuration_is_known_and_others_are_not(self) -> None:
        said = {"quant_method": self.packing, **self.said}
        claiming = [name for name in packings.SORT.names() if packings.SORT.load(name, Packing).claims(said)]
        assert claiming == [self.packing]
        assert not self.own.claims({"quant_method": "of nobody"})

    def test_law_2_rows_are_read_alone_as_with_all_others(self, tmp_path: Path) -> None:
        for stored in self._weights(tmp_path):
            every, step = whole(stored), stored.codec.step
            assert every.shape == (SIZE, SIZE)
            with reading(stored) as readers:
                for start in range(0, SIZE, 5 * step):
                    rows = slice(start, min(start + 5 * step, SIZE))
                    assert bits_equal(readers(rows).read(slice(None)), every[rows])

    def test_law_3_what_is_read_is_packed_as_it_was(self, tmp_path: Path) -> None:
        for stored in self._weights(tmp_path):
            codec, every = _grid(stored.codec), whole(stored)
            with reading(stored) as readers:
                parts = readers(every_row(stored)).parts  # type: ignore[attr-defined]
                into: dict[str, Sink] = {codec.main: _Empty(stored)}
                for start in range(0, SIZE, 4 * codec.step):
                    rows = every[start : start + 4 * codec.step].float()
                    codec.put(codec.nearest(rows, parts, start), start, into)
                again = {**parts, codec.main: Held(stored.main.entry, into[codec.main].raw)}  # type: ignore[attr-defined]
                assert bits_equal(codec.decode(again, 0, SIZE), every)

    def test_law_4_what_changes_becomes_floats_that_the_configuration_names(self, tmp_path: Path) -> None:
        base = self.base(tmp_path)
        adaptr.merge(base, _adapter(), tmp_path / "out")
        after = open_checkpoint(tmp_path / "out").tensors
        before = open_checkpoint(base).tensors
        changed, other = (f"{path}.weight" for path in LAYERS)
        assert not isinstance(after[changed], Packed)
        assert not bits_equal(whole(after[changed]).float(), whole(before[changed]).float())
        assert isinstance(after[other], Packed)
        assert bits_equal(whole(after[other]), whole(before[other]))
        said = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
        assert LAYERS[0] in json.dumps(said)
        _require_undone(base, tmp_path)

    def test_law_5_what_changes_is_packed_again_and_the_change_is_there(self, tmp_path: Path) -> None:
        base = self.base(tmp_path)
        _grid(next(iter(self._packed(base))).codec)
        report = adaptr.merge(base, _adapter(), tmp_path / "out", packed=True, lossy=True)
        assert report.packed is not None
        assert report.packed.survived > CHANGE
        assert len(self._packed(tmp_path / "out")) == len(LAYERS)
        _require_undone(base, tmp_path)

    def _weights(self, folder: Path) -> list[Packed]:
        return self._packed(self.base(folder))

    def _packed(self, folder: Path) -> list[Packed]:
        found = [one for one in open_checkpoint(folder).tensors.values() if isinstance(one, Packed)]
        assert {one.name for one in found} == {f"{path}.weight" for path in LAYERS}
        return found


class _Empty:
    """Codes that are put one after the other."""

    def __init__(self, stored: Packed) -> None:
        self.entry, self.raw = stored.main.entry, bytearray(stored.main.entry.nbytes)

    def rows(self, start: int, values: Tensor) -> None:
        self.bytes(start * self.entry.nbytes // self.entry.shape[0], values)

    def bytes(self, start: int, values: Tensor) -> None:
        from adaptr.format.io import raw_bytes

        found = bytes(raw_bytes(values.contiguous()))
        self.raw[start : start + len(found)] = found

    @property
    def tensor(self) -> Tensor:
        return Held(self.entry, self.raw).all()


def _grid(codec: Codec) -> Grid:
    if not isinstance(codec, Grid):
        skip(f"{codec.scheme} is read, and not packed again")
    return codec


def _adapter() -> Adapter:
    """A LoRA as large as a large share of the weight."""
    import torch

    drawn = torch.Generator().manual_seed(1)
    A, B = torch.randn(4, SIZE, generator=drawn), torch.randn(SIZE, 4, generator=drawn)
    target = Target(LAYERS[0], kinds.LINEAR, (SIZE, SIZE), {"r": 4, "alpha": 4})
    tensors = {f"{LAYERS[0]}:A": A, f"{LAYERS[0]}:B": B * (CHANGE * SIZE / (B @ A).norm())}
    return Adapter("lora", {}, {LAYERS[0]: target}, tensors)


def _require_undone(base: Path, folder: Path) -> None:
    adaptr.unmerge(folder / "out", folder / "back")
    for name in ("model.safetensors", "config.json"):
        assert (base / name).read_bytes() == (folder / "back" / name).read_bytes(), name
