"""Interleaved timing: contenders take turns in one process, so that a shared machine slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    *,
    untimed: int = 0,
) -> dict[str, list[float]]:
    """Seconds of each contender in each round, after one round that is not counted.

    `clock`: with `time.thread_time`, seconds of this thread on a processor, which other work on the machine
    lengthens less than seconds on the wall. `untimed`: runs before the one that is timed, at each turn, so
    that it finds in the caches what it left there itself, and not the others'.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            for _ in range(untimed):
                run()
            start = clock()
            run()
            if number:
                seconds[name].append(clock() - start)
    return seconds


def table(seconds: Mapping[str, list[float]], base: str, *, unit: str = "ms", scale: float = 1e3) -> str:
    """Median, quartiles and 99th percentile of each contender, and its ratio to `base`, round by round."""
    lines = [f"{'':<28}{'median ' + unit:>12}{'p99 ' + unit:>10}   ratio to {base}: quartiles"]
    for name, values in seconds.items():
        ratios = sorted(v / b for v, b in zip(values, seconds[base], strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4)
        p99 = sorted(values)[int(0.99 * (len(values) - 1))]
        lines.append(
            f"{name:<28}{statistics.median(values) * scale:>12.3f}{p99 * scale:>10.3f}"
            f"   {middle:.2f} ({low:.2f} to {high:.2f})"
        )
    return "\n".join(lines)
