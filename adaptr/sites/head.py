"""Before the output head: the last hidden states that it is given."""

from __future__ import annotations

from torch import nn

from adaptr.sites.base import path_of
from adaptr.sites.input import Input


class Head(Input):
    name = "head"

    def find(self, model: nn.Module, role: str = "") -> list[str]:
        return [role] if role else path_of(model, "get_output_embeddings")


SITE = Head()
