"""How many rows a row group of the passages should have: bytes, footers, and the time to read one.

    python -m benchmarks.row_groups [--rows 131072]

Text is of words by a power law, as `benchmarks.many_shards` has it. Bounds of values are kept of two columns
that somebody may look for; those of all columns make footers of small groups several times as long.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.many_shards import batches, soup
from storage import passage_parts

SIZES = (1024, 512, 256, 128, 64)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.row_groups", description=__doc__)
    parser.add_argument("--rows", type=int, default=1 << 17)
    options = parser.parse_args()
    data = list(batches(0, options.rows, soup()))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part"
        for size in SIZES:
            passage_parts.GROUP_ROWS = size  # type: ignore[misc]
            passage_parts.write_part(path, passage_parts.SCHEMA, iter(data))
            began = time.process_time()
            metadata = pq.read_metadata(path)
            parsed = time.process_time() - began
            groups = rng.integers(0, metadata.num_row_groups, 60).tolist()

            def read(columns: list[str] | None, groups: list[int] = groups) -> float:
                taken = []
                with pq.ParquetFile(path, page_checksum_verification=True) as file:
                    for group in groups:
                        began = time.process_time()
                        file.read_row_group(group, columns=columns, use_threads=False)
                        taken.append(time.process_time() - began)
                return round(1e3 * statistics.median(taken), 2)

            found = {
                "rows a group": size,
                "bytes a row": round(path.stat().st_size / options.rows, 1),
                "of which footer": round(metadata.serialized_size / options.rows, 2),
                "footer of 100,000 rows, ms": round(1e8 * parsed / options.rows, 1),
                "a group's text, CPU ms": read(["text"]),
                "all columns, CPU ms": read(None),
                "a group, kB": round(path.stat().st_size * size / options.rows / 1000),
            }
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
