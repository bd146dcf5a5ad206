"""Examples of memcorpus; run them from the root of the repository."""
