"""Beam jobs that build a memory corpus, and the command line."""
