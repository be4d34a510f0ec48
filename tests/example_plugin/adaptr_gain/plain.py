"""Plain: the vectors of IA3 as numbers in a JSON file, by the name of their layer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from adaptr import plugins
from adaptr.adapter import Adapter, Target
from adaptr.errors import ForeignError, Unsupported
from adaptr.files import replacing
from adaptr.foreign import NOTHING, Format, Marks, Supplied, Written, finish, saving
from adaptr.untrusted import json_file

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.foreign.format import BaseModel


class Plain(Format):
    name = "plain"
    tool, called = "Plain", "a plain adapter"
    marks = Marks(first=(b'{"plain":',))
    folder = False

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        import torch

        file, targets, tensors = self.weights(path), {}, {}
        said = json_file(file, ForeignError)
        try:
            for name, one in said["plain"].items():
                tensors[f"{name}:l"] = torch.tensor(one["l"], dtype=torch.float32)
                targets[name] = Target(name, one["kind"], tuple(one["shape"]), dict(one["config"]))
                plugins.method("ia3").check(targets[name], {"l": tuple(tensors[f"{name}:l"].shape)})
            made = Adapter("ia3", dict(said["config"]), targets, tensors, source=str(file))
        except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise ForeignError(f"`{file}` is no plain adapter: {error!r}") from None
        return finish.named(made, saving.told({saving.ABOUT: str(said.get("about", ""))}))

    def lost(self, adapter: Adapter) -> list[str]:
        whole = [f"the whole parameter `{path}`" for path in adapter.replaced_paths]
        wide = {str(tensor.dtype) for tensor in adapter.tensors.values()} <= {"torch.float32"}
        return [*saving.lost(adapter), *whole, *([] if wide else ["the precision, which becomes fp32"])]

    def save(self, adapter: Adapter, out: Path, force: bool) -> Written:
        if adapter.method != "ia3":
            raise Unsupported(f"Plain has no `{adapter.method}`; it holds ia3")
        plain = saving.plain(adapter)
        vectors = {
            name: {
                "kind": one.kind,
                "shape": one.shape,
                "config": one.config,
                "l": plain.at(name)["l"].float().tolist(),
            }
            for name, one in plain.targets.items()
        }
        said = {"plain": vectors, "config": adapter.config, "about": saving.about(adapter)}
        with replacing(out, force) as file:
            file.write(json.dumps(said).encode())
        return Written(out)
