"""What vLLM loads: the entry point of `vllm.general_plugins`, and a `LoRAResolver`. Only vLLM imports this.

The interface is that of vllm/lora/resolver.py and vllm/lora/request.py, read in November 2026; vLLM gives each request
an id of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re

import vllm
from vllm.lora.request import LoRARequest
from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

from adaptr.errors import AdaptrError, UsageError, shown
from adaptr.handing.hander import Hander
from adaptr.serving.profile import profile

log = logging.getLogger("adaptr")
#: The name of the entry point, which `VLLM_PLUGINS` has, and of the resolver.
NAME = "adaptr_lora_resolver"
ALLOW, BASE = "ADAPTR_VLLM_ALLOW", "ADAPTR_VLLM_BASE"


class Resolver(LoRAResolver):  # type: ignore[misc]  # vLLM is not installed where types are checked
    """Hands over what requests name, where this machine allows it."""

    def __init__(self, hander: Hander) -> None:
        self.hander = hander

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
        """What vLLM loads for a name; None, with a warning, for what can't be pulled, is not trusted or not LoRA."""
        try:
            folder = await asyncio.to_thread(self.hander.folder, base_model_name, lora_name)
        except AdaptrError as error:
            log.warning("`%s` is not served: %s", shown(lora_name), error)
            return None
        if folder is None:
            return None
        number = int(folder.name[:7], 16) + 1
        return LoRARequest(lora_name=lora_name, lora_int_id=number, lora_path=str(folder))


def register() -> None:
    """Register the resolver, if `ADAPTR_VLLM_ALLOW` says what requests may name. Called in each process, perhaps more
    than once.
    """
    allowed = tuple(scope.strip() for scope in os.environ.get(ALLOW, "").split(",") if scope.strip())
    if allowed:
        hander = Hander(allowed, _server(vllm.__version__), os.environ.get(BASE, ""))
        LoRAResolverRegistry.register_resolver(NAME, Resolver(hander))


def _server(version: str) -> str:
    """That vLLM as a profile is named; the newest for what has no number, as builds of one's own."""
    number = re.match(r"\d+(\.\d+)+", version)
    named = f"vllm@{number[0]}" if number else "vllm"
    try:
        profile(named)
    except UsageError as error:
        log.warning("%s; taken for the newest that is known", error)
        return "vllm"
    return named
