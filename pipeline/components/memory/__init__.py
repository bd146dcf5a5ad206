"""Memory: encoded or recoded by shards, its codec trained before, committed as a version."""
