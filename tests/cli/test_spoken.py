"""Errors name what whoever called can give: options on the command line, arguments in Python."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

import adaptr
from adaptr import api
from adaptr.cli import listing, run
from adaptr.errors import OutputExists, UsageError
from adaptr.errors.spoken import FLAGS, VALUES, typed


def test_an_option_is_an_argument_in_python() -> None:
    error = UsageError(
        "it is so, even with `--any-base`", hint="say `--force`, `--tied both`, `--rank R` or give the base (`--base`)"
    )
    assert error.hint == 'say `force=True`, `tied="both"`, `rank=R` or give the base (`base=`)'
    assert error.parts["what"] == "it is so, even with `any_base=True`"
    assert "`force=True`" in str(error)
    with typed():
        assert "`--force`, `--tied both`, `--rank R`" in str(error)
    assert str(UsageError("`adaptr merge --force`, `--alpha 2`, `--task-number 1`")).count("--") == 3


def test_each_is_an_option_of_a_command_and_an_argument_of_a_function() -> None:
    taken = {one for name in api.HOME for one in inspect.signature(getattr(adaptr, name)).parameters}
    assert {name.replace("-", "_") for name in FLAGS | VALUES} - taken == set()
    given = {opt for name in listing.names() for param in listing.load(name).params for opt in param.opts}
    assert {f"--{name}" for name in FLAGS | VALUES} - given == set()


def test_the_same_refusal_typed_and_called(lora: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "there.safetensors"
    out.write_bytes(lora.read_bytes())
    with pytest.raises(OutputExists, match="give `force=True` to replace it"):
        adaptr.convert(lora, out)
    assert run(["convert", str(lora), "-o", str(out)]) == OutputExists.exit_code
    assert "give `--force` to replace it" in capfd.readouterr().err
    assert run(["convert", str(lora), "-o", str(out), "--json"]) == OutputExists.exit_code
    assert "`--force`" in json.loads(capfd.readouterr().out)["error"]["hint"]
