"""`http://`: as `https://`, for servers on this machine only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.errors import PolicyError
from adaptr.registry.client import address
from adaptr.registry.remotes.https import Https

if TYPE_CHECKING:
    from adaptr.registry.reference import Reference


class Http(Https):
    """A web server here, or one that `ADAPTR_PLAIN_HTTP` lists."""

    name = "http"

    def require_allowed(self, reference: Reference) -> None:
        place = address.origin(f"http://{reference.host}/")
        if not address.loopback(place.host) and not address.plain(reference.host):
            raise PolicyError(
                f"`{reference}` is not encrypted and not on this machine: refused",
                hint="use `https://`, or list the host in `ADAPTR_PLAIN_HTTP`",
            )
