"""docs/servers.md, and the table of servers in docs/serving.md."""

from __future__ import annotations

from collections.abc import Sequence

from adaptr.serving import names as servers_known
from adaptr.serving.profile import Profile, Range, Scale, loaded
from pages.markdown import table


def profiles() -> str:
    known = [loaded(name) for name in servers_known()]
    rows = [
        (f"`{one.server}`", f"{one.oldest} to {one.newest}", one.read, f"[{one.tool}](servers.md#{one.server})")
        for one in known
    ]
    return table(("`--for`, `--on`", "versions", "read", "rules and sources"), rows)


def page() -> str:
    head = "# What servers do with adapters\n\nWhat `adaptr check` and `adaptr convert --for` hold adapters against.\n"
    return "\n".join([head, *(_section(loaded(name)) for name in servers_known())])


def _section(known: Profile) -> str:
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
