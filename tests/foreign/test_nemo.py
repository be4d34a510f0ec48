"""LoRA of NeMo and Megatron, made here as NeMo's own converters take it apart."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import adaptr
from adaptr import errors as e
from adaptr import foreign

HEADS, GROUPS, SIZE, WIDTH, INNER, RANK = 4, 2, 3, 12, 10, 2
ROWS = (HEADS + 2 * GROUPS) * SIZE
CONFIG = (
    f"hidden_size: {WIDTH}\nnum_attention_heads: {HEADS}\nnum_query_groups: {GROUPS}\nnum_layers: 2\n"
    "tensor_model_parallel_size: 1\npipeline_model_parallel_size: 1\nactivation: fast-swiglu\n"
    f"peft:\n  lora_tuning:\n    adapter_dim: {RANK}\n    alpha: 8\n"
)
PIPELINE = "pipeline_model_parallel_size"
ATTENTION, MLP = "self_attention.adapter_layer.lora_", "mlp.adapter_layer.lora_"


def pair(name: str, into: int, out: int, layer: int = 0, before: str = "model.decoder.") -> dict[str, Tensor]:
    at = f"{before}layers.{layer}.{name}"
    return {f"{at}.linear_in.weight": torch.randn(RANK, into), f"{at}.linear_out.weight": torch.randn(out, RANK)}


def qkv(**more: Any) -> dict[str, Tensor]:
    return pair(f"{ATTENTION}kqv_adapter", WIDTH, ROWS, **more)


def packed(place: Path, members: dict[str, object], name: str = "lora.nemo") -> Path:
    """A tar of texts, dictionaries of tensors, and members as they are given."""
    with tarfile.open(place / name, "w") as tar:
        for member, value in members.items():
            if isinstance(value, tarfile.TarInfo):
                tar.addfile(value)
                continue
            if isinstance(value, dict):
                torch.save(value, file := io.BytesIO())
                value = file.getvalue()
            raw = value.encode() if isinstance(value, str) else value
            assert isinstance(raw, bytes)
            info = tarfile.TarInfo(member)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return place / name


def nemo(place: Path, tensors: dict[str, Tensor], config: str = CONFIG) -> Path:
    return packed(place, {"./model_config.yaml": config, "./model_weights.ckpt": tensors})


def cut(B: Tensor) -> dict[str, Tensor]:
    """Rows of queries, keys and values, head by head."""
    heads = list(B.split(SIZE))
    each = HEADS // GROUPS + 2
    groups = [heads[i : i + each] for i in range(0, len(heads), each)]
    return {
        "q": torch.cat([head for group in groups for head in group[:-2]]),
        "k": torch.cat([group[-2] for group in groups]),
        "v": torch.cat([group[-1] for group in groups]),
    }


def test_groups_of_heads_are_taken_apart(tmp_path: Path) -> None:
    tensors = qkv()
    A, B = tensors.values()
    found = adaptr.load(nemo(tmp_path, tensors))
    assert (found.method, found.config["r"], found.config["alpha"]) == ("lora", RANK, 8.0)
    for name, rows in cut(B).items():
        torch.testing.assert_close(found[f"model.layers.0.self_attn.{name}_proj"].dense(), 4 * rows @ A)


def test_gate_and_up_are_halves_and_the_others_whole(tmp_path: Path) -> None:
    tensors = pair(f"{MLP}hto4h_adapter", WIDTH, 2 * INNER) | pair(f"{MLP}4htoh_adapter", INNER, WIDTH, 1)
    tensors |= pair(f"{ATTENTION}dense_attention_adapter", WIDTH, WIDTH, 1)
    found = adaptr.load(nemo(tmp_path, tensors))
    A, B, down, _, o, _ = tensors.values()
    torch.testing.assert_close(found["model.layers.0.mlp.gate_proj"].dense(), 4 * B[:INNER] @ A)
    torch.testing.assert_close(found["model.layers.0.mlp.up_proj"].dense(), 4 * B[INNER:] @ A)
    assert torch.equal(found.at("model.layers.1.mlp.down_proj")["A"], down)
    assert torch.equal(found.at("model.layers.1.self_attn.o_proj")["A"], o)


def test_those_that_are_not_fused_and_an_alpha_that_is_the_rank(tmp_path: Path) -> None:
    tensors = pair(f"{ATTENTION}unfused_kqv_adapter.k_adapter", WIDTH, 6) | pair(
        f"{MLP}unfused_hto4h_adapter.up_adapter", WIDTH, INNER, before="model.module.language_model.encoder."
    )
    found = adaptr.load(nemo(tmp_path, tensors, CONFIG.replace("    alpha: 8\n", "")))
    assert set(found.targets) == {"model.layers.0.mlp.up_proj", "model.layers.0.self_attn.k_proj"}
    assert found.config["alpha"] == RANK


def test_parts_of_ranks_are_joined(tmp_path: Path) -> None:
    """Two tensor-parallel ranks: the rank is cut, rows or columns are, and of gate and up each has both."""
    torch.manual_seed(0)
    whole = qkv() | pair(f"{MLP}hto4h_adapter", WIDTH, 2 * INNER) | pair(f"{MLP}4htoh_adapter", INNER, WIDTH)
    ranks: list[dict[str, Tensor]] = [{}, {}]
    for name, value in whole.items():
        axis = 1 if "4htoh" in name and "linear_in" in name else 0
        rows = value
        if "hto4h" in name and "linear_out" in name:
            gate, up = (half.chunk(2) for half in value.chunk(2))
            rows = torch.cat([gate[0], up[0], gate[1], up[1]])
        for rank, part in enumerate(rows.chunk(2, axis)):
            ranks[rank][name] = part.clone()
    config = CONFIG.replace("tensor_model_parallel_size: 1", "tensor_model_parallel_size: 2")
    parts = {f"./mp_rank_{i:02d}/model_weights.ckpt": rank for i, rank in enumerate(ranks)}
    found = adaptr.load(packed(tmp_path, {"./model_config.yaml": config, **parts}))
    (tmp_path / "one").mkdir()
    want = adaptr.load(nemo(tmp_path / "one", whole))
    assert found.targets == want.targets
    assert all(torch.equal(found.tensors[name], value) for name, value in want.tensors.items())


def test_layers_of_a_pipeline_are_counted_on(tmp_path: Path) -> None:
    config = CONFIG.replace("pipeline_model_parallel_size: 1", "pipeline_model_parallel_size: 2")
    parts = {f"tp_rank_00_pp_rank_00{i}/model_weights.ckpt": qkv() for i in range(2)}
    found = adaptr.load(packed(tmp_path, {"model_config.yaml": config, **parts}))
    assert {path.split(".")[2] for path in found.targets} == {"0", "1"}


@pytest.mark.parametrize(
    ("names", "config", "match"),
    [
        (["mp_rank_00/"], CONFIG.replace("tensor_model_parallel_size: 1", "tensor_model_parallel_size: 2"), "so many"),
        (["tp_rank_00_pp_rank_000/", "tp_rank_00_pp_rank_001/"], CONFIG, PIPELINE),
        (
            ["tp_rank_00_pp_rank_000/", "tp_rank_00_pp_rank_001/"],
            CONFIG.replace("num_layers: 2", "num_layers: 3").replace(
                "e_model_parallel_size: 1", "e_model_parallel_size: 2"
            ),
            "a multiple of the 2 stages",
        ),
        (["", "mp_rank_00/"], CONFIG, "are of one rank"),
    ],
)
def test_other_ranks_than_the_configuration_says_are_refused(
    names: list[str], config: str, match: str, tmp_path: Path
) -> None:
    parts = {f"{name}model_weights.ckpt": qkv() for name in names}
    with pytest.raises(e.ConfigConflict, match=match):
        adaptr.load(packed(tmp_path, {"model_config.yaml": config, **parts}))


def test_a_folder_is_read_as_its_tar(tmp_path: Path) -> None:
    tensors = qkv()
    (tmp_path / "model_config.yaml").write_text(CONFIG)
    torch.save(tensors, tmp_path / "model_weights.ckpt")
    assert foreign.of(tmp_path).name == "nemo"
    assert len(adaptr.load(tmp_path).targets) == 3


def test_tensors_of_megatron_alone_go_by_the_base(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS, "head_dim": SIZE}
    model = LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=INNER, num_hidden_layers=1, vocab_size=8))
    tensors = pair("self_attention.linear_qkv.adapter", WIDTH, ROWS, before="decoder.")
    torch.save(tensors, tmp_path / "adapter.pt")
    with pytest.raises(e.ConfigMissing, match="alpha of the adapter"):
        adaptr.load(tmp_path / "adapter.pt", model)
    with pytest.raises(e.ConfigMissing, match=r"its rows go by heads.*`base=`"):
        adaptr.load(adaptr.source(tmp_path / "adapter.pt", alpha=4))
    found = adaptr.load(adaptr.source(tmp_path / "adapter.pt", alpha=4), model)
    A, B = tensors.values()
    torch.testing.assert_close(found["model.layers.0.self_attn.k_proj"].dense(), 2 * cut(B)["k"] @ A)


@pytest.mark.parametrize(
    ("tensors", "config", "error", "match"),
    [
        (qkv(), CONFIG.replace("num_attention_heads: 4\n", ""), e.ConfigMissing, "not how many heads"),
        (qkv(), CONFIG.replace("num_attention_heads: 4", "num_attention_heads: 6"), e.ConfigConflict, "in 2 groups"),
        (qkv(), CONFIG.replace("fast-swiglu", "gelu"), e.Unsupported, "no model like Llama"),
        (qkv(), CONFIG + "rotary_interleaved: true\n", e.Unsupported, "no model like Llama"),
        (qkv(), CONFIG.replace("alpha: 8", "alpha: x"), e.ConfigConflict, "a number that is not 0"),
        (qkv(), CONFIG.replace("fast-swiglu", "[x]"), e.Unsupported, "no model like Llama"),
        ({name: torch.ones(2, 3).to_sparse() for name in qkv()}, CONFIG, e.TensorUnknown, "is sparse, quantised"),
        ({name: torch.ones(2, 3, device="meta") for name in qkv()}, CONFIG, e.TensorUnknown, "without values"),
        ({name: torch.ones(1, 1).expand(1 << 20, 1 << 20) for name in qkv()}, CONFIG, e.TensorUnknown, "would be"),
        (qkv(), "- 1\n", e.ForeignError, "holds a list"),
        (qkv(), "!!python/object/apply:os.getcwd []\n", e.ForeignError, "can't be read"),
        (qkv() | {"model.x": torch.ones(1)}, CONFIG, e.TensorUnknown, "`model.x`"),
        ({}, CONFIG, e.NoAdapterTensors, "no tensors of an adapter"),
        (dict([*qkv().items()][:1]), CONFIG, e.TensorAbsent, "0 parts of `linear_out`"),
        ({name: torch.ones(2, 3, 4) for name in qkv()}, CONFIG, e.ConfigConflict, "two axes"),
        (pair(f"{ATTENTION}kqv_adapter", WIDTH, ROWS + 1), CONFIG, e.ConfigConflict, "rows behind it"),
    ],
)
def test_what_is_wrong_is_refused(
    tensors: dict[str, Tensor], config: str, error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(nemo(tmp_path, tensors, config))


def link(kind: bytes, name: str = "model_weights.ckpt") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"../../x": b"1"}, "no plain member"),
        ({"/etc/x": b"1"}, "no plain member"),
        ({"a/../../x": b"1"}, "no plain member"),
        ({"x": link(tarfile.SYMTYPE)}, "no plain member"),
        ({"x": link(tarfile.LNKTYPE)}, "no plain member"),
        ({"x": link(tarfile.CHRTYPE)}, "no plain member"),
        ({"x": link(tarfile.FIFOTYPE)}, "no plain member"),
        ({"./model_config.yaml": CONFIG, "model_config.yaml": CONFIG}, "is there twice"),
        ({"model_weights.ckpt": b"PK"}, "no `model_config.yaml`"),
        ({"model_config.yaml": CONFIG}, "no `model_weights.ckpt`"),
        ({"model_config.yaml": CONFIG, "mp_rank_01/model_weights.ckpt": {}}, "tensor-parallel rank 0"),
        ({"model_config.yaml": "x" * (1 << 23)}, "has 8388608 bytes"),
        ({"model_config.yaml": CONFIG, "model_weights.ckpt": b"PK\3\4 no archive"}, "cut off or damaged"),
    ],
)
def test_a_tar_that_can_do_harm_or_is_none_is_refused(members: dict[str, object], match: str, tmp_path: Path) -> None:
    with pytest.raises(e.AdaptrError, match=match):
        adaptr.load(packed(tmp_path, members))
    assert [one.name for one in tmp_path.iterdir()] == ["lora.nemo"]


def test_a_tar_cut_off_and_a_size_that_lies_are_refused(tmp_path: Path) -> None:
    whole = nemo(tmp_path, qkv()).read_bytes()
    (tmp_path / "lora.nemo").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(e.AdaptrError, match=r"cut off|longer than the tar"):
        adaptr.load(tmp_path / "lora.nemo")
    info = tarfile.TarInfo("model_weights.ckpt")
    info.size = 1 << 40
    (tmp_path / "lora.nemo").write_bytes(info.tobuf() + b"\0" * 1024)
    with pytest.raises(e.ForeignError, match="longer than the tar"):
        adaptr.load(tmp_path / "lora.nemo")


def test_a_pickle_that_calls_something_is_not_opened(tmp_path: Path) -> None:
    torch.save({"model": Path("x")}, file := io.BytesIO())
    file_of = packed(tmp_path, {"model_config.yaml": CONFIG, "model_weights.ckpt": file.getvalue()})
    with pytest.raises(e.UnsafePickle):
        adaptr.load(file_of)


@pytest.mark.parametrize("name", ["__0_0.distcp", "weights/__0_0.distcp", "weights/.metadata"])
def test_a_distributed_checkpoint_is_refused_with_the_way(name: str, tmp_path: Path) -> None:
    """By the folder that NeMo 2 writes too, in which it is `weights`."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(e.UnknownFormat, match=r"a distributed checkpoint.*pickle of classes.*target=hf-peft"):
        adaptr.load(tmp_path)


def test_models_of_the_same_names_are_read_with_their_own_heads(tmp_path: Path) -> None:
    """Gemma: a gate of GELU, and heads that are wider than the model has room for."""
    config = CONFIG.replace("fast-swiglu", "fast-geglu").replace("hidden_size: ", "kv_channels: 16\nhidden_size: ")
    tensors = pair(f"{ATTENTION}kqv_adapter", WIDTH, (HEADS + 2 * GROUPS) * 16)
    found = adaptr.load(nemo(tmp_path, tensors, config))
    shapes = {path.rpartition(".")[2]: target.shape for path, target in found.targets.items()}
    assert shapes == {"q_proj": (HEADS * 16, WIDTH), "k_proj": (GROUPS * 16, WIDTH), "v_proj": (GROUPS * 16, WIDTH)}


def test_the_digest_of_a_folder_is_of_all_its_parts(tmp_path: Path) -> None:
    (tmp_path / "model_config.yaml").write_text(CONFIG)
    torch.save(qkv(), tmp_path / "model_weights.ckpt")
    before = adaptr.inspect(tmp_path)
    assert before.size == sum(one.stat().st_size for one in tmp_path.iterdir())
    torch.save(qkv(), tmp_path / "model_weights.ckpt")
    assert adaptr.inspect(tmp_path).file_digest != before.file_digest
