"""Passages: read from the sources, then numbered."""
