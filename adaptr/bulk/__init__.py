"""Work on all weights of a checkpoint at a time: what changes a tensor, in blocks, by several workers."""
