"""Documents that are written from the code: run `make docs` after a change; lint and tests/test_docs.py notice lag.

`python docs/generate.py` writes them, `--check` only says which are out of date and ends with 1. They tell of what is
built in; `--of DISTRIBUTION` prints the same of all that an installed distribution gives.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import os
import re
import runpy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import hosts_table
from adaptr import errors, foreign, hookspecs, packings, plugins, strategies
from adaptr.cli import catalogue, error_pages, listing
from adaptr.cli.group import cli
from adaptr.data.format import FORMATS
from adaptr.discovery import Sort
from adaptr.foreign.peft import types
from adaptr.registry import remotes
from adaptr.serving import names as servers_known
from adaptr.serving.profile import Profile, Range, Scale, loaded
from adaptr.tasks.find import TASKS
from adaptr.training.fields import Field
from adaptr.training.fields import fields as recipe_fields
from adaptr.training.schema import schema
from formats_table import page
from methods_table import page as compatibility

ROOT = Path(__file__).resolve().parents[1]
NOTE = "<!-- Written by docs/generate.py; change the code and run `make docs`. -->\n\n"
WIDTH = 100


def documents() -> dict[Path, str]:
    """Path to text of every generated document, the README included."""
    docs = ROOT / "docs"
    readme = ROOT / "README.md"
    return {
        docs / "cli.md": NOTE + commands(),
        docs / "methods.md": NOTE + methods(),
        docs / "strategies.md": NOTE + composing(),
        docs / "hooks.md": NOTE + hooks(),
        docs / "errors.md": NOTE + exceptions(),
        docs / "servers.md": NOTE + servers(),
        docs / "formats.md": NOTE + page.page(),
        docs / "hosts.md": NOTE + hosts_table.page(),
        docs / "compatibility.md": NOTE + compatibility.page(),
        ROOT / "registry_spec" / "schemas" / "recipe.schema.json": json.dumps(schema(), indent=2) + "\n",
        readme: with_block(readme.read_text(encoding="utf-8"), "methods", methods_table()),
        docs / "serving.md": with_block(
            (docs / "serving.md").read_text(encoding="utf-8"), "profiles", profiles_table()
        ),
        docs / "training.md": with_block((docs / "training.md").read_text(encoding="utf-8"), "fields", recipe_table()),
        docs / "quantised-models.md": with_tables(
            (docs / "quantised-models.md").read_text(encoding="utf-8"), {"packings": packings_table(), **packed()}
        ),
        docs / "choosing.md": with_tables((docs / "choosing.md").read_text(encoding="utf-8"), compared()),
    }


def with_block(text: str, name: str, block: str) -> str:
    """`text` with what stands between `<!-- name -->` and `<!-- /name -->` replaced."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, _, rest = text.partition(start)
    _, found, tail = rest.partition(end)
    if not found:
        raise ValueError(f"there is no {start.strip()} ... {end}")
    return f"{head}{start}{block}{end}{tail}"


def with_tables(text: str, blocks: Mapping[str, str]) -> str:
    for name, block in blocks.items():
        text = with_block(text, name, block)
    return text


def compared() -> dict[str, str]:
    """The tables of what `examples/compare.py` measured, by their blocks."""
    found: dict[str, str] = runpy.run_path(str(ROOT / "examples" / "compare_tables.py"))["tables"]()
    return found


def packed() -> dict[str, str]:
    """The tables of what `benchmarks/packed.py` measured."""
    found: dict[str, str] = runpy.run_path(str(ROOT / "benchmarks" / "packed_tables.py"))["tables"]()
    return found


def packings_table() -> str:
    """What each packing is, by the first paragraph of its file."""
    documents = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in packings.SORT.sources().items()}
    said = {name: (ast.get_docstring(tree) or "").partition("\n\n")[0] for name, tree in documents.items()}
    return table(("`quant_method`", "what"), [(f"`{name}`", " ".join(text.split())) for name, text in said.items()])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |\n" for line in lines)


# ---------------------------------------------------------------- servers


def profiles_table() -> str:
    known = [loaded(name) for name in servers_known()]
    rows = [
        (f"`{one.server}`", f"{one.oldest} to {one.newest}", one.read, f"[{one.tool}](servers.md#{one.server})")
        for one in known
    ]
    return table(("`--for`, `--on`", "versions", "read", "rules and sources"), rows)


def servers() -> str:
    head = "# What servers do with adapters\n\nWhat `adaptr check` and `adaptr convert --for` hold adapters against.\n"
    return "\n".join([head, *(server_section(loaded(name)) for name in servers_known())])


def server_section(known: Profile) -> str:
    """Its rules, what it multiplies by, and the modules that it adapts, each with its sources."""
    rules = [(one.verdict, one.says, _versions(one.range), "; ".join(one.sources)) for one in known.rules]
    scales = [("scale", _scale(one), _versions(one.range), "; ".join(one.sources)) for one in known.scales]
    kinds = [
        (", ".join(one.names), _modules(one.modules), _versions(one.range), "; ".join(one.sources))
        for one in known.architectures
    ]
    told = [f"`{name}`" + ("" if value is None else f" (else {value})") for name, value in known.options.items()]
    facts = f"{known.tool} {known.oldest} to {known.newest}, read {known.read}."
    parts = [f"## {known.server}", facts, *(["`--set`: " + ", ".join(told) + "."] if told else []), *known.notes]
    tables = table(("verdict", "why", "versions", "sources"), [*rules, *scales])
    return "\n\n".join([*parts, tables, table(("class", "modules", "versions", "sources"), kinds)])


def _scale(one: Scale) -> str:
    whose = {"global": "of the configuration", "own": "of the layer"}
    read = "by its root with `use_rslora`" if one.rslora else "whatever `use_rslora` says"
    return f"B A is multiplied by the alpha {whose[one.alpha]} and divided by the rank {whose[one.rank]}, {read}"


def _modules(names: Sequence[str]) -> str:
    """Those of one block together, as `model.layers.*.` with `self_attn.q_proj`."""
    groups: dict[str, list[str]] = {}
    for name in names:
        head, mark, tail = name.partition("*.")
        groups.setdefault(head + mark if mark else "", []).append(tail or head)
    said = {stem: ", ".join(f"`{end}`" for end in ends) for stem, ends in groups.items()}
    return "; ".join(f"`{stem}` with {ends}" if stem else ends for stem, ends in said.items())


def _versions(one: Range) -> str:
    since, before = (".".join(map(str, version)) for version in (one.since, one.before))
    return " ".join([*([f"from {since}"] if since else []), *([f"before {before}"] if before else [])]) or "all"


# ---------------------------------------------------------------- the command line


def commands() -> str:
    parts = ["# The command line\n", fenced(cli.get_help(_top()))]
    return "\n".join([*parts, *(command_sections(name) for name in sorted(listing.SORT.files()))])


def command_sections(name: str) -> str:
    """The help of a command, and of those that it is made of."""
    command = listing.load(name)
    context = click.Context(command, info_name=name, parent=_top())
    parts = [f"## adaptr {name}\n", fenced(command.get_help(context))]
    for sub, one in getattr(command, "commands", {}).items():
        inner = click.Context(one, info_name=sub, parent=context)
        parts += [f"### adaptr {name} {sub}\n", fenced(one.get_help(inner))]
    return "\n".join(parts)


def _top() -> click.Context:
    names = ["-h", "--help"]
    return click.Context(
        cli, info_name="adaptr", terminal_width=WIDTH, max_content_width=WIDTH, help_option_names=names
    )


def fenced(text: str) -> str:
    return f"```\n{text.rstrip()}\n```\n"


# ---------------------------------------------------------------- recipes of training


def recipe_table() -> str:
    rows = [(f"`{name}`", _may_be(one), _unless(one), one.help) for name, one in recipe_fields().items()]
    return table(("field", "is", "unless given", "what"), rows)


def _may_be(field: Field) -> str:
    least, most, out = field.bounds
    said = ", ".join(f"`{choice}`" for choice in field.choices) or field.wanted
    if least is not None:
        said += f", {'more than' if out else 'at least'} {least:,}"
    return said + (f", at most {most:,}" if most is not None else "")


def _unless(field: Field) -> str:
    if field.required:
        return "required"
    return "" if field.default in (None, "", (), {}) else f"`{json.dumps(field.default)}`".replace('"', "")


# ---------------------------------------------------------------- methods


ABILITIES = """\
## What each can

Of a 7B: the share of Llama's first of seven billion that it trains, with its own configuration and targets; nothing
where it wants adapters, tokens or biases that this model has none of. Merges: some weight does what it does; unmerges:
that weight, and the adapter, tell the base's (what else is needed is in the receipt); delta: what it adds is known
without the base, so it composes and diffs without one; in batches: it can be one row of a batch among other adapters.
"""


def cards() -> list[catalogue.Card]:
    """The built-in methods; installed ones are not this project's to document."""
    return sorted(map(catalogue.card, plugins.builtin_files()), key=lambda c: (c.family, c.name))


def methods_table() -> str:
    rows = []
    for c in cards():
        trains = " + ".join(c.parts.values()) or ", ".join(c.trained)
        source = f"[{c.arxiv}](https://arxiv.org/abs/{c.arxiv})" if c.arxiv else ""
        rows.append((f"`{c.name}`", c.family, trains, "yes" if c.mergeable else "no", c.formula, source))
    return table(("method", "family", "trains", "merges", "what it does", "arXiv"), rows)


def abilities() -> str:
    rows = []
    for c in cards():
        can = ("yes" if one else "" for one in (c.mergeable, c.inverse, c.delta, c.row, c.identity))
        share = "" if c.share is None else f"{c.share:.2%}" if c.share >= 1e-4 else f"{c.share:.4%}"
        rows.append((f"[`{c.name}`](#{c.name})", share, *can, c.peft.lower()))
    columns = ("method", "of a 7B", "merges", "unmerges", "delta", "in batches", "fresh: no change", "PEFT")
    return f"{ABILITIES}\n{table(columns, rows)}"


def methods() -> str:
    return "\n".join(["# Methods\n", methods_table(), abilities(), *(described(c) for c in cards())])


def described(c: catalogue.Card) -> str:
    parts = [f"## {c.name}\n", f"{c.title}: {c.formula}. {c.source}.\n"]
    if c.notes:
        parts.append(f"{c.notes}\n")
    facts = [
        ("family", c.family),
        ("goes to", ", ".join(f"`{t}`" for t in c.targets) or "what its parts go to"),
        ("works on", ", ".join(c.kinds) or "what its parts work on"),
        ("merges", "yes" if c.mergeable else f"no: {c.refusal}; possible: {c.possible}"),
        ("fresh", "leaves the model as it is" if c.identity else "changes the model"),
    ]
    parts.append("".join(f"- {name}: {value}\n" for name, value in facts))
    params = [(f"`{n}`", f"`{p['axes']}`", p["init"], p["when"]) for n, p in c.params.items()]
    fields = [(f"`{n}`", f"`{f['type']}`", f"`{f['default']!r}`") for n, f in c.config.items()]
    parts += [table(("tensor", "axes", "starts as", "only with"), params)] if params else []
    parts += [table(("field", "type", "default"), fields)] if fields else []
    return "\n".join(parts)


# ---------------------------------------------------------------- strategies

SPACES = {"factors": "on factors", "core": "in the core space", "elements": "on elements", "adapters": "on adapters"}
STRATEGIES = """\
How `adaptr compose` makes one delta of several, at each target. What works on factors or in the core space is exact and
never dense; what works on elements goes through dense deltas block by block, and its result is stored as `full`, or as
a LoRA of the `--rank` or `--energy` asked for, with the measured error. A strategy is a file of a few lines (see
`plugins/adaptr_strategies/`) or a class given by the entry-point group `adaptr.strategies`.

The order of the inputs changes nothing but where the last column says so (what is drawn goes with an input's weights,
not with its place), and an input whose weight goes to 0 leaves nothing behind but where it says so. By common scale:
all weights times c are the result times c, or, with `=`, the same result. `adaptr.testing.StrategyLaws` holds every
strategy to that.
"""
COLUMNS = ("strategy", "works", "random", "what it does", "arXiv", "scale", "order and jumps")


def composing() -> str:
    found = [strategies.get(name) for name in strategies.SORT.files()]
    found.sort(key=lambda s: (list(SPACES).index(s.space), s.name))
    cited = {s.name: catalogue.first_line(_documented(s).partition("\n\n")[0]) for s in found}
    rows = []
    for s in found:
        _, formula, _, arxiv = cited[s.name]
        source = f"[{arxiv}](https://arxiv.org/abs/{arxiv})" if arxiv else ""
        scale = "=" if s.scale_free or s.normalize else "c"
        known = f"order: {s.ordered}" if s.ordered else ""
        known = "; ".join(filter(None, (known, f"jumps at weight 0: {s.jumps}" if s.jumps else "")))
        rows.append((f"`{s.name}`", SPACES[s.space], "seeded" if s.random else "", formula, source, scale, known))
    sections = [_strategy(s, *cited[s.name]) for s in found]
    return "\n".join(["# Strategies\n", STRATEGIES, table(COLUMNS, rows), *sections])


def _documented(strategy: Any) -> str:
    return inspect.cleandoc(inspect.getmodule(type(strategy)).__doc__)  # type: ignore[union-attr,arg-type]


def _strategy(s: Any, title: str, formula: str, source: str, arxiv: str) -> str:
    notes = " ".join(_documented(s).partition("\n\n")[2].split())
    fields = [(f"`{f.name}`", f"`{f.type}`", f"`{f.default!r}`") for f in dataclasses.fields(s.Config)]
    parts = [f"## {s.name}\n", f"{title}: {formula}. {source}.\n", *([notes + "\n"] if notes else [])]
    return "\n".join([*parts, *([table(("field", "type", "default"), fields)] if fields else [])])


# ---------------------------------------------------------------- the contract and its errors


def hooks() -> str:
    parts = ["# The five hooks\n", paragraphs(hookspecs.__doc__)]
    for name in hookspecs.HOOKS:
        function = getattr(hookspecs, name)
        signature = re.sub(r"'", "", str(inspect.signature(function)))
        parts += [f"## {name}\n", f"```python\ndef {name}{signature}\n```\n", paragraphs(function.__doc__)]
    return "\n".join(parts)


def paragraphs(text: str | None) -> str:
    return inspect.cleandoc(text or "") + "\n"


def exceptions() -> str:
    tree = paragraphs(errors.__doc__)
    rows = [(f"`{c.__name__}`", str(c.exit_code), " ".join((c.__doc__ or "").split())) for c in classes()]
    intro = "Python code catches these classes; the command line ends with their number.\n"
    return "\n".join(["# Errors\n", intro, fenced(tree), table(("error", "exit code", "meaning"), rows)])


def classes() -> Iterator[Any]:
    """Every error, in the order of the tree."""
    waiting: list[type[errors.AdaptrError]] = [errors.AdaptrError]
    while waiting:
        found = waiting.pop()
        yield found
        own = (kind for kind in found.__subclasses__() if kind.__module__.startswith("adaptr."))
        below = [kind for kind in own if kind.__name__ in errors.__all__]
        below.reverse()  # the first goes last, where it is taken
        waiting += sorted(below, key=lambda kind: -kind.exit_code)


# ---------------------------------------------------------------- what an installed distribution gives


def given_by(distribution: str) -> str:
    """The sections of all that a distribution gives, by sort. Raises `UsageError` where it gives nothing."""
    called = re.sub(r"[-_.]+", "-", distribution).lower()
    made = {
        sort.what: [told(name) for name, point in sort.points().items() if called in point.by] for sort, told in _SORTS
    }
    parts = [f"# {distribution}\n", *(text for sections in made.values() for text in sections)]
    if len(parts) == 1:
        raise errors.UsageError(f"there is no distribution `{distribution}` here that gives adaptr anything")
    return "\n".join(parts)


def _strategy_of(name: str) -> str:
    found = strategies.get(name)
    return _strategy(found, *catalogue.first_line(_documented(found).partition("\n\n")[0]))


def _format_of(name: str) -> str:
    found = foreign.get(name)
    return f"## {name}\n\nA format of {found.tool}. {paragraphs(inspect.getmodule(type(found)).__doc__)}"  # type: ignore[union-attr]


def _told(sort: Sort) -> Callable[[str], str]:
    """What the file of a plugin says of it."""

    def section(name: str) -> str:
        file = inspect.getmodule(sort.found(name))
        return f"## {name}\n\nA {sort.what}. {paragraphs(file and file.__doc__)}"

    return section


def _error_of(name: str) -> str:
    page = error_pages.page(name)
    return f"## {name}\n\n{page.meaning} {page.notes}\n\nExit code {page.exit_code}; is a {', '.join(page.family)}.\n"


_SORTS: tuple[tuple[Sort, Callable[[str], str]], ...] = (
    (plugins.SORT, lambda name: described(catalogue.card(name))),
    (strategies.SORT, _strategy_of),
    (foreign.formats.SORT, _format_of),
    (packings.SORT, _told(packings.SORT)),
    (listing.SORT, lambda name: command_sections(name)),
    (remotes.SORT, _told(remotes.SORT)),
    (types.SORT, _told(types.SORT)),
    (TASKS, _told(TASKS)),
    (FORMATS, _told(FORMATS)),
    (error_pages.SORT, _error_of),
)


def main() -> int:
    if "--of" in sys.argv:
        try:
            print(given_by(sys.argv[sys.argv.index("--of") + 1]))
        except errors.UsageError as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    os.environ["ADAPTR_NO_PLUGINS"] = "1"
    late = {p: text for p, text in documents().items() if not p.exists() or p.read_text(encoding="utf-8") != text}
    for path, text in late.items():
        if "--check" in sys.argv:
            print(f"{path.relative_to(ROOT)} lags behind the code; run `make docs`")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if late and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
