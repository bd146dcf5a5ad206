"""Comparisons with peers, side by side in one run, as ratios with their spread."""
