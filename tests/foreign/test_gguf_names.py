"""Names of layers and order of rows of llama.cpp's LoRA, as llama.cpp's converter and the library have them."""

from __future__ import annotations

from pathlib import Path

import gguf as library
import pytest
import torch

import adaptr
import tiny
from adaptr import errors as e
from adaptr.llama_cpp import names, rows
from adaptr_formats.gguf import facts
from gguf_files import loaded, pair, written

#: llama.cpp's architecture to the types of model that it is.
MODELS = {"llama": ("llama", "mistral"), "qwen2": ("qwen2",), "gemma2": ("gemma2",), "gemma3": ("gemma3",),
          "gpt2": ("gpt2",), "bloom": ("bloom",)}  # fmt: skip
#: Files of the converter are warned of; who asks for the warning finds it all the same.
pytestmark = pytest.mark.filterwarnings("ignore::adaptr.errors.TrainedOtherwise")


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(("arch", "kind"), [(arch, kind) for arch, kinds in MODELS.items() for kind in kinds])
def test_names_are_those_of_the_librarys_table_and_of_the_model(arch: str, kind: str) -> None:
    known, model = names.of(arch), tiny.MAKERS[kind]()
    table = library.get_tensor_name_map(getattr(library.MODEL_ARCH, arch.upper()), 4)
    said = facts.of_model(model)
    assert said.architecture == arch
    matrices = [path for path, module in model.named_modules() if getattr(module, "weight", torch.ones(1)).ndim == 2]
    found = {path: known.theirs(path) for path in matrices}
    assert set(known.parts) == {name.rpartition(".")[2] for name in found.values() if name.startswith("blk.")}
    for path, theirs in found.items():
        if theirs and theirs != "output":  # which Gemma's table lacks, as its head is its embeddings
            inner = path.removeprefix("transformer.") if arch == "bloom" else path
            assert table.get_name(inner) == theirs
            assert known.path(theirs) == path


@pytest.mark.parametrize("arch", ["qwen3", "gemma", "phi3", "falcon"])
def test_the_other_architectures_are_in_the_librarys_table(arch: str) -> None:
    known = names.of(arch)
    table = library.get_tensor_name_map(getattr(library.MODEL_ARCH, arch.upper()), 1)
    for part in known.parts:
        assert table.get_name(known.path(f"blk.0.{part}")) == f"blk.0.{part}"
    assert known.theirs(known.path("output")) == "output"


@pytest.mark.parametrize(
    ("path", "theirs"),
    [
        ("model.layers.10.mlp.up_proj", "blk.10.ffn_up"),
        ("layers.0.mlp.up_proj", "blk.0.ffn_up"),
        ("model.language_model.layers.0.mlp.up_proj", "blk.0.ffn_up"),
        ("language_model.lm_head", "output"),
        ("embed_tokens", "token_embd"),
        ("model.vision_tower.layers.0.mlp.up_proj", ""),
        ("model.layers.01.mlp.up_proj", ""),
        ("model.layers.0.mlp.up_proj.x", ""),
        ("other.layers.0.mlp.up_proj", ""),
    ],
)
def test_the_name_of_a_path(path: str, theirs: str) -> None:
    assert names.of("qwen2").theirs(path) == theirs


@pytest.mark.parametrize(
    ("key", "match"),
    [("blk.0.attn_qkv.weight", "no layer of the architecture `qwen2`"), ("blk.x.ffn_up.weight", "no layer"),
     ("rope_freqs.weight", "no layer")],
)  # fmt: skip
def test_a_layer_of_another_architecture_is_refused(key: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=match):
        loaded(tmp_path, pair(key))


def test_an_architecture_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=r"lays out the architecture `mamba`; it knows llama"):
        loaded(tmp_path, pair(), arch="mamba")


# ---------------------------------------------------------------- rows


def test_queries_and_keys_are_turned_by_heads_of_their_own() -> None:
    """Six heads of queries and two of keys, as llama.cpp's converter turns them."""
    for theirs, count in (("blk.0.attn_q", 6), ("blk.0.attn_k", 2)):
        weight = torch.randn(count * 4, 3)
        turned = weight.reshape(count, 2, 2, 3).swapaxes(1, 2).reshape(weight.shape)
        assert torch.equal(weight[rows.order("rotary", theirs, len(weight), rows.Heads(6, 2))], turned)


def test_heads_that_do_not_divide_the_rows_are_refused() -> None:
    for order, theirs in (("rotary", "blk.0.attn_q"), ("bloom", "blk.0.attn_qkv"), ("falcon", "blk.0.attn_qkv")):
        with pytest.raises(e.ConfigConflict, match="has 7 rows"):
            rows.order(order, theirs, 7, rows.Heads(4, 2))


def test_without_a_base_what_needs_heads_is_asked_for_and_the_rest_is_read(tmp_path: Path) -> None:
    file = written(tmp_path / "x.gguf", pair("blk.0.attn_q.weight", out=8) | pair(), arch="llama")
    found = adaptr.load(file)
    assert found["model.layers.0.mlp.up_proj"].dense().shape == (6, 8)
    with pytest.raises(e.ConfigMissing, match=r"`blk\.0\.attn_q`.*give the base"):
        found["model.layers.0.self_attn.q_proj"].dense()
    shown = adaptr.inspect(file)
    assert shown.weights_digest == ""
    assert (shown.tensors, shown.dtypes, shown.config["r"]) == (4, {"F32": 4}, 2)


def test_a_file_that_says_its_heads_needs_no_base(tmp_path: Path) -> None:
    said = {"llama.attention.head_count": 2, "llama.attention.head_count_kv": 1}
    factors = pair("blk.0.attn_q.weight", out=8)
    found = adaptr.load(written(tmp_path / "x.gguf", factors, said, "llama"))
    want = factors["blk.0.attn_q.weight.lora_b"].reshape(2, 2, 2, 2).swapaxes(1, 2).reshape(8, 2)
    assert torch.equal(found.at("model.layers.0.self_attn.q_proj")["B"], want)


@pytest.mark.parametrize("base", ["qwen2", "llama"])
def test_the_base_of_another_architecture_or_other_heads_is_refused(base: str, tmp_path: Path) -> None:
    said = {"llama.attention.head_count": 3, "llama.attention.head_count_kv": 1}
    file = written(tmp_path / "x.gguf", pair("blk.0.attn_q.weight", out=12), said, "llama")
    with pytest.raises(e.TargetMismatch, match=r"wanted `llama` with 3 and 1"):
        adaptr.load(file, base=tiny.MAKERS[base]())


def test_a_base_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(e.ConfigMissing, match="no configuration"):
        adaptr.load(written(tmp_path / "x.gguf", pair()), base=torch.nn.Linear(2, 2))
