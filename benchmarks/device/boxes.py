"""Sections in boxes: each in a process of its own, for its share of the time, and none ends the others.

A section is a function of a `Box`. It puts its figures there entry by entry, and they arrive at once: what
was measured before a section failed, crashed or ran over its time is kept. Processes are forked off one that
has imported the libraries and started no device.
"""

from __future__ import annotations

import importlib
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Final

Row = dict[str, Any]
# What a section may take beyond its share, for what cannot be interrupted, before it is ended.
GRACE: Final = 1.25
# A section that begins with less has no time to start a device and compile.
LEAST_SECONDS: Final = 2.0
LONGEST_MESSAGE: Final = 400


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section.

    Attributes:
        name: in the tables.
        function: what it runs, as "module:function".
        weight: its share of the time, relative to the others'. What one leaves is the next ones'.
    """

    name: str
    function: str
    weight: float


@dataclass(kw_only=True)
class Box:
    """What a section is given, and where its figures go.

    Attributes:
        settings: of the run; the same for all.
        earlier: entries of the sections before it, by section.
        deadline: by `time.monotonic`, when it is to be done.
    """

    settings: Mapping[str, Any]
    earlier: Mapping[str, Mapping[str, Row]]
    deadline: float
    _send: Callable[[str, Row], None]
    entries: dict[str, Row] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    def put(self, name: str, row: Row) -> None:
        self.entries[name] = row
        self._send(name, row)

    def entry(self, name: str, measure: Callable[[], Row]) -> Row:
        """Put what `measure` gives; what it raises, or that there was no time for it, otherwise."""
        if self.left <= 0:
            row: Row = {"skipped": "the section's time was spent"}
        else:
            try:
                row = measure()
            except Exception as error:  # out of memory, a kernel that this device has not: a result as well
                row = {"error": told(error)}
        self.put(name, row)
        return row


def told(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:LONGEST_MESSAGE]}"


def failed(row: Row) -> bool:
    return bool(row.keys() & {"error", "skipped"})


def run(
    sections: Sequence[Section],
    settings: Mapping[str, Any],
    seconds: float,
    *,
    preload: Sequence[str] = (),
    after: Callable[[dict[str, Row]], None] = lambda found: None,
    earlier: Mapping[str, Row] | None = None,
) -> dict[str, Row]:
    """All sections, one after the other.

    Args:
        sections: in this order, which is that of their worth: the last are skipped when time runs out.
        settings: for them; picklable.
        seconds: for all.
        preload: modules that the process imports which sections are forked off.
        after: is told what there is after each section.
        earlier: what sections of another call gave.

    Returns:
        By section: `seconds`, `entries`, and `error` or `skipped` where it did not come to its end.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    ends = time.monotonic() + seconds
    found: dict[str, Row] = {}
    for place, section in enumerate(sections):
        left = ends - time.monotonic()
        share = left * section.weight / sum(other.weight for other in sections[place:])
        if share < LEAST_SECONDS:
            found[section.name] = {
                "seconds": 0.0,
                "entries": {},
                "skipped": f"{max(left, 0):.0f} of {seconds:.0f} s were left",
            }
        else:
            before = {name: row["entries"] for name, row in {**(earlier or {}), **found}.items()}
            found[section.name] = _run_one(context, section, settings, before, share)
        after(found)
    return found


def _run_one(
    context: Any,
    section: Section,
    settings: Mapping[str, Any],
    earlier: Mapping[str, Any],
    share: float,
) -> Row:
    begun = time.monotonic()
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(section.function, settings, earlier, begun + share, there))
    process.start()
    there.close()
    row: Row = {"seconds": 0.0, "entries": {}}
    try:
        while True:
            if not here.poll(max(0.0, begun + GRACE * share - time.monotonic())):
                row["error"] = f"ended after {time.monotonic() - begun:.0f} s, its share was {share:.0f} s"
                break
            kind, name, value = here.recv()
            if kind == "entry":
                row["entries"][name] = value
            elif kind == "error":
                row["error"] = value
                break
            else:
                break
    except EOFError:
        process.join()
        row["error"] = f"its process ended with status {process.exitcode}; see what it printed"
    finally:
        process.kill()
        process.join()
        here.close()
    row["seconds"] = time.monotonic() - begun
    return row


def _child(
    function: str, settings: Mapping[str, Any], earlier: Mapping[str, Any], deadline: float, pipe: Connection
) -> None:
    try:
        module, _, name = function.partition(":")
        section: Callable[[Box], None] = getattr(importlib.import_module(module), name)
        box = Box(
            settings=settings,
            earlier=earlier,
            # The system's clock, which all processes share.
            deadline=deadline,
            _send=lambda name, row: pipe.send(("entry", name, row)),
        )
        section(box)
    except Exception as error:
        pipe.send(("error", "", told(error)))
    else:
        pipe.send(("done", "", None))
