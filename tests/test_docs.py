"""Documents can't lag: what is generated is up to date, and covers every hook, command, method and error."""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
from pathlib import Path

import click
import pytest

from adaptr import hookspecs, plugins, strategies
from adaptr.cli import group as cli
from adaptr.cli import listing
from adaptr.training import recipe_file
from pages import contract

ROOT = Path(__file__).resolve().parents[1]
generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))


DOCUMENTS = generate["makers"]()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_generated_documents_are_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == DOCUMENTS[path](), "run `make docs`"


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ("cli.md", [f"adaptr {name}" for name in listing.SORT.files()]),
        ("methods.md", plugins.builtin_files()),
        ("strategies.md", strategies.SORT.files()),
        ("hooks.md", hookspecs.HOOKS),
    ],
    ids=["commands", "methods", "strategies", "hooks"],
)
def test_every_name_has_its_section(document: str, names: list[str]) -> None:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    assert [n for n in names if f"\n## {n}\n" not in text] == []


def test_every_error_is_explained_and_drawn() -> None:
    from adaptr import errors

    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for found in contract.classes():
        assert f"| [`{found.__name__}`](#{found.__name__.lower()}) | {found.exit_code} |" in text
        assert f"\n## {found.__name__}\n" in text
        assert vars(found)["__doc__"], f"{found.__name__} has no docstring"
    drawn = set(re.findall(r"\b[A-Z][A-Za-z0-9]+\b", errors.__doc__ or ""))
    assert {c.__name__ for c in contract.classes()} - drawn == set()


def links(document: Path) -> list[str]:
    found = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    return [link for link in found if "://" not in link]


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(name: str) -> None:
    folder = (ROOT / name).parent
    assert [link for link in links(ROOT / name) if not (folder / link).exists()] == []


def command_lines(document: Path) -> list[list[str]]:
    """What follows `adaptr` on each line of a block that is a command."""
    blocks = re.findall(
        r"^```(?:console|sh)?\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.match(r"(?:\$ )?(?:torchrun .* -m )?adaptr (.*)", line) for line in lines]
    return [shlex.split(one[1], comments=True) for one in found if one]


@pytest.mark.parametrize(
    "name", ["README.md", "docs/data.md", "docs/evaluating.md", "docs/planning.md", "docs/training.md"]
)
def test_commands_have_the_options_that_documents_give_them(name: str) -> None:
    for arguments in command_lines(ROOT / name):
        command, context = cli.cli, click.Context(cli.cli, **cli.cli.context_settings)
        while isinstance(command, click.Group) and not arguments[0].startswith("-"):
            called, found, arguments = command.resolve_command(context, arguments)
            assert found is not None, arguments
            command, context = found, click.Context(found, context, called)
        if arguments != ["--help"]:
            command.make_parser(context).parse_args(arguments)


def test_targets_that_documents_give_are_in_a_model() -> None:
    from adaptr import create
    from adaptr.testing import tiny_llama

    text = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    named = set(re.findall(r"--targets ([a-z][a-z.-]*)", text))
    named |= {
        word.strip() for words in re.findall(r"^targets: \[(.*)\]", text, re.MULTILINE) for word in words.split(",")
    }
    assert {"attn.q", "mlp.down"} <= named
    for word in sorted(named):
        create(tiny_llama(), "lora", word)


def test_the_recipe_of_the_document_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    for number, block in enumerate(re.findall(r"```yaml title=.*?\n(.*?)```", text, re.DOTALL)):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        assert recipe_file.read(file).rate == 2e-4


def test_the_readmes_python_runs_as_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block after block in an empty folder, in one program that was given nothing else."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == text.count("```python") >= 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mixed.safetensors",
        "mixture.safetensors",
        "style.safetensors",
        "tone.safetensors",
    ]


def test_the_method_of_the_contributors_guide_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that CONTRIBUTING.md shows is a method: its table gives shapes and its formula a weight."""
    import torch

    from adaptr import Target
    from adaptr.contract.view import of_weight

    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    source = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert source
    (tmp_path / "halves.py").write_text(source[1], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    method = importlib.import_module("halves").Halves()
    target = Target("q", "linear", (3, 2), {"r": 1, "s": 4.0})
    assert method.shapes(target) == {"A": (1, 2), "B": (3, 1)}
    p = {"A": torch.tensor([[1.0, 2.0]]), "B": torch.ones(3, 1)}
    merged = method.view(of_weight(torch.zeros(3, 2)), p, method.config(target.config), 1.0)
    assert torch.equal(merged.weight, torch.tensor([[2.0, 4.0]] * 3))


def test_the_index_has_every_document() -> None:
    docs = ROOT / "docs"
    assert {path.name for path in docs.glob("*.md")} - {*links(docs / "README.md"), "README.md"} == set()
