"""Adapters that are made here: of deltas, at a rank, stored in a dtype, with what is known of them."""
