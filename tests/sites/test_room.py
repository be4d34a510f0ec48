"""The room of sites: found by name, alike in form, and none left out."""

from __future__ import annotations

import pickle

import pytest

from adaptr import sites
from adaptr.adapter import Target, kinds
from adaptr.contract.mounts import of
from adaptr.errors import Unsupported
from adaptr.sites.base import Site


@pytest.mark.parametrize("name", sites.names())
def test_a_site_is_called_as_its_file(name: str) -> None:
    found = sites.site(name)
    assert isinstance(found, Site)
    assert found.name == name
    assert type(found).__mro__[1].__module__.startswith("adaptr.sites")


@pytest.mark.parametrize("name", sites.names())
def test_a_site_is_one_object_also_when_it_comes_back_from_a_pickle(name: str) -> None:
    assert pickle.loads(pickle.dumps(sites.site(name))) is sites.site(name)


def test_a_site_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(Unsupported, match=r"no site in a model called `nowhere`; .*sites: attention, "):
        sites.site("nowhere")


@pytest.mark.parametrize("kind", sorted(kinds.ALL))
def test_a_target_of_each_kind_has_a_site(kind: str) -> None:
    assert of(Target("a.b", kind, (4, 4))).site in sites.names()


def test_what_a_target_reads_is_in_its_mount() -> None:
    assert of(Target("a", "module", (4,), {"reads": "b.c"})).reads == ("b.c",)
    assert of(Target("a", "module", (4,), {"reads": ""})).reads == ()
