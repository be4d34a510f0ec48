"""AdapterHub's folders, as its library wrote them, do on transformers 5 what they did there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import adaptr
from adaptr import errors as e
from adaptr import foreign
from adaptr.testing.samples import tiny_llama
from adaptr_formats.adapterhub.written.bottleneck import _factor

#: Case to the method that it becomes, in each of the models that have it.
READ = {
    "compacter": "compacter",
    "compacterpp": "compacter",
    "direft": "direft",
    "double_seq_bn": "houlsby",
    "dora": "dora",
    "dvora": "dora",
    "ia3": "ia3",
    "ia3_alpha": "ia3",
    "lora": "lora",
    "lora_qkv": "lora",
    "loreft": "loreft",
    "mam": "mam",
    "noreft": "noreft",
    "par_bn": "parallel",
    "par_bn_learned": "parallel",
    "prefix": "prefix",
    "prefix_flat": "prefix",
    "seq_bn": "pfeiffer",
    "seq_bn_drop": "pfeiffer",
    "seq_bn_ln": "pfeiffer",
    "seq_bn_perlayer": "pfeiffer",
    "vera": "lora",
    "vera_cfg": "lora",
}
#: Case to what its refusal says.
REFUSED = {
    "lora_gate": "LoRA has a gate",
    "prompt": "in front of what the embeddings",
    "seq_bn_inv": "an invertible adapter",
    "unipelt": "LoRA has a gate",
}
#: Heads lie beside the adapters, and are tried by the tests themselves.
HEADS = pytest.mark.filterwarnings("ignore::adaptr.errors.WeightsIgnored")
MODELS = ("bert", "gpt2", "llama")
CONFIG = {"model_class": "LlamaAdapterModel", "model_type": "llama", "name": "mine"}
LORA = {"architecture": "lora", "r": 2, "alpha": 4, "attn_matrices": ["q", "v"], "composition_mode": "add"}
Q = "model.layers.0.self_attn.q_proj.loras.mine"


def there(shared: Path, model: str, case: str) -> Path:
    folder = shared / "formats-refs" / "adapterhub" / model / case
    if not folder.exists():
        pytest.skip(f"AdapterHub has no `{case}` for {model}")
    return folder


def loaded(folder: Path, case: str, host: Any) -> adaptr.Adapter:
    """Which intervention it is, is said where the file does not say it."""
    return adaptr.load(adaptr.source(folder, reft=case) if case in ("noreft", "direft") else folder, host)


@pytest.fixture(scope="module")
def models(shared: Path) -> dict[str, Any]:
    from transformers import AutoModel

    found = {}
    for name in MODELS:
        base = shared / "formats-refs" / "adapterhub" / name / "base"
        found[name] = AutoModel.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()
    return found


def headed(hidden: Tensor, folder: Path, ids: Tensor, model: str) -> Tensor:
    """What AdapterHub's classification head makes of the first token, of models that look back of the last."""
    if not (folder / "head_config.json").exists():
        return hidden
    found = torch.load(folder / "pytorch_model_head.bin", weights_only=True)
    at = torch.zeros(len(ids), dtype=torch.long) if model == "bert" else ids.ne(0).sum(1) - 1
    z = hidden[torch.arange(len(ids)), at]
    layers = sorted({key.rpartition(".")[0] for key in found})
    for number, layer in enumerate(layers):
        z = torch.nn.functional.linear(z.tanh() if number else z, found[f"{layer}.weight"], found[f"{layer}.bias"])
    return z


@HEADS
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", READ)
def test_a_folder_of_adapterhub_does_what_it_does_there(
    model: str, case: str, models: dict[str, Any], shared: Path
) -> None:
    folder, host = there(shared, model, case), models[model]
    want = load_file(folder / "expected.safetensors")
    found = loaded(folder / "bin", case, host)
    assert found.method == READ[case]
    with torch.no_grad(), adaptr.attach(host, found):
        hidden = host(input_ids=want["input_ids"], attention_mask=want["attention_mask"])[0]
    out = headed(hidden, folder / "bin", want["input_ids"], model)
    real = want["attention_mask"].bool() if out.ndim == 3 else torch.ones(len(out), dtype=torch.bool)
    if "base_out" in want:
        assert float((want["out"] - want["base_out"])[real].abs().max()) > 0.1
    torch.testing.assert_close(out[real], want["out"][real], atol=1e-5, rtol=0)


@HEADS
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", READ)
def test_both_containers_hold_the_same(model: str, case: str, models: dict[str, Any], shared: Path) -> None:
    folder = there(shared, model, case)
    if not (folder / "st").exists():
        pytest.skip("AdapterHub writes one of them")
    found, other = (loaded(folder / name, case, models[model]) for name in ("bin", "st"))
    assert found.targets == other.targets
    assert all(torch.equal(tensor, other.tensors[key]) for key, tensor in found.tensors.items())


@HEADS
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_method_is_refused_with_the_reason(
    model: str, case: str, models: dict[str, Any], shared: Path
) -> None:
    folder = there(shared, model, case)
    with pytest.raises(e.Unsupported, match=REFUSED[case]):
        adaptr.load(folder / "bin", models[model])


def saved(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any] = LORA, **whole: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, "config": config, **whole}))
    return folder


def pair(path: str = Q, r: int = 2) -> dict[str, Tensor]:
    return {f"{path}.lora_A": torch.randn(r, 6), f"{path}.lora_B": torch.randn(5, r)}


def test_a_lora_needs_no_base(tmp_path: Path) -> None:
    tensors = pair()
    found = adaptr.load(saved(tmp_path, tensors))
    (path,) = found.targets
    assert path == "model.layers.0.self_attn.q_proj"
    torch.testing.assert_close(found[path].dense(), 2 * tensors[f"{Q}.lora_B"] @ tensors[f"{Q}.lora_A"])


@pytest.mark.parametrize(
    ("version", "scale"), [("3.0.1", 2), ("adapters.0.9", 1), ("adapters.1.0.1", 1), ("adapters.1.1.0", 2)]
)
def test_old_versions_did_not_scale(version: str, scale: int, tmp_path: Path) -> None:
    tensors = pair()
    found = adaptr.load(saved(tmp_path, tensors, version=version))
    (path,) = found.targets
    torch.testing.assert_close(found[path].dense(), scale * tensors[f"{Q}.lora_B"] @ tensors[f"{Q}.lora_A"])


def test_a_scale_that_nobody_knows_is_not_guessed(tmp_path: Path) -> None:
    union = {"architecture": "union", "configs": [LORA]}
    assert adaptr.load(saved(tmp_path, pair(), union, version="adapters.1.1.0")).config["alpha"] == 4
    with pytest.raises(e.Unsupported, match=r"of an `adapters` before 1.1"):
        adaptr.load(saved(tmp_path, pair(), union, version="adapters.1.0.1"))


def test_names_of_2020_are_read(tmp_path: Path) -> None:
    old, new = "bert.encoder.layer.0.output.layer_text_task_adapters.mine", "bert.encoder.layer.0.output.adapters.mine"
    config = {**BOTTLENECK, "original_ln_before": False}
    first, second = (
        adaptr.load(saved(tmp_path / name[-14:-5], bottleneck(name), config, model_type="bert")) for name in (old, new)
    )
    assert first.targets == second.targets


def test_what_its_configuration_says_is_kept(tmp_path: Path) -> None:
    found = adaptr.load(saved(tmp_path / "a", pair(), model_name="meta/base"))
    assert found.base.id == "meta/base"
    adaptr.save(found, tmp_path / "b.safetensors")
    assert adaptr.load(tmp_path / "b.safetensors").foreign["adapterhub"]["config"]["name"] == "mine"


def test_a_direction_is_another_for_each_base(shared: Path) -> None:
    with pytest.raises(e.ConfigMissing, match="DoRA is another one for each base"):
        adaptr.load(there(shared, "llama", "dora") / "st")


def test_how_many_heads_a_prefix_is_for_only_the_base_says(shared: Path) -> None:
    with pytest.raises(e.ConfigMissing, match="how many heads"):
        adaptr.load(there(shared, "llama", "prefix") / "bin")


@pytest.mark.parametrize(
    ("config", "tensors", "error", "match"),
    [
        (LORA, {**pair(), "model.norm.weight": torch.ones(4)}, e.TensorUnknown, "`model.norm.weight` is no tensor"),
        (LORA, {**pair(), **pair(Q.replace("mine", "other"))}, e.ConfigConflict, "several adapters, mine, other"),
        (LORA, {**pair(), "x.adapters.mine.a": torch.ones(4)}, e.TensorUnknown, "belongs to no method"),
        (LORA, pair(r=3), e.ConfigConflict, "rank 2, as the configuration says"),
        ({**LORA, "rank_stabilised": True}, pair(), e.Unsupported, "`rank_stabilised` of the configuration is `True`"),
        ({**LORA, "architecture": "side"}, pair(), e.Unsupported, "no method for AdapterHub's `side`"),
        ({"architecture": "union", "configs": [LORA, LORA]}, pair(), e.Unsupported, "two configurations of"),
        ({"architecture": "union", "configs": LORA}, pair(), e.ConfigConflict, "`configs`"),
        ("pfeiffer", pair(), e.ConfigConflict, "`config`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(
    config: Any, tensors: dict[str, Tensor], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(saved(tmp_path, tensors, config))


BOTTLENECK = {"mh_adapter": False, "output_adapter": True, "non_linearity": "relu", "original_ln_before": True}
OUTPUT = "model.layers.0.output_adapters.adapters.mine"


def bottleneck(path: str = OUTPUT) -> dict[str, Tensor]:
    sizes = {"adapter_down.0.weight": (2, 4), "adapter_down.0.bias": (2,), "adapter_up.weight": (4, 2),
             "adapter_up.bias": (4,)}  # fmt: skip
    return {f"{path}.{slot}": torch.randn(size) for slot, size in sizes.items()}


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        ({"non_linearity": "mish"}, e.Unsupported, "the non-linearity is `mish`"),
        ({"residual_before_ln": "post_add"}, e.Unsupported, "`residual_before_ln`"),
        ({"original_ln_after": False}, e.Unsupported, "`original_ln_after`"),
        ({"use_gating": True}, e.Unsupported, "`use_gating`"),
        ({"cross_adapter": True}, e.Unsupported, "`cross_adapter`"),
    ],
)
def test_another_bottleneck_is_refused(
    said: dict[str, Any], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(saved(tmp_path, bottleneck(), {**BOTTLENECK, **said}))


def test_where_a_model_has_its_bottlenecks_is_known_or_refused(tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=r"in a model of type `phi`.*it knows"):
        adaptr.load(saved(tmp_path, bottleneck(), BOTTLENECK, model_type="phi"))
    with pytest.raises(e.TensorUnknown, match="no module that has bottlenecks in a model of type `llama`"):
        adaptr.load(saved(tmp_path, bottleneck("model.adapters.mine"), BOTTLENECK))


def test_a_factor_goes_into_the_second_layer(tmp_path: Path) -> None:
    plain, tensors = adaptr.load(saved(tmp_path / "a", bottleneck(), BOTTLENECK)), bottleneck()
    for name, scaling in (("b", 2.0), ("c", None)):
        own = {} if scaling else {f"{OUTPUT}.scaling": torch.full((4,), 2.0)}
        said = {**BOTTLENECK, "scaling": scaling or "channel"}
        found = adaptr.load(saved(tmp_path / name, {**tensors, **own}, said))
        assert found.config == plain.config
        torch.testing.assert_close(found.at("model.layers.0.mlp")["U"], 2 * tensors[f"{OUTPUT}.adapter_up.weight"])


def test_what_lies_beside_is_no_adapter(shared: Path) -> None:
    folder = there(shared, "bert", "double_seq_bn") / "bin"
    with pytest.warns(e.WeightsIgnored, match=r"`pytorch_model_head.bin`; they are not used"):
        adaptr.load(folder)
    with pytest.raises(e.UnknownFormat, match="an AdapterHub prediction head"):
        adaptr.load(folder / "pytorch_model_head.bin")


def kronecker(path: str, rules: bool, n: int = 2) -> dict[str, Tensor]:
    """Of a width of 4 and 2 inside: a rule for each projection, or none."""
    sizes = {"adapter_down.0": (2, 1), "adapter_up": (1, 2)}
    found = {f"{path}.adapter_down.0.b": torch.randn(2), f"{path}.adapter_up.b": torch.randn(4)}
    for at, (rows, columns) in sizes.items():
        found |= {f"{path}.{at}.W_left": torch.randn(n, rows, 1), f"{path}.{at}.W_right": torch.randn(n, 1, columns)}
        found |= {f"{path}.{at}.phm_rule": torch.randn(n, n, n)} if rules else {}
    return found


def test_projections_with_rules_of_their_own_are_phm(tmp_path: Path) -> None:
    config = {**BOTTLENECK, "phm_layer": True, "shared_phm_rule": False, "original_ln_before": False}
    tensors = kronecker(OUTPUT, rules=True)
    found = adaptr.load(saved(tmp_path, tensors, config))
    assert found.method == "phm"
    left, right = (tensors[f"{OUTPUT}.adapter_up.W_{side}"] for side in ("left", "right"))
    torch.testing.assert_close(found.at("model.layers.0.mlp")["B_u"], left @ right)


def test_rules_that_are_not_there_can_not_be_had(tmp_path: Path) -> None:
    config = {**BOTTLENECK, "phm_layer": True, "shared_phm_rule": True}
    with pytest.raises(e.TensorAbsent, match="no `phm_rule`, which all its layers share"):
        adaptr.load(saved(tmp_path, kronecker(OUTPUT, rules=False), config))


def test_which_intervention_it_is_is_not_guessed(shared: Path) -> None:
    for case in ("noreft", "direft"):
        with pytest.raises(e.ConfigMissing, match=r"NoReFT or DiReFT.*`--reft noreft`"):
            adaptr.load(there(shared, "llama", case) / "st")
    with pytest.raises(e.UsageError, match="says which intervention it is"):
        adaptr.load(adaptr.source(there(shared, "llama", "loreft") / "st", reft="direft"))
    with pytest.raises(e.UsageError, match="it has no intervention"):
        adaptr.load(adaptr.source(there(shared, "llama", "lora") / "st", reft="direft"))
    with pytest.raises(e.UsageError, match="one of noreft, direft"):
        adaptr.source(there(shared, "llama", "direft") / "st", reft="loreft")


@HEADS
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", READ)
def test_there_and_back_it_does_the_same(
    model: str, case: str, models: dict[str, Any], shared: Path, tmp_path: Path
) -> None:
    folder, host = there(shared, model, case), models[model]
    found = loaded(folder / "bin", case, host)
    if found.replaced_paths:
        with pytest.raises(e.LossyConversion, match="the whole parameter"):
            foreign.get("adapterhub").write(found, tmp_path / "out")
        return
    if case == "direft":
        with pytest.raises(e.Unsupported, match="its library reads the files of DiReFT as NoReFT"):
            foreign.get("adapterhub").write(found, tmp_path / "out")
        return
    foreign.get("adapterhub").write(found, tmp_path / "out")
    back = adaptr.load(tmp_path / "out", host)
    assert back.method == found.method
    ids = torch.arange(1, 13).view(2, 6)
    outs = []
    for one in (found, back):
        with torch.no_grad(), adaptr.attach(host, one):
            outs.append(host(input_ids=ids)[0])
    torch.testing.assert_close(outs[0], outs[1], atol=1e-5, rtol=0)


def test_what_the_base_is_must_be_known_to_write(tmp_path: Path) -> None:
    found = adaptr.load(saved(tmp_path / "a", pair()))
    with pytest.raises(e.ConfigMissing, match=r"which layers a base has.*`--base`"):
        foreign.get("adapterhub").write(found, tmp_path / "out")


@pytest.mark.parametrize(
    ("method", "targets", "config", "error", "match"),
    [
        ("lora", ["o_proj"], {}, e.Unsupported, "`self_attn.o_proj` is where AdapterHub has no LoRA"),
        ("lora", ["lm_head"], {}, e.Unsupported, "`lm_head` is in no layer"),
        ("lora", ["re:.*0.self_attn.q_proj", "re:.*1.self_attn.v_proj"], {}, e.Unsupported, "same modules in every"),
        ("ia3", ["down_proj"], {}, e.Unsupported, "scales outputs, and this an input"),
        ("parallel", None, {}, e.Unsupported, "reads `model.layers.0.mlp`, and AdapterHub's"),
        ("prefix", None, {"position_offset": "shift"}, e.Unsupported, "`position_offset` shift"),
        ("loreft", None, {}, e.Unsupported, "finish its training"),
        ("vera", None, {}, e.Unsupported, "AdapterHub has no equivalent of `vera`"),
    ],
)
def test_what_has_no_place_there_is_refused(
    method: str, targets: Any, config: dict[str, Any], error: type[Exception], match: str, tmp_path: Path
) -> None:
    model = tiny_llama()
    form = foreign.get("adapterhub")
    with pytest.raises(error, match=match):
        form.write(form.based(adaptr.create(model, method, targets, **config), model), tmp_path / "out")


def test_sizes_are_what_a_width_is_divided_by() -> None:
    for width in (40, 48, 768, 1000):
        for m in range(1, width + 1, 1 + width // 50):
            assert int(width // _factor(width, m)) == m
