"""What this version of PEFT computes with what adaptr wrote for it, against adaptr's logits. check.py FOLDER VERSION"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cases
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM


def main(folder: Path) -> None:
    def logits(case: dict[str, Any]) -> torch.Tensor:
        # the configuration in the words of this version of transformers, the weights as they are
        model = LlamaForCausalLM(LlamaConfig(**json.loads((folder / f"{case['base']}.json").read_text("utf-8"))))
        model.load_state_dict(load_file(folder / case["base"] / "model.safetensors"))
        if case["adapter"]:
            model = PeftModel.from_pretrained(model, str(folder / case["adapter"]))
        with torch.no_grad():
            found: torch.Tensor = model.eval()(input_ids=torch.tensor(case["ids"])).logits[0]
        return found[-len(case["ids"][0]) :]

    cases.held(folder, logits, torch.tensor)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
