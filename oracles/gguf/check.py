"""What llama.cpp computes with each adapter, or with it merged by adaptr into a GGUF file, against PEFT's and
transformers': log-probabilities of the next token. check.py FOLDER

The cache and attention compute in fp32, as the reference does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cases
import numpy as np
import xllamacpp as xl


def logprobs(base: Path, adapter: Path | None, ids: list[int], count: int) -> np.ndarray:
    """Log-probabilities (vocabulary,) of what follows `ids`."""
    params = xl.CommonParams()
    params.model.path = str(base)
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 128, 1, 1
    params.warmup, params.verbosity = False, -1
    params.flash_attn_type = xl.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xl.ggml_type.GGML_TYPE_F32
    if adapter is not None:
        lora = xl.CommonAdapterLoraInfo()
        lora.path, lora.scale = str(adapter), 1.0
        params.lora_adapters = [lora]
    asked = {"prompt": ids, "n_predict": 1, "n_probs": count, "temperature": 0.0, "cache_prompt": False,
             "ignore_eos": True, "post_sampling_probs": False}  # fmt: skip
    said = xl.Server(params).handle_completions(asked)
    said = json.loads(said) if isinstance(said, str) else said
    found = np.full(count, np.nan)
    for one in said["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        found[one["id"]] = one["logprob"]
    return found


def main(folder: Path) -> None:
    def found(case: dict[str, Any]) -> np.ndarray:
        adapter = folder / case["adapter"] if case["adapter"] else None
        return logprobs(folder / case["base"], adapter, case["ids"], case["count"])

    cases.held(folder, found, np.array)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
