"""How two adapters or checkpoints differ."""
