"""The three stages of a build that run on Beam: read passages, number them, encode their shards."""
