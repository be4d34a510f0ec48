"""What PEFT's types have in common that train in a frame which PEFT makes of the base, and takes for that of any file.

A file means what it should where the base gives the very frame. That is known of an adapter that was read from PEFT,
and found out of others with the base; a digest of the frame is kept with the adapter, so that another is noticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from adaptr.errors import ConfigMissing, Unsupported
from adaptr.foreign import saving
from adaptr.foreign.peft.types import PeftType

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.same import Same

#: Under what the digest is kept.
SEAL = "frame"
#: How far a frame may be from the one that the base gives, beside its largest number.
NEAR = 1e-5


class Framed(PeftType):
    #: The tensors that are the frame.
    frame: ClassVar[tuple[str, ...]]
    open = True

    def frames(self, adapter: Adapter, base: BaseModel) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Where, what the adapter has there, and what PEFT makes of the base."""
        raise NotImplementedError

    def sealed(self, adapter: Adapter) -> Mapping[str, str]:
        found = hashlib.sha256()
        for key in sorted(key for key in adapter.tensors if key.rpartition(":")[2] in self.frame):
            found.update(adapter.tensors[key].detach().float().contiguous().numpy().tobytes())
        return {SEAL: found.hexdigest()}

    def based(self, adapter: Adapter, base: BaseModel) -> Adapter:
        """Raises `Unsupported` where the base gives another frame than the adapter's."""
        plain = saving.plain(adapter)
        for where, held, made in self.frames(plain, base):
            if bool((held.float() - made).abs().max() > NEAR * held.abs().max()):
                raise Unsupported(
                    f"{where}: of this base PEFT makes another frame than the adapter was trained in",
                    hint="write it as a LoRA (`adaptr convert --method lora`), or merge it and extract one",
                )
        known = {**adapter.foreign.get("peft", {}), **self.sealed(plain)}
        return adapter.replace(foreign={**adapter.foreign, "peft": known})

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        if adapter.foreign.get("peft", {}).get(SEAL) != self.sealed(adapter)[SEAL]:
            raise ConfigMissing(
                f"PEFT makes the frame of {self.peft} of the base, and whether it makes the adapter's is not known",
                hint="give the base with its weights (`--base`)",
            )
        return super().tensors(adapter)
