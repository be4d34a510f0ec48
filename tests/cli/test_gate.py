from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from adaptr import api
from adaptr.cli import gate_page
from adaptr.runtime.scalings import scalings
from adaptr.sources.given import by_name, several
from adaptr.testing import assert_close, logits, shaken
from browser import browse, needs_browser

LINES = [f"w{i} w{i + 1}\tw{i + 2} w{i + 3}" for i in range(20)]
SMALL = ("--steps", "12", "--rate", "0.05", "--json")


@pytest.fixture(scope="module")
def experts(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters: two LoRAs and a LoHa, on different layers."""
    folder, model = tmp_path_factory.mktemp("experts"), LlamaForCausalLM.from_pretrained(llama)
    found = []
    for seed, (name, method, targets) in enumerate(
        [("Law v2", "lora", ["attn.q", "mlp.down"]), ("code", "loha", ["attn.q"]), ("art", "lora", ["mlp.down"])]
    ):
        file = folder / f"{name}.safetensors"
        api.save(shaken(api.create(model, method, targets, r=2), seed, 0.3), file)
        found.append(file)
    return found


def named(experts: list[Path | str]) -> dict[str, Path | str]:
    return {name: each.what.given for name, each in by_name(several(experts)).items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "pairs.tsv"
    file.write_text("\n".join(LINES))
    return file


@pytest.fixture(scope="module")
def gate(llama: Path, experts: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = LlamaForCausalLM.from_pretrained(llama)
    children = {name: api.load(file) for name, file in named(experts).items()}
    file = tmp_path_factory.mktemp("gate") / "gate.safetensors"
    api.save(shaken(api.create(model, "xlora", children=children), 3, 0.5), file)
    return file


@pytest.mark.parametrize("method", ["xlora", "lora-soups"])
def test_train_learns_and_says_what_it_brought(
    adaptr: Callable, llama: Path, experts: list[Path], data: Path, tmp_path: Path, method: str
) -> None:
    out = tmp_path / "gate.safetensors"
    line = ("gate", "train", llama, "--experts", *experts, "--data", data, "--method", method)
    ran = adaptr(*line, "-o", out, *SMALL)
    report = ran.json
    assert (report["examples"], report["held_out"], report["steps"]) == (18, 2, 12)
    assert list(report["experts"]) == ["law-v2", "code", "art"]
    assert set(report["losses"]) == {
        "base", "law-v2 alone", "code alone", "art alone", "gate, fresh", "gate, trained"
    }  # fmt: skip
    loaded = api.load(out)
    assert loaded.config["experts"] == ["law-v2", "code", "art"]
    assert loaded.training["steps"] == 12
    assert loaded.name == "gate"
    again = tmp_path / "again" / "gate.safetensors"
    again.parent.mkdir()
    assert adaptr(*line, "-o", again, *SMALL).json["digest"] == report["digest"], "the same call, the same bytes"
    model = LlamaForCausalLM.from_pretrained(llama)
    made = api.create(model, method, children={n: api.load(f) for n, f in named(experts).items()})
    changed = {k for k in made.own if not torch.equal(made.own[k], loaded.tensors[k])}
    assert changed == set(made.own)
    assert adaptr("apply", llama, out, "--prompt", "w1 w2").code == 0
    assert "gate, trained" in adaptr(*line, "-o", out, *SMALL[:-1], "--force").out


def test_training_lowers_the_loss_on_what_it_learns_from(
    adaptr: Callable, llama: Path, experts: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "same.jsonl"
    file.write_text("\n".join([json.dumps({"prompt": "w1 w2", "completion": "w3 w4 w5"})] * 10))
    line = ("gate", "train", llama, "--experts", *experts, "--data", file, "-o", tmp_path / "g.safetensors")
    losses = adaptr(*line, "--steps", "40", "--rate", "0.1", "--set", "dropout=0", "--json").json["losses"]
    assert losses["gate, trained"] < losses["gate, fresh"]
    assert losses["gate, trained"] < min(losses["base"], *(v for k, v in losses.items() if k.endswith("alone")))


def test_fields_of_the_method_are_set_and_checked(
    adaptr: Callable, llama: Path, experts: list[Path], data: Path, tmp_path: Path
) -> None:
    line = ("gate", "train", llama, *experts, "--data", data, "-o", tmp_path / "g.safetensors", "--steps", "1")
    assert adaptr(*line, "--set", "depth=2", "--set", "size=8", "--set", "layerwise=false", "--json").code == 0
    assert api.load(tmp_path / "g.safetensors").tensors[":W"].shape == (3, 8)
    force = (*line, "--force", "--json")
    assert adaptr(*force, "--set", "depht=2").refused == (2, "BadConfig")
    assert adaptr(*force, "--set", "depth").refused == (2, "UsageError")
    assert adaptr(*force, "--held-out", "1").refused == (2, "UsageError")
    assert adaptr(*line, "--json").refused == (2, "OutputExists")


@pytest.mark.parametrize(
    ("name", "text"), [("a.tsv", "no tab here"), ("a.tsv", "a\tb\tc"), ("a.jsonl", "{}"), ("a.txt", "\n\n")]
)
def test_data_that_is_none_is_refused(
    adaptr: Callable, llama: Path, experts: list[Path], tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    line = ("gate", "train", llama, "--experts", *experts, "--data", tmp_path / name, "-o", tmp_path / "g", "--json")
    assert adaptr(*line).refused == (3, "InputError")
    assert not (tmp_path / "g").exists()


def test_no_expert_or_one_that_is_no_delta_is_refused(
    adaptr: Callable, llama: Path, lora: Path, houlsby: Path, data: Path, tmp_path: Path
) -> None:
    line = ("gate", "train", llama, "--data", data, "-o", tmp_path / "g", "--json")
    assert adaptr(*line).refused == (2, "UsageError")
    assert adaptr(*line, "--experts", lora).refused == (2, "UsageError")
    assert adaptr(*line, "--experts", lora, houlsby).refused == (5, "Unsupported")


def test_experts_are_called_as_their_files_are() -> None:
    found = named(["a/Law v2.safetensors", "b/law_v2/", "c/law-v2.adaptr.safetensors", "__", "x/law-v2"])
    assert list(found) == ["law-v2", "law_v2", "law-v2-2", "adapter", "law-v2-3"]


def test_show_gives_the_weights_of_each_token_and_layer(adaptr: Callable, llama: Path, gate: Path) -> None:
    ran = adaptr("gate", "show", gate, llama, "--prompt", "w1 w2 w3", "--json")
    found = ran.json
    assert found["tokens"] == ["w1", "w2", "w3"]
    assert found["experts"] == ["law-v2", "code", "art"]
    assert found["sites"] == api.load(gate).config["sites"]
    values = torch.tensor(found["values"])
    assert values.shape == (4, 3, 3)
    assert_close(values.sum(-1), torch.ones(4, 3))
    model = LlamaForCausalLM.from_pretrained(llama)
    hidden = model.model(torch.tensor([[5, 6, 7]])).last_hidden_state
    own = api.load(gate).own
    z = torch.nn.functional.linear(hidden, own[":W"], own[":b"]).view(3, 4, 3).softmax(-1)
    assert_close(values, z.transpose(0, 1))
    assert found["absent"][0] == ["art"]
    text = adaptr("gate", "show", gate, llama, "--prompt", "w1 w2 w3").out
    assert "3 experts at 4 places" in text


def test_what_is_no_gate_has_no_weights_to_show(adaptr: Callable, llama: Path, lora: Path, gate: Path) -> None:
    assert adaptr("gate", "show", lora, llama, "--prompt", "w1", "--json").refused == (2, "UsageError")
    assert adaptr("gate", "show", gate, llama, "--prompt", "", "--json").refused == (2, "UsageError")


def test_recording_leaves_the_model_as_it_was(llama: Path, gate: Path) -> None:
    from adaptr.runtime.scalings import recorded

    model = LlamaForCausalLM.from_pretrained(llama).eval()
    ids = torch.tensor([[5, 6, 7]])
    with api.attach(model, api.load(gate)) as handle, torch.no_grad():
        before = logits(model(ids))
        with recorded(handle) as log:
            model(ids)
            model(ids[:, :2])
        assert [w.shape for w in next(iter(log.values()))] == [(1, 3, 3), (1, 2, 3)]
        assert torch.equal(logits(model(ids)), before)


def test_the_page_is_whole_and_the_same_each_time(adaptr: Callable, llama: Path, gate: Path, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="no vl-convert to make the page with")
    file = tmp_path / "gate.html"
    assert adaptr("gate", "show", gate, llama, "--prompt", "w1 </script>", "--html", file).code == 0
    text = file.read_text(encoding="utf-8")
    assert "{{" not in text.partition("</style>")[0]
    assert text.count("</script>") == 3
    assert text == gate_page.page(scalings(gate, llama, "w1 </script>"))
    again = ("gate", "show", gate, llama, "--prompt", "w1", "--html", file, "--json")
    assert adaptr(*again).refused == (2, "OutputExists")


@needs_browser
def test_the_page_draws_itself(llama: Path, gate: Path, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="no vl-convert to make the page with")
    file = tmp_path / "gate.html"
    file.write_text(gate_page.page(scalings(gate, llama, "w1 w2 w3 w4")), encoding="utf-8")
    dom = browse(file, tmp_path / "profile", "--dump-dom")
    assert dom.partition('<script type="application/json"')[0].count("<svg") == 3
    assert dom.count('class="tile"') == 3
    assert "<option>self_attn.q_proj</option>" in dom
    assert dom.count('aria-roledescription="bar"') == 4 * 3
