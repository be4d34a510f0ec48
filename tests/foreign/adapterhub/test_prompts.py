"""AdapterHub's prompts, whose rows are behind the embeddings' norm and positions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import adaptr
from adaptr import errors as e
from adaptr import foreign
from adaptr.testing import shaken, tiny_llama
from hub_folders import headed, saved, there

PROMPT = {"architecture": "prompt_tuning", "prompt_length": 3, "combine": "prefix"}
KEY = "prompt_tuning.prompt_tunings.mine.prompt_embedding.weight"


@pytest.mark.filterwarnings("ignore::adaptr.errors.WeightsIgnored")
@pytest.mark.parametrize("container", ["bin", "st"])
def test_a_prompt_does_what_it_does_there(container: str, models: dict[str, Any], shared: Path) -> None:
    """Its head reads the first row there is, which is the prompt's."""
    folder, host = there(shared, "bert", "prompt"), models["bert"]
    want = load_file(folder / "expected.safetensors")
    found = adaptr.load(folder / container, host)
    assert (found.method, found.config["place"], found.config["tokens"]) == ("prompt", "embeddings", 4)
    rows: list[Tensor] = []
    hook = host.encoder.register_forward_hook(lambda module, args, output: rows.append(output[0]))
    with torch.no_grad(), adaptr.attach(host, found):
        out = host(input_ids=want["input_ids"], attention_mask=want["attention_mask"])[0]
    hook.remove()
    assert out.shape[1] == want["input_ids"].shape[1]
    logits = headed(rows[0], folder / "bin", want["input_ids"], "bert")
    torch.testing.assert_close(logits, want["out"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("ahead", [0, 1])
def test_there_and_back_it_is_the_same(ahead: int, models: dict[str, Any], tmp_path: Path) -> None:
    host, form = models["bert"], foreign.get("adapterhub")
    made = shaken(adaptr.create(host, "prompt", tokens=3, place="embeddings", ahead=ahead))
    form.write(form.based(made, host), tmp_path / "out")
    back = adaptr.load(tmp_path / "out", host)
    assert torch.equal(back.tensors[":P"], made.tensors[":P"])
    assert {name: back.config[name] for name in ("tokens", "place", "ahead")} == {
        "tokens": 3, "place": "embeddings", "ahead": ahead,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "said", "rows", "match"),
    [
        ("vit", PROMPT, 3, "AdapterHub's prompts of texts"),
        ("bert", {**PROMPT, "combine": "suffix"}, 3, "`combine` is `suffix`"),
        ("albert", PROMPT, 3, "as its words, and the model's layers 8"),
    ],
)
def test_what_it_has_besides_is_refused(kind: str, said: dict[str, Any], rows: int, match: str, tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=match):
        adaptr.load(
            saved(
                tmp_path / "a",
                {KEY: torch.randn(rows, 4)},
                said,
                model_type=kind,
                hidden_size=8 if kind == "albert" else 4,
            )
        )


def test_a_prompt_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(e.ConfigConflict, match="3 rows, as the configuration says"):
        adaptr.load(saved(tmp_path / "a", {KEY: torch.randn(2, 4)}, PROMPT, model_type="bert"))


@pytest.mark.parametrize(
    ("place", "match"), [("words", "behind the embeddings' norm"), ("embeddings", "has no prompts")]
)
def test_what_has_no_place_there_is_not_written(place: str, match: str, tmp_path: Path) -> None:
    model, form = tiny_llama(), foreign.get("adapterhub")
    made = adaptr.create(model, "prompt", tokens=2)
    made = made.replace(targets={"": replace(made.targets[""], config={**made.config, "place": place})})
    with pytest.raises(e.Unsupported, match=match):
        form.write(form.based(made, model), tmp_path / "out")
