"""The command `memcorpus`: parses and prints."""
