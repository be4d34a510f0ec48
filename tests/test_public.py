"""The public names, pinned: what plugins and scripts may rely on."""

from __future__ import annotations

import re
import subprocess
import sys
from inspect import getdoc, getsource, isfunction, signature, unwrap

import pytest

import adaptr

NAMES = [
    "Adapter", "AdaptrError", "Average", "Base", "BatchSplit", "Composite", "Core", "Delta", "Dense", "Diagonal",
    "Elementwise", "Fusion", "Gate", "Hadamard", "InCore", "Insert", "Kron", "LowRank", "Method", "Operator",
    "Parallel", "Param", "Prefix", "Request", "Row", "SelectBias", "SoftPrompt", "Sparse", "Split", "Stack",
    "Strategy", "Sum", "Target", "Transform", "View", "Whole", "__version__", "apply", "attach", "bake",
    "bake_file", "block",
    "chat", "check", "checkpointing", "compose", "convert", "convert_method", "create", "diff", "doctor", "drop",
    "errors",
    "evaluate", "extract", "fit", "from_peft", "hookspecs", "inspect", "learn", "list", "load", "log", "merge", "plan",
    "plugins", "pool", "pull", "push", "quantize", "quantize_file", "resize", "roles", "save", "search",
    "serve", "sign", "similar", "source", "stack", "strategies", "tag", "targets", "to_peft", "train",
    "tune", "unmerge", "verify",
]  # fmt: skip


def test_the_public_names() -> None:
    assert sorted(adaptr.__all__) == NAMES
    assert dir(adaptr) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_there_and_documented(name: str) -> None:
    value = getattr(adaptr, name)
    assert isinstance(value, str) or value.__doc__


#: What is evident: whether an output may replace another, and who is told how far it is.
EVIDENT = {"force", "progress"}


@pytest.mark.parametrize("name", [name for name in NAMES if isfunction(getattr(adaptr, name))])
def test_what_a_function_takes_is_described_where_its_name_is(name: str) -> None:
    """And not by sending readers to a module."""
    function = getattr(adaptr, name)
    said = getdoc(function) or ""
    silent = [one for one in signature(function).parameters if not re.search(rf"\b{one}\b", said)]
    assert set(silent) <= EVIDENT
    assert not re.search(r"`adaptr\.\w+\.", said.replace("`adaptr.host.blocks`", ""))


#: Nothing that they are given can be wrong.
UNFAILING = {"checkpointing", "doctor"}


@pytest.mark.parametrize("name", [name for name in NAMES if isfunction(getattr(adaptr, name))])
def test_what_a_function_raises_is_said_where_its_name_is(name: str) -> None:
    """Among the errors named, or below them, are those that it raises itself."""
    function = unwrap(getattr(adaptr, name))
    _, _, said = " ".join((getdoc(function) or "").split()).partition("aises ")
    named = [one for word in re.findall(r"`([A-Z]\w+)`", said) if (one := getattr(adaptr.errors, word, None))]
    assert named or re.search(r"(what|as) `\w+`", said) or name in UNFAILING
    raised = re.findall(r"raise (?:\w+\.)?([A-Z]\w+)\(|raise phrases\.unknown\((\w+)", getsource(function))
    silent = [one for one in map("".join, raised) if not issubclass(getattr(adaptr.errors, one), tuple(named))]
    assert silent == []


def test_an_adapter_shows_in_one_line() -> None:
    """Found in 0.1.0: 21,741 characters in a notebook."""
    targets = {f"layers.{i}.q": adaptr.Target(f"layers.{i}.q", "linear", (4, 4)) for i in range(200)}
    adapter = adaptr.Adapter("lora", {"r": 2}, targets, {}, name="pi\x1b[31mrate")
    assert repr(adapter) == r"<Adapter pi\x1b[31mrate: lora, 200 targets, 0 tensors>"
    assert len(repr([adapter * 0.5])) < 200


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute `lod`"):
        adaptr.lod  # noqa: B018


def test_names_are_resolved_when_first_used() -> None:
    code = "import adaptr, sys; a = set(sys.modules); adaptr.Param; print('adaptr.contract' in set(sys.modules) - a)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_every_verb_is_a_function() -> None:
    verbs = ("serve", "log", "learn", "apply", "sign", "search", "tag", "list")
    assert [name for name in verbs if not hasattr(adaptr, name)] == []
