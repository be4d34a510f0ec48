"""`adaptr train`: options, recipes, what is said where, exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptr import api
from adaptr.cli.training import _said
from adaptr.training.fields import fields
from adaptr.training.schema import schema
from adaptr.training.watching import Point

ROWS = [{"question": f"w{i} w{i + 1} ", "answer": f"w{i + 2} w{i + 3}"} for i in range(16)]
COLUMNS = ("--map", "prompt=question", "--map", "completion=answer")
SMALL = ("--steps", "4", "--rate", "0.02", "--set", "r=4", "--samples", "0", *COLUMNS)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    return file


def test_an_adapter_is_trained_and_compared_with_the_base(
    adaptr: Callable, llama: Path, rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.safetensors"
    ran = adaptr("train", llama, "--data", rows, "--valid", "25%", *SMALL, "-o", out)
    assert ran.code == 0, ran.err
    assert "4 records of the validation data" in ran.out
    assert "step 4 of 4: loss" in ran.err
    assert "rate" in ran.err
    assert api.load(out).training["steps"] == 4


def test_quiet_says_nothing_and_json_one_object(adaptr: Callable, llama: Path, rows: Path, tmp_path: Path) -> None:
    quiet = adaptr("train", llama, "--data", rows, *SMALL, "-o", tmp_path / "a.safetensors", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    found = adaptr("train", llama, "--data", rows, *SMALL, "-o", tmp_path / "a.safetensors", "--force", "--json")
    assert found.err == ""
    assert found.json["steps"] == 4
    assert found.json["recipe"]["config"] == {"r": 4}


def test_the_command_that_is_said_does_it_again(adaptr: Callable, llama: Path, rows: Path, tmp_path: Path) -> None:
    import shlex

    out = tmp_path / "a.safetensors"
    first = adaptr("train", llama, "--data", rows, *SMALL, "-o", out, "--json").json
    program, *arguments = shlex.split(first["command"])
    assert program == "adaptr"
    again = adaptr(*arguments, "--force", "--json").json
    assert again["digest"] == first["digest"]
    assert again["command"] == first["command"]


def test_a_recipe_is_a_file(adaptr: Callable, llama: Path, rows: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"base: {llama}\ndata: {rows}\nsteps: 4\nrate: 2e-2\nconfig: {{r: 4}}\nsamples: 0\n"
        "map: {prompt: question, completion: answer}\n"
    )
    by_file = adaptr("train", recipe, "-o", tmp_path / "a.safetensors", "--json")
    by_options = adaptr("train", llama, "--data", rows, *SMALL, "-o", tmp_path / "b" / "a.safetensors", "--json")
    assert by_file.json["digest"] == by_options.json["digest"]
    assert adaptr("train", recipe, "--steps", "5", "-o", tmp_path / "c", "--json").refused == (2, "UsageError")


def test_what_is_wrong_in_a_recipe_has_its_line(adaptr: Callable, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("base: m\ndata: d\nsteps: none\n")
    ran = adaptr("train", recipe, "-o", tmp_path / "a", "--json")
    assert ran.refused == (3, "RecipeError")
    assert "line 3: `steps`" in ran.json["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--rate", "-1"), (2, "BadConfig")),
        (("--set", "rank=4"), (2, "BadConfig")),
        (("--method", "nothing"), (2, "UnknownMethod")),
        (("--valid", "100%"), (2, "UsageError")),
        (("--map", "prompt"), (2, "UsageError")),
        (("--map", "prompt=quest"), (3, "BadRecord")),
        (("--steps", "x"), (2, "UsageError")),
        (("--dtype", "fp16", "--device", "cpu", *COLUMNS), (8, "MachineError")),
        (("--optimizer", "paged_adamw_8bit", "--device", "cpu", *COLUMNS), (8, "MachineError")),
    ],
)
def test_what_is_wrong_ends_with_its_code(
    adaptr: Callable, llama: Path, rows: Path, tmp_path: Path, arguments: tuple[str, ...], code: tuple[int, str]
) -> None:
    out = tmp_path / "a.safetensors"
    assert adaptr("train", llama, "--data", rows, *arguments, "-o", out, "--json").refused == code
    assert not out.exists()


def test_an_output_is_wanted(adaptr: Callable, llama: Path, rows: Path) -> None:
    assert adaptr("train", llama, "--data", rows, "--json").refused == (2, "UsageError")


def test_the_schema_is_printed(adaptr: Callable) -> None:
    assert adaptr("train", "--schema").json == json.loads(json.dumps(schema()))


def test_a_dry_run_says_what_would_be_trained_and_loads_neither_torch_nor_transformers(
    llama: Path, rows: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from adaptr.cli import run; code = run(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'numpy'} & set(sys.modules); "
        "sys.exit(f'{sorted(heavy)}' if heavy else code)"
    )
    arguments = ["train", str(llama), "--data", str(rows), *COLUMNS, "--epochs", "2", "--json"]
    done = subprocess.run([sys.executable, "-c", code, *arguments, "--dry-run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: Any = json.loads(done.stdout)
    assert (found["steps"], found["data"]["records"], found["architecture"]) == (8, 16, "LlamaForCausalLM")
    assert found["parameters"] > 0
    assert found["memory"]["peak"] > found["memory"]["weights"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--dry-run", "--rate", "0"], capture_output=True, text=True
    )
    assert json.loads(done.stdout)["error"]["type"] == "BadConfig"


def test_an_interrupt_ends_with_130_and_says_how_to_go_on(
    adaptr: Callable, llama: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptr.training.callbacks import Points

    told = Points.on_log

    def interrupting(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        told(self, args, state, control, **more)
        if state.global_step == 1:
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "a.safetensors"
    monkeypatch.setattr(Points, "on_log", interrupting)
    ran = adaptr("train", llama, "--data", rows, *SMALL, "-o", out)
    monkeypatch.undo()
    assert ran.code == 130
    assert "stopped after step 2 of 4" in ran.err
    assert "--resume" in ran.err
    assert adaptr("train", llama, "--data", rows, *SMALL, "-o", out, "--resume").code == 0
    whole = tmp_path / "whole" / "a.safetensors"
    adaptr("train", llama, "--data", rows, *SMALL, "-o", whole)
    assert out.read_bytes() == whole.read_bytes()


def test_each_field_of_a_recipe_is_an_option(adaptr: Callable) -> None:
    said = adaptr("train", "--help").out
    for name in fields().keys() - {"base", "config"}:
        assert f"--{name.replace('_', '-')} " in said


def test_inspect_says_what_was_chosen(adaptr: Callable, llama: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    adaptr("train", llama, "--data", rows, *SMALL, "-o", out)
    lines = {
        name: rest.strip() for name, _, rest in (x.partition(" ") for x in adaptr("inspect", out).out.splitlines())
    }
    names = "map (completion=answer, prompt=question)"
    chosen = f"config (r=4), device=cpu, dtype=fp32, {names}, rate=0.02, samples=0, steps=4, task=lm"
    assert lines["recipe"] == chosen
    assert lines["measured"].startswith("after (loss=")


def test_a_slow_training_is_not_said_to_stand_still() -> None:
    said = [_said(Point(2, 4, 1.0, 1e-3, speed)) for speed in (0.4, 45.2, 4526.0, None)]
    assert [one.partition("0.001")[2] for one in said] == [", 0.4 tokens/s", ", 45 tokens/s", ", 4,526 tokens/s", ""]
