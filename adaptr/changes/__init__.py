"""What adapters do to a base's weights: planned tensor by tensor, or as one delta a target."""
