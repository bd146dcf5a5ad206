"""`python -m pipeline` is `memcorpus`."""

from pipeline.cli import main

main()
