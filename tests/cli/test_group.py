from __future__ import annotations

import shlex
from collections.abc import Callable

import click
import pytest

from adaptr.cli import listing
from adaptr.cli.group import cli
from adaptr.cli.options import Command

COMMANDS = sorted(listing.SORT.files())


def command(name: str) -> Command:
    return listing.load(name)  # type: ignore[return-value]


def leaves(name: str) -> dict[str, Command]:
    """The command, or those that it is made of, by what is typed."""
    found = command(name)
    return (
        {f"{name} {sub}": one for sub, one in found.commands.items()}
        if isinstance(found, click.Group)
        else {name: found}
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_begins_with_its_summary_and_it_has_the_name_of_its_file(name: str) -> None:
    listed = {one.name: one.summary for section in listing.sections().values() for one in section}
    assert (command(name).help or "").split("\n")[0] == listed[name]
    assert command(name).name == name


def test_the_sections_of_the_built_in_commands_are_those_of_the_help() -> None:
    assert tuple(listing.sections()) == listing.SECTIONS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_common_options(name: str) -> None:
    for leaf in leaves(name).values():
        options = {word for p in leaf.params for word in p.opts}
        assert {"--json", "--quiet", "-q", "--verbose", "-v"} <= options
        replaces = name in {"push", "copy"} or {"--out", "--html"} & options  # a tag, or a file
        assert bool(replaces) == ("--force" in options)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_command_lines_that_parse(name: str) -> None:
    for typed, leaf in leaves(name).items():
        assert leaf.examples
        start = ["adaptr", *typed.split()]
        for example in leaf.examples:
            words = shlex.split(example.partition(" | ")[0])
            assert words[: len(start)] == start
            if "--file" not in words:  # opened while parsing
                leaf.make_context(
                    name, words[len(start) :], parent=click.Context(cli, info_name="adaptr", **cli.context_settings)
                )


def test_no_argument_is_help(adaptr: Callable) -> None:
    assert adaptr() == adaptr("--help") == adaptr("-h")
    assert adaptr().code == 0
    assert all(name in adaptr().out for name in COMMANDS)


def test_an_unknown_command_names_the_near_ones(adaptr: Callable) -> None:
    ran = adaptr("umerge")
    assert (ran.code, ran.out) == (2, "")
    assert "`unmerge`" in ran.err


def test_version(adaptr: Callable) -> None:
    from adaptr import __version__

    assert adaptr("--version").out == f"adaptr, version {__version__}\n"


@pytest.mark.parametrize("name", ["gate", "index"])
def test_a_group_without_a_command_is_told_so_in_a_line(adaptr: Callable, name: str) -> None:
    ran = adaptr(name)
    assert (ran.code, ran.err) == (2, f"error: Missing command; see `adaptr {name} --help`\n")


@pytest.mark.parametrize("name", ["gate", "index"])
def test_what_the_commands_of_a_group_do_is_said_whole(adaptr: Callable, name: str) -> None:
    assert "..." not in adaptr(name, "--help").out.partition("Commands:")[2]


def test_a_long_help_has_sections_and_each_field_of_a_recipe_one_of_them(adaptr: Callable) -> None:
    from adaptr.cli import recipe_options
    from adaptr.training.fields import fields

    assert {*recipe_options.SECTIONS, recipe_options.ARGUMENT} == fields().keys()
    told = adaptr("train", "--help").out
    titles = [
        f"\n{title}:\n" for title in (*dict.fromkeys(recipe_options.SECTIONS.values()), "Options of every command")
    ]
    assert [told.count(title) for title in titles] == [1] * len(titles)
