"""From what a person says to module paths: roles, patterns, types, paths.

`attn.q`, `mlp.down` ...   a role (`adaptr.roles`)
`all-linear`               every linear layer but the output head, and no router of experts
`type:LayerNorm`           every module of that class, or of a kind: `type:linear`
`*.layers.[0-3].*.q_proj`  a glob over paths (`*` crosses dots)
`re:.*layers\\.\\d+\\.fc1`   a regular expression that must match the whole path
`q_proj`, `lm_head`        the end of a path, on whole components
`attn.k|attn.qkv`          the first alternative that matches anything
"""

from adaptr.targets.matching import match, parameter
from adaptr.targets.modules import applies_own, describe, is_head, is_norm, module_at, submodule, words_of
from adaptr.targets.sizes import attention_size, hidden_size, text_config
from adaptr.targets.words import Spec, override, resolve

__all__ = [
    "Spec",
    "applies_own",
    "attention_size",
    "describe",
    "hidden_size",
    "is_head",
    "is_norm",
    "match",
    "module_at",
    "override",
    "parameter",
    "resolve",
    "submodule",
    "text_config",
    "words_of",
]
