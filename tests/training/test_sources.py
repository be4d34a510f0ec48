"""Prompts that learn of those of several tasks, as MPT's teachers and IPT's subspace, and rows inside a template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import kl_div
from transformers import AutoModelForCausalLM

import adaptr
import tiny
from adaptr import plugins
from adaptr.data.records import Place, Record
from adaptr.errors import BadRecord, Unsupported, UsageError
from adaptr.tasks.base import Encoded
from adaptr.testing import assert_close, shaken
from adaptr.training.learning import dataset

SMALL: dict[str, Any] = {"rate": 0.02, "samples": 0, "batch": 4}
IDS = torch.tensor([[5, 9, 4, 7], [4, 8, 1, 6], [11, 3, 9, 5]])
TASKS = torch.tensor([1, 0, 1])


@pytest.fixture(scope="module")
def teachers(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Prompts of two tasks, `up` and `down`, a little trained."""
    folder = tmp_path_factory.mktemp("teachers")
    for seed, name in enumerate(("up", "down")):
        rows = [one for one in ROWS if one["task"] == name]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        given = {"method": "prompt", "config": {"tokens": 3}, "seed": seed, **SMALL, "rate": 0.1}
        adaptr.fit(base, folder / f"{name}.jsonl", folder / f"{name}.safetensors", steps=8, **given)
    return [str(folder / f"{name}.safetensors") for name in ("up", "down")]


ROWS = [
    {"prompt": f"w{i} w{i + way} ", "completion": f"w{i + 2 * way} w{i + 3 * way}", "task": name}
    for i in range(10, 30)
    for name, way in (("up", 1), ("down", -1))
]


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    return file


@pytest.mark.parametrize(
    ("method", "config", "kept"),
    [
        ("mpt", {}, {":P", ":U", ":V"}),
        ("ipt", {"stage": "subspace", "intrinsic": 2, "hidden": 8, "steps": 50}, {":z", ":D1", ":d1", ":D2", ":d2"}),
    ],
)
def test_a_source_stage_is_trained_and_a_target_goes_on_from_it(
    base: Path, data: Path, mixture: Path, teachers: list[str], tmp_path: Path, method: str, config: Any, kept: set[str]
) -> None:
    out = tmp_path / "source.safetensors"
    report = adaptr.fit(base, mixture, out, method=method, config=config, over=teachers, steps=12, **SMALL)
    assert report.after["loss"] < report.before["loss"]
    source = adaptr.load(out)
    assert ({*source.tensors}, source.config["sources"]) == (kept, [])
    assert [one["name"] for one in source.lineage["parents"]] == ["up", "down"]
    assert len(source.training["recipe"]["over"]) == 2
    target = adaptr.fit(base, data, adapter=out, steps=8, **SMALL)
    assert target.after["loss"] < target.before["loss"]
    assert {*target.adapter.tensors} == {":P"}


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_students_are_told_from_their_teachers_row_by_row(name: str) -> None:
    """Written out: each row with its own prompt in front, by the bare model."""
    model = tiny.model(name)
    prompts = {n: shaken(adaptr.create(model, "prompt", tokens=2, seed=s), s, by=0.5) for s, n in enumerate("ab")}
    ahead = 0 if name == "t5" else 1
    adapter = shaken(adaptr.create(model, "mpt", children=prompts, r=2, distill=0.5, ahead=ahead), by=0.3)
    t = adapter.at("")
    T, own = t["T"][TASKS], t["P"] * (t["U"][TASKS] @ t["V"][TASKS])
    assert_close(T[1], prompts["a"].tensors[":P"])
    labels = IDS.clone()
    labels[:, :2] = -100
    with adaptr.train(model, adapter) as session:
        model.eval()  # no dropout, which each forward draws for itself

        def run() -> Any:
            output = model(input_ids=IDS, labels=labels)
            return output.loss, output

        with session.saying(tasks=TASKS):
            found = session.objective(run)
        found.backward()
        assert {key for key, p in session.named().items() if bool(p.grad.any())} == {":P", ":U", ":V"}
    taught, student = (_bare(model, P, labels, ahead) for P in (T, own))
    at = labels != -100 if name == "t5" else torch.nn.functional.pad(labels[:, 1:] != -100, (0, 1))
    p, q = (_text(one.logits, ahead).log_softmax(-1)[at] for one in (taught, student))
    h, g = (_text(_last(one), ahead) for one in (taught, student))
    real = at if name == "t5" else torch.ones_like(at)
    wanted = student.loss + 0.5 * (
        kl_div(q, p, log_target=True, reduction="batchmean") + (h - g)[real].square().mean(-1).mean()
    )
    assert_close(found, wanted)


def _bare(model: Any, P: torch.Tensor, labels: torch.Tensor, ahead: int = 0) -> Any:
    two = model.config.is_encoder_decoder
    h = (model.get_encoder() if two else model).get_input_embeddings()(IDS)
    h = torch.cat([h[:, :ahead], P, h[:, ahead:]], 1)
    if not two:
        labels = torch.cat([labels[:, :ahead], labels.new_full(P.shape[:2], -100), labels[:, ahead:]], 1)
    with torch.no_grad():
        return model(inputs_embeds=h, labels=labels, output_hidden_states=True)


def _text(values: torch.Tensor, ahead: int) -> torch.Tensor:
    """Without the columns of the prompt."""
    return torch.cat([values[:, :ahead], values[:, values.shape[1] - IDS.shape[1] + ahead :]], 1)


def _last(output: Any) -> torch.Tensor:
    return (output.get("decoder_hidden_states") or output["hidden_states"])[-1]


def test_a_subspace_is_learned_by_what_comes_back_of_each_rows_prompt() -> None:
    model = tiny.model("llama")
    prompts = {n: shaken(adaptr.create(model, "prompt", tokens=2, seed=s), s, by=0.5) for s, n in enumerate("ab")}
    said = {"stage": "subspace", "intrinsic": 3, "hidden": 8, "steps": 5, "alpha": 2.0}
    adapter = shaken(adaptr.create(model, "ipt", children=prompts, **said), by=0.1)
    t = adapter.at("")
    back = [
        t["F2"] @ torch.tanh(t["F1"] @ (t["E"].flatten(1) @ S.flatten() + t["e"]) + t["f1"]) + t["f2"] for S in t["S"]
    ]
    P = torch.stack(back)
    labels = IDS
    with adaptr.train(model, adapter) as session:
        model.eval()
        with session.saying(tasks=TASKS):
            found = session.objective(lambda: ((out := model(input_ids=IDS, labels=labels)).loss, out))
        done = session.finish()
    assert_close(found, _bare(model, P[TASKS], labels).loss + 2.0 * (P - t["S"]).square().mean())
    method: Any = plugins.method("ipt")
    fronts = [method.front(one.at(""), method.config(one.config))["P"] for one in (adapter, done)]
    assert_close(*fronts)


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"method": "mpt", "config": {"sources": ["a"]}}, UsageError, "none was given; name them by `over`"),
        ({"method": "ipt", "config": {"stage": "subspace"}}, UsageError, "none was given; name them by `over`"),
        ({"method": "mpt", "over": True, "pack": True}, UsageError, "a row each; leave `pack` out"),
    ],
)
def test_what_has_no_sources_is_refused(
    base: Path, mixture: Path, teachers: list[str], fields: dict[str, Any], error: type[Exception], said: str
) -> None:
    given = {**fields, **({"over": teachers} if "over" in fields else {})}
    with pytest.raises(error, match=said):
        adaptr.fit(base, mixture, steps=1, **given, **SMALL)


@pytest.mark.parametrize(
    ("rows", "said"), [(ROWS[:1], "`task` is `up`, wanted one of a, down"), ([{"text": "w1"}], "`task` is missing")]
)
def test_a_record_says_whose_it_is(rows: list[dict[str, str]], said: str) -> None:
    records = [Record(one, Place("a", 1)) for one in rows]
    with pytest.raises(BadRecord, match=said):
        dataset([Encoded({"input_ids": [1]}, one) for one in records], "sft", ["a", "down"])


def test_what_teaches_is_prompts_of_one_length() -> None:
    model = tiny.model("llama")
    prompts = [adaptr.create(model, "prompt", tokens=n) for n in (2, 3)]
    with pytest.raises(Unsupported, match="prompts of one length is 2, 3 tokens"):
        adaptr.create(model, "mpt", children=dict(zip("ab", prompts, strict=True)))


@pytest.mark.parametrize("method", ["mpt", "ipt"])
def test_what_teaches_stands_where_it_is_learned_of(method: str) -> None:
    model, sizes = tiny.model("llama"), {} if method == "mpt" else {"intrinsic": 2, "hidden": 4, "steps": 1}
    prompts = {name: adaptr.create(model, "prompt", tokens=2, ahead=1, seed=seed) for seed, name in enumerate("ab")}
    with pytest.raises(Unsupported, match=r"stands elsewhere .`ahead`.: .* learns of prompts that stand where it does"):
        adaptr.create(model, method, children=prompts, **sizes)
    if method == "mpt":
        assert adaptr.create(model, method, children=prompts, ahead=1).config["ahead"] == 1


def test_rows_inside_a_template_learn(base: Path, tmp_path: Path) -> None:
    """The paper's (1, 2) around a word and an anchor."""
    rows = [{"prompt": f"w59 w{i} w3 w59 w59 ", "completion": f"w{i + 1}"} for i in range(10, 34)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = {"marker": "w59", "tokens": 3, "hidden": 8}
    given = {"method": "p-tuning", "config": config, "steps": 10, **SMALL}
    report = adaptr.fit(base, tmp_path / "rows.jsonl", tmp_path / "a.safetensors", **given)
    assert report.after["loss"] < report.before["loss"]
    adapter, model = adaptr.load(report.out), AutoModelForCausalLM.from_pretrained(base)
    assert ({*adapter.tensors}, adapter.config["slot"]) == ({":P"}, 63)
    with torch.no_grad(), adaptr.attach(model, adapter):
        said = [
            model.generate(torch.tensor([[63, 14, 7, 63, 63]]), max_new_tokens=4, use_cache=on) for on in (True, False)
        ]
    assert torch.equal(*said)
