"""The encoder against its peers: parity with transformers first, then tokens a second, in turns.

    python -m benchmarks.encoder [--size base --layers 8 --dtype float32 bfloat16 --passages 48 --rounds 3]

Needs neither Beam nor a model: weights are random, lengths are drawn once as 200-word passages have them.
"""
