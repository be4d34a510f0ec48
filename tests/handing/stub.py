"""The part of vLLM that plugins meet, as vllm/lora/resolver.py and vllm/lora/request.py have it, and how its server
asks: `resolve_lora` of vllm/entrypoints/openai/models/serving.py.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""
    base_model_name: str | None = None
    tensorizer_config_dict: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        assert self.lora_int_id >= 1
        assert self.lora_path


class LoRAResolver(ABC):
    @abstractmethod
    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None: ...


class Registry:
    def __init__(self) -> None:
        self.resolvers: dict[str, LoRAResolver] = {}

    def register_resolver(self, resolver_name: str, resolver: LoRAResolver) -> None:
        assert isinstance(resolver, LoRAResolver)
        self.resolvers[resolver_name] = resolver

    def asked(self, base: str, name: str) -> LoRARequest | None:
        """What a server would load for the model of a request."""
        for resolver in self.resolvers.values():
            found = asyncio.run(resolver.resolve_lora(base, name))
            if found is not None:
                return found
        return None


def installed(patch: pytest.MonkeyPatch, version: str = "0.28.0") -> Registry:
    """vLLM as if it were installed."""
    registry = Registry()
    contents: dict[str, dict[str, Any]] = {
        "vllm": {"__version__": version},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": LoRARequest},
        "vllm.lora.resolver": {"LoRAResolver": LoRAResolver, "LoRAResolverRegistry": registry},
    }
    for name, held in contents.items():
        module = ModuleType(name)
        vars(module).update(held)
        patch.setitem(sys.modules, name, module)
    patch.delitem(sys.modules, "adaptr.handing.vllm", raising=False)
    return registry
