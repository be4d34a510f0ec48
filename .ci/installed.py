"""A base of one layer and a LoRA for it, made with what is installed, in the folder where it runs."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

import adaptr

Path("base").mkdir()
Path("base/config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
torch.manual_seed(0)
save_file({"layer.weight": torch.randn(6, 4)}, "base/model.safetensors", {"format": "pt"})
config = {"r": 2, "alpha": 4.0, "dropout": 0.0, "rslora": False, "bias": False}
target = adaptr.Target("layer", "linear", (6, 4), config)
tensors = {"layer:A": torch.randn(2, 4), "layer:B": torch.randn(6, 2)}
adaptr.save(adaptr.Adapter("lora", config, {"layer": target}, tensors), "lora.safetensors")
