"""The memory store beside its peers: fetching random passages, writing, bytes on the disk.

    python -m benchmarks.store [--passages 2000] [--rounds 40] [--warm | --cold] [--json FILE]

All contenders hold the same rows and take turns in one process; each is compared with the truth,
passage by passage, before anything is timed. docs/benchmarks.md says what is measured and why so.
"""
