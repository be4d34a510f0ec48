"""adaptr inside servers: their plugins, which bring the adapters that requests name."""
