"""Bad data and recipes, as people bring them: each has its own error, says where it stands, and leaves nothing."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr.cli import run

OK = b'{"prompt": "w1 w2 ", "completion": "w3"}\n'
BAD, DATA, RECIPE, WRONG = (3, "BadRecord"), (3, "DataError"), (3, "RecipeError"), (2, "UsageError")
CONFIG = (2, "BadConfig")
Ended = tuple[int, str, str]


@pytest.fixture
def trained(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable:
    """`adaptr train` in an empty folder with the base as `m`, and what its error is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").symlink_to(base)

    def call(*arguments: str, given: str = "m") -> Ended:
        code = run(["train", given, *arguments, "-o", "a.safetensors", "--json"])
        error = json.loads(capfd.readouterr().out)["error"]
        assert not list(tmp_path.rglob("*.safetensors")), "nothing is written"
        return code, error["type"], error["message"]

    return call


def row(**columns: object) -> bytes:
    return json.dumps(columns).encode() + b"\n"


#: (file, its bytes, options, what is raised, what it says)
FILES: dict[str, tuple[str, bytes, tuple[str, ...], tuple[int, str], str]] = {
    "no JSON": ("a.jsonl", OK + b"{prompt: 1}\n", (), BAD, "a.jsonl:2: the line is not JSON"),
    "cut off": ("a.jsonl", OK + b'{"prompt": "w', (), BAD, "(column 12)"),
    "no object": ("a.jsonl", OK + b"[1]\n", (), BAD, "a.jsonl:2: the line is not a JSON object"),
    "a key twice": ("a.jsonl", OK + b'{"prompt": "a", "prompt": "b"}\n', (), BAD, "a.jsonl:2"),
    "no number": ("a.jsonl", OK + b'{"prompt": "a", "completion": NaN}\n', (), BAD, "a.jsonl:2"),
    "nothing": ("a.jsonl", b"\n \n", (), DATA, "a.jsonl: there is no record in it"),
    "latin-1": ("a.jsonl", OK + b'{"prompt": "caf\xe9"}\n', (), DATA, "a.jsonl:2: byte 0xe9 is not UTF-8"),
    "UTF-16": ("a.jsonl", OK.decode().encode("utf-16"), (), DATA, "UTF-16"),
    "a spreadsheet": ("a.xlsx", b"PK\x03\x04", (), DATA, "save it as CSV"),
    "broken gzip": ("a.jsonl.gz", gzip.compress(OK * 50)[:30], (), DATA, "gzip"),
    "broken Parquet": ("a.parquet", b"PAR1 and no more", (), DATA, "Parquet"),
    "a ragged row": ("a.csv", b"prompt,completion\na,b\na,b,c\n", (), BAD, "a.csv:3: the row has 3 cells"),
    "an open quote": ("a.csv", b'prompt,completion\na,b\n"a,b\n', (), BAD, "a.csv:3"),
    "a column twice": ("a.csv", b"prompt,prompt\na,b\n", (), DATA, "a.csv:1: the column `prompt` is named twice"),
    "a table without names": ("a.csv", b"w1,w2\nw3,w4\n", (), DATA, "first line of a table"),
    "ragged columns": ("a.json", b'{"prompt": ["a", "b"], "completion": ["c"]}', (), DATA, "`prompt` has 2"),
    "broken JSON": ("a.json", b'[{"prompt": "a"},\n{"prompt": ]', (), DATA, "a.json:2"),
    "a column misspelt": ("a.jsonl", row(promt="a", completion="b"), (), DATA, "`--map prompt=promt`"),
    "columns of no task": ("a.jsonl", row(foo="a", bar="b"), (), DATA, "prompt+completion"),
    "mapped to nothing": ("a.jsonl", row(q="a", a="b"), ("--map", "prompt=qq"), BAD, "a.jsonl:1: there is no column"),
    "no completion": ("a.jsonl", OK + row(prompt="a"), (), BAD, "a.jsonl:2: `completion` is missing"),
    "null": ("a.jsonl", OK + row(prompt="a", completion=None), (), BAD, "a.jsonl:2: `completion` is null"),
    "an empty completion": ("a.jsonl", OK + row(prompt="a", completion=" "), (), BAD, "a.jsonl:2: the completion"),
    "a number": ("a.jsonl", OK + row(prompt="a", completion=7), (), BAD, "a.jsonl:2: `completion` is 7, wanted"),
    "nothing left": ("a.jsonl", OK + row(prompt="w " * 20, completion="w"), ("--length", "8"), BAD, "a.jsonl:2"),
    "cut, and strict": ("a.jsonl", OK + row(prompt="w ", completion="w " * 20), ("--length=8", "--strict"), BAD, ":2"),
    "no template": (
        "a.jsonl",
        row(messages=[{"role": "user", "content": "w"}, {"role": "assistant", "content": "w"}]),
        (),
        DATA,
        "no chat template",
    ),
    "no assistant": ("a.jsonl", row(messages=[{"role": "user", "content": "w"}]), (), BAD, "a.jsonl:1: no message"),
    "an unknown role": ("a.jsonl", row(messages=[{"role": "bot", "content": "w"}]), (), BAD, "a.jsonl:1: the role"),
    "messages that are none": ("a.jsonl", row(messages="w"), (), BAD, "a.jsonl:1: `messages` is w"),
    "one class": ("a.jsonl", row(text="w1", label="a") * 2, ("--task", "classify"), DATA, "every `label` is `a`"),
    "no class": (
        "a.jsonl",
        row(text="w1", label="a") + row(text="w1", label="b") + row(text="w1", label=""),
        ("--task", "classify"),
        BAD,
        "a.jsonl:3: `label` is empty",
    ),
    "tags for no word": ("a.jsonl", row(words=["w1"], tags=["a", "b"]), ("--task", "tag"), BAD, "a.jsonl:1"),
    "nothing rejected": ("a.jsonl", row(prompt="w", chosen="w"), ("--objective", "dpo"), BAD, "`rejected` is missing"),
    "a share of one": ("a.jsonl", OK, ("--valid", "5%"), DATA, "1 record, and 5% of them"),
    "a second text that is none": ("a.jsonl", OK, ("--second", "a.jsonl"), BAD, "a.jsonl:1: `text` is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_bad_data_is_named_by_file_and_line(trained: Callable[..., Ended], name: str) -> None:
    file, content, options, raised, said = FILES[name]
    Path(file).write_bytes(content)
    *found, message = trained("--data", file, *options)
    assert tuple(found) == raised
    assert said in message


OPTIONS: dict[str, tuple[tuple[str, ...], tuple[int, str], str]] = {
    "no data": ((), CONFIG, "`data` is missing"),
    "no such data": (("--data", "gone.jsonl"), (3, "InputError"), "`gone.jsonl`"),
    "no data of its own": (("--data", "m"), DATA, "`datasets` did not save"),
    "a share as a fraction": (("--data", "ok.jsonl", "--valid", "0.1"), WRONG, "`10%`"),
    "all held back": (("--data", "ok.jsonl", "--valid", "100%"), WRONG, "less than 100%"),
    "no column": (("--data", "ok.jsonl", "--map", "prompt"), WRONG, "--map"),
    "no method": (("--data", "ok.jsonl", "--method", "lorra"), (2, "UnknownMethod"), "did you mean `lora`"),
    "a gate": (("--data", "ok.jsonl", "--method", "xlora"), (5, "NotPossible"), "`adaptr gate train`"),
    "no field": (("--data", "ok.jsonl", "--set", "rank=8"), CONFIG, "no field `rank`"),
    "no target": (("--data", "ok.jsonl", "--targets", "attn.qq"), (4, "TargetNotFound"), "did you mean `attn.q`"),
    "no steps": (("--data", "ok.jsonl", "--steps", "0"), CONFIG, "at least 1"),
    "no rate": (("--data", "ok.jsonl", "--rate", "nan"), CONFIG, "a finite number"),
    "a rate beyond all": (("--data", "ok.jsonl", "--rate", "1e30", "--steps", "6"), (5, "Diverged"), "at step 2"),
    "half a precision": (("--data", "ok.jsonl", "--dtype", "fp16", "--device", "cpu"), (8, "MachineError"), "`bf16`"),
    "another task": (("--data", "ok.jsonl", "--task", "classify"), BAD, "ok.jsonl:1: `label` is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_bad_options_are_refused(trained: Callable[..., Ended], name: str) -> None:
    Path("ok.jsonl").write_bytes(OK)
    options, raised, said = OPTIONS[name]
    *found, message = trained(*options)
    assert tuple(found) == raised
    assert said in message


RECIPES: dict[str, tuple[str, tuple[int, str], str]] = {
    "no YAML": ("base: [", RECIPE, "line 1: no YAML"),
    "a list": ("- a\n", RECIPE, "line 1: a recipe must be a mapping"),
    "a tab": ("base: m\n\tdata: ok.jsonl\n", RECIPE, "line 2"),
    "latin-1": ("base: m\nname: caf\udce9\n", RECIPE, "line 2: not UTF-8"),
    "code": ("base: m\ndata: !!python/name:os.system x\n", RECIPE, "line 2: no YAML: the tag"),
    "a field misspelt": ("base: m\ndata: ok.jsonl\nstps: 3\n", RECIPE, "line 3: a recipe has no field `stps`; did you"),
    "a field twice": ("base: m\ndata: ok.jsonl\nsteps: 1\nsteps: 2\n", RECIPE, "line 4"),
    "another type": ("base: m\ndata: ok.jsonl\nsteps: many\n", RECIPE, "line 3: `steps` is `'many'`"),
    "out of range": ("base: m\ndata: ok.jsonl\nrate: -1\n", RECIPE, "line 3: `rate` is -1"),
    "no choice": ("base: m\ndata: ok.jsonl\nschedule: up\n", RECIPE, "line 3: `schedule` is `up`"),
    "no method": ("base: m\ndata: ok.jsonl\nmethod: lorra\n", RECIPE, "line 3: there is no method"),
    "no field of it": ("base: m\ndata: ok.jsonl\nconfig: {rank: 8}\n", RECIPE, "line 3: `lora` has no field"),
    "nothing to measure on": ("base: m\ndata: ok.jsonl\neval_every: 5\n", RECIPE, "line 3: `eval_every`"),
    "no data": ("base: m\n", RECIPE, "line 1: `data` is missing"),
    "no such data": ("base: m\ndata: gone.jsonl\n", (3, "RecipeError"), "line 2: `data`: there is no `gone.jsonl`"),
    "no such base": ("base: gone\ndata: ok.jsonl\n", (3, "RecipeError"), "line 1: `gone`"),
    "a bad record": ("base: m\ndata: bad.jsonl\n", BAD, "bad.jsonl:2: the completion is empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_a_bad_recipe_is_named_by_its_line(trained: Callable[..., Ended], name: str) -> None:
    Path("ok.jsonl").write_bytes(OK)
    Path("bad.jsonl").write_bytes(OK + row(prompt="a", completion=""))
    text, raised, said = RECIPES[name]
    Path("recipe.yaml").write_bytes(text.encode(errors="surrogateescape"))
    *found, message = trained(given="recipe.yaml")
    assert tuple(found) == raised
    assert said in message
