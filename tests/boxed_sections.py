"""Sections for `benchmarks.device.boxes` that do well, fail, crash, hang or come too late."""

from __future__ import annotations

import os
import time

from benchmarks.device.boxes import Box


def good(box: Box) -> None:
    seen = {"given": box.settings["given"], "earlier": sorted(box.earlier)}
    box.put("one", {**seen, "time": box.left > 0})
    box.entry("two", lambda: {"value": 2.0})


def raises(box: Box) -> None:
    box.entry("first", lambda: {"value": 1.0})
    box.entry("no room", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    box.entry("after it", lambda: {"value": 3.0})
    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 3 GiB")


def crashes(box: Box) -> None:
    box.put("before", {"value": 1.0})
    os.abort()


def hangs(box: Box) -> None:
    box.put("before", {"value": 1.0})
    time.sleep(600)


def spends(box: Box) -> None:
    while box.left > 0:
        time.sleep(0.05)
    box.entry("late", lambda: {"value": 1.0})
