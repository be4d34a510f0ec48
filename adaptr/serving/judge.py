"""What a server makes of each tensor of an adapter: applied, altered, ignored, refused, or unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from adaptr.serving.conditions import CONDITIONS
from adaptr.serving.facts import THERE, Facts
from adaptr.serving.profile import Profile, Rule
from adaptr.serving.seen import Base, Seen, Stored

#: It is in the outputs as in training; it is, in another strength; it is not, without a word; the server says no to the
#: adapter; no source tells.
APPLIED, ALTERED, IGNORED, REFUSED, NOT_KNOWN = "applied", "altered", "ignored", "refused", "unknown"
VERDICTS = (REFUSED, IGNORED, ALTERED, NOT_KNOWN, APPLIED)


@dataclass(frozen=True)
class Verdict:
    """What becomes of one tensor. `module`: whatever the layer's number is. `rule`: "" where none says it."""

    tensor: str
    module: str
    verdict: str
    rule: str
    says: str
    sources: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(
    seen: Seen, profile: Profile, base: Base | None = None, options: Mapping[str, Any] | None = None
) -> list[Verdict]:
    """A verdict on each tensor, in the order of the file.

    Rules that decide on the whole adapter come first: one tensor that the server refuses it for refuses them all. Of
    the others the first that holds decides. Where none does, a tensor is applied if its module is known to take part,
    and unknown else. Raises `ConfigConflict` for a configuration that can't be read.
    """
    facts = Facts(seen, profile, base, options or {})
    found = _refusal(facts)
    if found is None:
        return [_alone(one, facts) for one in facts.tensors]
    rule, first = found
    said = _said(rule, first, facts)
    return [_verdict(one, rule.verdict, rule.id, said, rule.sources) for one in facts.tensors]


def _refusal(facts: Facts) -> tuple[Rule, Stored] | None:
    """The first rule that decides on the whole, and the tensor for which it does."""
    wholes = [rule for rule in facts.profile.rules if rule.whole]
    return next(((rule, one) for rule in wholes for one in facts.tensors if _holds(rule, one, facts)), None)


def _alone(one: Stored, facts: Facts) -> Verdict:
    rule = next((rule for rule in facts.profile.rules if not rule.whole and _holds(rule, one, facts)), None)
    if rule is not None:
        return _verdict(one, rule.verdict, rule.id, _said(rule, one, facts), rule.sources)
    if facts.architecture is not None and facts.place(one) == THERE:
        return _verdict(one, APPLIED, "", "", facts.architecture.sources)
    return _verdict(one, NOT_KNOWN, "", _why(one, facts), ())


def _why(one: Stored, facts: Facts) -> str:
    """Why nothing is known of a tensor."""
    if facts.base is None:
        return "which layers take part depends on the base: give it"
    if facts.architecture is None:
        return f"the profile has nothing on {facts.base.architecture or 'a base that does not say its class'}"
    return f"the profile does not say whether `{one.name}` takes part in {facts.base.architecture}"


def _holds(rule: Rule, one: Stored, facts: Facts) -> bool:
    return all(CONDITIONS[name](said, one, facts) for name, said in rule.when.items())


def _said(rule: Rule, one: Stored, facts: Facts) -> str:
    return rule.says.format(**facts.words(one))


def _verdict(one: Stored, verdict: str, rule: str, says: str, sources: tuple[str, ...]) -> Verdict:
    return Verdict(one.key, one.kind, verdict, rule, says, sources)
