"""Profiles are data: each rule has words, sources and a range, and asks what can be asked."""

from __future__ import annotations

import datetime
import re
import string

import pytest

from adaptr.errors import UsageError
from adaptr.serving import names
from adaptr.serving.conditions import CONDITIONS
from adaptr.serving.judge import VERDICTS
from adaptr.serving.profile import Profile, Rule, loaded, profile
from adaptr.serving.versions import beyond, parsed

#: What a rule can name in its words.
WORDS = {"tool", "module", "name", "end", "key", "rank", "architecture", "ours", "theirs", "missing"}
#: A repository with a path, maybe at a commit, or a thread; or a page of documentation.
SOURCE = re.compile(
    r"[\w.-]+/[\w.-]+( PR#\d+|#\d+| [\w./-]+(@[0-9a-f]{8})?)|[\w.-]+\.(ai|io)/[\w./-]+( \(\d{4}-\d\d-\d\d\))?"
)
SERVERS = ["lorax", "onnxruntime-genai", "sglang", "tensorrt-llm", "tgi", "vllm"]
RULES = [(name, rule) for name in names() for rule in loaded(name).rules]


@pytest.fixture(params=names())
def known(request: pytest.FixtureRequest) -> Profile:
    return loaded(request.param)


def test_these_servers_are_known() -> None:
    assert set(SERVERS) <= set(names())


@pytest.mark.parametrize(
    ("server", "rule"), RULES, ids=[f"{name}-{i}-{rule.id}" for i, (name, rule) in enumerate(RULES)]
)
def test_a_rule_is_whole(server: str, rule: Rule) -> None:
    assert rule.verdict in VERDICTS
    assert rule.verdict != "applied"
    assert rule.when
    assert rule.when.keys() <= CONDITIONS.keys()
    assert rule.says
    named = {field for _, field, _, _ in string.Formatter().parse(rule.says) if field}
    assert named <= WORDS
    assert rule.sources
    assert [one for one in rule.sources if not SOURCE.fullmatch(one)] == []
    assert not rule.range.before or rule.range.since < rule.range.before


def test_architectures_and_scales_say_where_they_were_read(known: Profile) -> None:
    for one in (*known.architectures, *known.scales):
        assert one.sources
        assert [source for source in one.sources if not SOURCE.fullmatch(source)] == []


def test_a_version_has_one_way_of_scaling_and_one_entry_for_a_class(known: Profile) -> None:
    for text in (known.oldest, known.newest):
        at = profile(f"{known.server}@{text}")
        assert len(at.scales) == 1
        classes = [name for one in at.architectures for name in one.names]
        assert len(classes) == len(set(classes))


def test_a_profile_says_when_it_was_read_and_of_what(known: Profile) -> None:
    assert datetime.date.fromisoformat(known.read) <= datetime.date.today()
    assert parsed(known.oldest) < parsed(known.newest) == known.version


def test_rules_hold_in_their_versions_alone() -> None:
    early, late = profile("vllm@0.11.0"), profile("vllm@0.12")
    assert "experts-early" in {rule.id for rule in early.rules}
    assert "experts-early" not in {rule.id for rule in late.rules}
    assert profile("vllm@0.15.1").architecture("PixtralForConditionalGeneration") is not None
    assert profile("vllm@0.20").architecture("PixtralForConditionalGeneration") is None


def test_newer_versions_than_were_read_are_told() -> None:
    assert not profile("vllm").beyond
    assert not profile("vllm@0.28.3").beyond
    assert profile("vllm@0.29").beyond


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("triton", "there is no server `triton`"),
        ("vlm", "did you mean `vllm`?"),
        ("vllm@0.6", r"is `0\.6`, wanted one from 0\.10 on: the profile was read of 0\.10 to 0\.28"),
        ("vllm@newest", "`newest` is no version"),
        ("vllm@", "`` is no version"),
    ],
)
def test_other_servers_and_versions_are_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        profile(text)


def test_versions_are_read_as_numbers() -> None:
    assert parsed("v0.28.0.post1") == parsed("0.28") == (0, 28)
    assert parsed("0.9") < parsed("0.10")
    assert not beyond(parsed("0.28.1"), parsed("0.28"))
    assert beyond(parsed("1"), parsed("0.28"))
