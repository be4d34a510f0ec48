"""What the files of a folder of NeMo's are called."""

SETTINGS, WEIGHTS = "model_config.yaml", "model_weights.ckpt"
