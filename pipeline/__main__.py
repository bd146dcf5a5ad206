"""`python -m pipeline` is `memcorpus`."""

from pipeline.cli.main import main

main()
