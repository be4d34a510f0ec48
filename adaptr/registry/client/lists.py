"""What a registry says it has: repositories and tags, page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from adaptr.errors import RegistryError
from adaptr.registry.client import address
from adaptr.registry.client.auth import Scopes, scope
from adaptr.registry.client.retry import retried

if TYPE_CHECKING:
    from adaptr.registry.client.registry import Registry

PAGES = 100
#: Tags that are no names but attachments, where a registry has no referrers API.
FALLBACK = re.compile(r"sha256-[0-9a-f]{64}(\.(sig|att|sbom))?\Z")
_NEXT = re.compile(r'<([^<>]+)>\s*;\s*rel="?next"?', re.IGNORECASE)


def tags(registry: Registry, repository: str) -> list[str]:
    """The tags of a repository, in order, but for those that stand for attachments."""
    path = f"/v2/{repository}/tags/list?n=1000"
    found = _all(registry, path, "tags", frozenset({scope(repository, "pull")}), f"`{repository}`")
    return [tag for tag in found if not FALLBACK.match(tag)]


def repositories(registry: Registry, under: str) -> list[str]:
    """The repositories of a namespace, in order, where the registry tells."""
    scopes = frozenset({"registry:catalog:*"})
    found = _all(registry, "/v2/_catalog?n=1000", "repositories", scopes, "its catalog, which not every registry shows")
    return [name for name in found if name == under or name.startswith(f"{under}/")]


def _all(registry: Registry, path: str, key: str, scopes: Scopes, what: str) -> list[str]:
    found: set[str] = set()
    for document in _pages(registry, path, scopes, what):
        listed = document.get(key) or []
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise RegistryError(
                f"`{registry.host}` answers with no list `{key}` of names for {what}",
                hint="it may not list; name what you look for",
            )
        page = set(listed)
        if page <= found:
            break
        found |= page
    return sorted(found)


def _pages(registry: Registry, path: str, scopes: Scopes, what: str) -> Iterator[dict[str, Any]]:
    for _ in range(PAGES):
        document, path = retried(lambda at=path: _page(registry, at, scopes, what))  # type: ignore[misc]
        yield document
        if not path:
            return
    raise RegistryError(
        f"`{registry.host}` has more than {PAGES} pages of {what}: not read on", hint="search in a narrower place"
    )


def _page(registry: Registry, path: str, scopes: Scopes, what: str) -> tuple[dict[str, Any], str]:
    """A page and the address of the next; one elsewhere is not followed."""
    with registry.ask("GET", path, scopes) as answer:
        if answer.status != 200:
            raise registry.refused(answer, what, scopes)
        link = _NEXT.search(answer.header("link"))
        after = urljoin(answer.url, link[1]) if link else ""
        return answer.json(), after if after and address.origin(after) == answer.origin else ""
