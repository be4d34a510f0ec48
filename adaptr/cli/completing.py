"""What a shell completes: names of plugins, and artifacts by path, by their name in the store or where they came from.

Each is given to the parameter that it is of (`shell_complete=completing.methods`), and none loads what it names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from adaptr.errors import AdaptrError

Found = list[CompletionItem]


def methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    from adaptr.plugins import SORT

    return _fitting(SORT.names(), incomplete)


def strategies(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    from adaptr.strategies import SORT

    return _fitting(SORT.names(), incomplete)


def families(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    from adaptr.plugins import SORT

    return _fitting(sorted({file.parent.name for file in SORT.sources().values()}), incomplete)


def errors(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    from adaptr.cli.error_pages import SORT

    return _fitting(SORT.names(), incomplete)


def formats(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    from adaptr.foreign.formats import choices

    return _fitting([*choices(), "all"], incomplete)


def servers(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    from adaptr.serving import GGUF, names

    return _fitting([*names(), *GGUF], incomplete)


def schemes(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    from adaptr.families.encoding import SCHEMES

    return _fitting(SCHEMES, incomplete)


def dtypes(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    return _fitting(("fp32", "bf16", "fp16"), incomplete)


def artifacts(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    """Names in the store, places that artifacts came from, what references begin with; and files, as everywhere."""
    named = [*_stored(incomplete), *(_begun(incomplete) if incomplete else ())]
    if not named:
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(one) for one in dict.fromkeys([*named, *_paths(incomplete)])]  # or shells show no files


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    return [CompletionItem(incomplete, type="file")]


def names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    """Names in the store alone."""
    return [CompletionItem(name) for name in _stored(incomplete) if "://" not in name]


def _fitting(names: Iterable[str], incomplete: str) -> Found:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _paths(incomplete: str) -> list[str]:
    import glob

    return sorted(glob.glob(glob.escape(incomplete) + "*"))


def _begun(incomplete: str) -> list[str]:
    from adaptr.registry import remotes

    return [begin for name in remotes.SORT.names() if (begin := f"{name}://").startswith(incomplete)]


def _stored(incomplete: str) -> list[str]:
    """What the store has, as it can be named. It is not made for that, and one that can't be read has nothing."""
    from adaptr.files.home import home
    from adaptr.registry.store.index import Index, name_of, origins

    try:
        entries = Index(home() / "store").entries()
    except (AdaptrError, OSError):
        return []
    said = [*filter(None, map(name_of, entries)), *origins(entries)]
    return [one for one in sorted(set(said)) if one.startswith(incomplete)]


@add_completion_class
class Bash(BashComplete):
    """bash breaks words at `:` and `=`, which references and weights have, and replaces what is behind alone."""

    #: What is before the part that is replaced.
    _before = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        count = int(os.environ["COMP_CWORD"])
        words = split_arg_string(os.environ["COMP_WORDS"])[1 : count + 1]
        words += [""] * (count - len(words))
        joined: list[str] = []
        broken = False
        for word in words:
            breaks = word != "" and not word.strip(":=")
            if joined and (breaks or broken):
                self._before = joined[-1] + (word if breaks else "")
                joined[-1] += word
            else:
                self._before = ""
                joined.append(word)
            broken = breaks
        return joined[:-1], joined[-1] if joined else ""

    def get_completions(self, args: list[str], incomplete: str) -> Found:
        found = super().get_completions(args, incomplete)
        return [CompletionItem(one.value.removeprefix(self._before), one.type, one.help) for one in found]


class Whole(ShellComplete):
    """zsh and fish take `--option=value` for one word, and put what is completed in its place."""

    def get_completions(self, args: list[str], incomplete: str) -> Found:
        found = super().get_completions(args, incomplete)
        option, sign, value = incomplete.partition("=")
        if not (sign and option.startswith("--")):
            return found
        if any(one.type in {"file", "dir"} for one in found):  # of which the shell knows none that begin so
            found = [CompletionItem(path) for path in _paths(value)]
        return [CompletionItem(f"{option}={one.value}", one.type, one.help) for one in found]


@add_completion_class
class Zsh(Whole, ZshComplete):
    pass


@add_completion_class
class Fish(Whole, FishComplete):
    pass
