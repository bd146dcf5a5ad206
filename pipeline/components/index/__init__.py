"""The index: built by all workers, extended by updates, committed, made again."""
