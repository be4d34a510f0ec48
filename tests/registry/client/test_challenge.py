from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptr.registry.client.challenge import parse


def told(*headers: str) -> list[tuple[str, dict[str, str]]]:
    return [(one.scheme, dict(one.parameters)) for one in parse(headers)]


@pytest.mark.parametrize(
    ("header", "want"),
    [
        ('Basic realm="a b"', [("basic", {"realm": "a b"})]),
        (
            'Bearer realm="https://a/token",service="s",scope="repository:x:pull,push"',
            [("bearer", {"realm": "https://a/token", "service": "s", "scope": "repository:x:pull,push"})],
        ),
        ('bAsIc REALM=x, Bearer realm = "y"', [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ('Negotiate abc==, Basic realm="say \\"x\\", y"', [("negotiate", {}), ("basic", {"realm": 'say "x", y'})]),
        ("Negotiate", [("negotiate", {})]),
        ('Basic realm="first", realm="second"', [("basic", {"realm": "first"})]),
        ("", []),
        (" , ,", []),
        ('Basic realm="open', [("basic", {})]),
    ],
)
def test_challenges(header: str, want: list[tuple[str, dict[str, str]]]) -> None:
    assert told(header)[: len(want)] == want


def test_all_headers_count() -> None:
    assert [scheme for scheme, _ in told("Basic realm=x", 'Bearer realm="y"')] == ["basic", "bearer"]


@given(st.text(max_size=200))
def test_nothing_breaks_it(header: str) -> None:
    for scheme, parameters in told(header):
        assert scheme == scheme.lower()
        assert all(name == name.lower() for name in parameters)
