"""Faults of the machine, put into real commands: see docs/operations.md, "make test-faults"."""
