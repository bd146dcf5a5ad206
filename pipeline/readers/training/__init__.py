"""Training a reader on a corpus: examples prepared, steps run, checkpoints kept."""
