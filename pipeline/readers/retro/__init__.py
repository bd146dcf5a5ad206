"""RETRO on chunk corpora: rows and their neighbours, training, bits per byte, generation."""
