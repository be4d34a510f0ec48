"""The text's embeddings, as the first block gets them: what the table of words puts out."""

from __future__ import annotations

from torch import nn

from adaptr.sites.base import path_of
from adaptr.sites.output import Output


class Embed(Output):
    name = "embed"

    def find(self, model: nn.Module, role: str = "") -> list[str]:
        return [role] if role else path_of(model, "get_input_embeddings")


SITE = Embed()
