"""What is known of a base model and its weights: what is tied, how large a vocabulary is, which base it is."""
