"""cloneofsimo's lora: numbered pairs are the modules of Stable Diffusion in the order of then, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import adaptr
from adaptr import errors as e
from adaptr import foreign
from adaptr_formats.cloneofsimo import BLOCKS, GATED, LAYERS, TEXT
from foreign.test_kohya import saved

WIDTHS, WORDS, LAYERS_OF_TEXT = (4, 6, 8), 5, 2


def unet(gated: bool = True) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    layers = [one for one in LAYERS if gated or one[0] != GATED]
    for number, (level, rows, columns) in enumerate((lv, r, c) for _, lv in BLOCKS for _, r, c in layers):
        width = WIDTHS[level]
        tensors[f"unet:{number}:up"] = torch.randn(rows * width, 2)
        tensors[f"unet:{number}:down"] = torch.randn(2, width if columns else WORDS)
    return tensors


def text() -> dict[str, Tensor]:
    count = LAYERS_OF_TEXT * len(TEXT)
    sides = {"up": (8, 2), "down": (2, 8)}
    return {f"text_encoder:{n}:{side}": torch.randn(shape) for n in range(count) for side, shape in sides.items()}


def test_pairs_are_modules_in_the_order_of_then(tmp_path: Path) -> None:
    tensors = unet() | text()
    file = saved(tmp_path, tensors)
    found = adaptr.load(file)
    assert foreign.of(file).name == "cloneofsimo"
    assert len(found.targets) == 144 + 8
    places = {
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": "unet:0",
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj": "unet:4",
        "unet.down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_out.0": "unet:53",
        "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": "unet:54",
        "unet.up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_v": "unet:133",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0": "unet:143",
        "text_encoder.text_model.encoder.layers.1.self_attn.q_proj": "text_encoder:6",
    }
    for path, pair in places.items():
        torch.testing.assert_close(found[path].dense(), tensors[f"{pair}:up"] @ tensors[f"{pair}:down"])


def test_without_the_gate(tmp_path: Path) -> None:
    found = adaptr.load(saved(tmp_path, unet(gated=False)))
    assert len(found.targets) == 128
    assert not any(path.endswith(GATED) for path in found.targets)


def test_another_order_is_refused(tmp_path: Path) -> None:
    tensors = unet()
    for side in ("up", "down"):
        one, two = f"unet:4:{side}", f"unet:5:{side}"
        tensors[one], tensors[two] = tensors[two], tensors[one]
    with pytest.raises(e.ConfigConflict, match=r"unet:4.*ff\.net\.0\.proj"):
        adaptr.load(saved(tmp_path, tensors))


@pytest.mark.parametrize("gone", [0, 77, 143])
def test_a_pair_that_is_missing_leaves_no_order(gone: int, tmp_path: Path) -> None:
    tensors = {key: tensor for key, tensor in unet().items() if not key.startswith(f"unet:{gone}:")}
    with pytest.raises(e.ConfigConflict, match="numbered from 0"):
        adaptr.load(saved(tmp_path, tensors))


def test_a_width_that_differs_within_a_level_is_refused(tmp_path: Path) -> None:
    with pytest.raises(e.ConfigConflict, match="unet:143"):
        adaptr.load(saved(tmp_path, unet() | {"unet:143:up": torch.randn(9, 2)}))


def test_learned_embeddings_beside_are_named(tmp_path: Path) -> None:
    file = saved(tmp_path, text() | {"<s1>": torch.randn(8)})
    with pytest.warns(e.WeightsIgnored, match=r"<s1>` \(8,\)"):
        assert len(adaptr.load(file).targets) == 8


@pytest.mark.filterwarnings("ignore::adaptr.errors.WeightsIgnored")
def test_they_are_lost_only_where_that_is_wanted(tmp_path: Path) -> None:
    file = saved(tmp_path, text() | {"<s1>": torch.randn(8)})
    for to in ("adaptr", "kohya"):
        with pytest.raises(e.LossyConversion, match="<s1>"):
            adaptr.convert(file, tmp_path / f"{to}.safetensors", to=to)
        assert "<s1>" in adaptr.convert(file, tmp_path / f"{to}.safetensors", to=to, lossy=True).lost


def test_a_tensor_of_no_pair_and_no_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(e.TensorUnknown, match="scale"):
        adaptr.load(saved(tmp_path, text() | {"scale": torch.randn(8)}))


@pytest.mark.parametrize("name", ["cloneofsimo-analog-svd/analog_svd_rank4", "cloneofsimo-disney/lora_disney"])
@pytest.mark.filterwarnings("ignore::adaptr.errors.WeightsIgnored")
def test_published_files_are_read_and_go_to_kohya(name: str, shared: Path, tmp_path: Path) -> None:
    file = shared / "real" / f"{name}.safetensors"
    adaptr.convert(file, tmp_path / "kohya.safetensors", to="kohya", lossy="disney" in name)
    one, two = adaptr.load(file), adaptr.load(tmp_path / "kohya.safetensors")
    assert one.targets.keys() == two.targets.keys()
    assert len(one.targets) == 192
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
    torch.testing.assert_close(one[path].dense(), two[path].dense())


def listed(folder: Path, tensors: dict[str, Tensor]) -> Path:
    """The same pairs as the tool saved them at first."""
    file = folder / "lora.pt"
    torch.save([torch.nn.Parameter(tensor) for tensor in tensors.values()], file)
    return file


@pytest.mark.parametrize("tensors", [unet(), unet(gated=False), text()], ids=["unet", "ungated", "text"])
def test_a_list_is_the_same_pairs(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    (tmp_path / "named").mkdir()
    file = listed(tmp_path, tensors)
    assert foreign.of(file).name == "cloneofsimo"
    one, two = adaptr.load(file), adaptr.load(saved(tmp_path / "named", tensors))
    assert one.targets == two.targets
    assert all(torch.equal(one.tensors[key], two.tensors[key]) for key in two.tensors)


def without_the_last(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(list(tensors.items())[:-1])


def ambiguous() -> dict[str, Tensor]:
    """As many pairs as a U-Net has, all of one width."""
    pairs = {n: {f"{n}:up": torch.randn(8, 2), f"{n}:down": torch.randn(2, 8)} for n in range(128)}
    return {key: tensor for pair in pairs.values() for key, tensor in pair.items()}


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        (without_the_last(unet()), "other shapes"),
        (without_the_last(text()), "other shapes"),
        (dict(list(unet().items())[2:]), "other shapes"),
        ({"a": torch.randn(8), "b": torch.randn(8)}, "other shapes"),
        (ambiguous(), "shapes of both"),
    ],
)
def test_a_list_of_other_shapes_is_refused(tensors: dict[str, Tensor], why: str, tmp_path: Path) -> None:
    with pytest.raises(e.ConfigConflict, match=why):
        adaptr.load(listed(tmp_path, tensors))


@pytest.mark.parametrize(
    ("name", "count", "path"),
    [
        ("cloneofsimo-pop-pt/lora_pop.pt", 128, "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"),
        (
            "cloneofsimo-kiriko-te-pt/lora_kiriko2.text_encoder.pt",
            48,
            "text_encoder.text_model.encoder.layers.11.self_attn.q_proj",
        ),
    ],
)
def test_published_lists_are_read(name: str, count: int, path: str, shared: Path, tmp_path: Path) -> None:
    found = adaptr.load(shared / "real" / name)
    assert len(found.targets) == count
    assert found[path].dense().norm() > 0
    adaptr.convert(shared / "real" / name, tmp_path / "kohya.safetensors", to="kohya")
    assert adaptr.load(tmp_path / "kohya.safetensors").targets.keys() == found.targets.keys()
