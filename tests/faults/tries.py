"""Commands that meet faults, and what is asked of them: one try, many tries, and how they are told."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from retrieval import open_corpus
from storage import components, files, manifest, work_folder
from storage.folder import CorpusFolder
from tests.faults import shim
from tests.faults.shim import Fault
from tests.jobs import verify

# Tries of a scene, instead of its own number; "all" for every call.
TRIES: Final = os.environ.get("MEMCORPUS_FAULTS", "")
# Another one chooses other calls.
SEED: Final = int(os.environ.get("MEMCORPUS_FAULTS_SEED", "0"))
# No command of a scene takes a tenth of it, undisturbed.
SECONDS: Final = 120.0
KILLED: Final = -9

# What a call of a class can meet. A close that fails has closed; a read or a write may do a part.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "open": ("EIO", "kill"),
    "write": ("EIO", "ENOSPC", "short", "torn"),
    "read": ("EIO", "short", "kill"),
    "fsync": ("EIO", "ENOSPC", "kill"),
    "rename": ("EIO", "ENOSPC", "kill"),
    "unlink": ("EIO", "kill"),
    "mkdir": ("ENOSPC", "kill"),
    "truncate": ("EIO", "kill"),
    "close": ("EIO", "kill"),
}
# A line of ours, and no exception's name in front.
_PLAIN: Final = re.compile(r"memcorpus: (?!\w*Error\b)")
_LISTED: Final = ("not repaired: ", "damaged: ", "unreadable: ")
_PROGRESS: Final = re.compile(r"\d\d:\d\d:\d\d .*")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: its status (negative for a signal, None for a hang), its lines on stdout, those
    on stderr but for the progress, and the calls that the shim noted, as (number, class, path)."""

    status: int | None
    printed: list[str]
    told: list[str]
    calls: list[tuple[int, str, str]]


class Forker:
    """The process of `forker.py`."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._folder = folder
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            # Threads do not survive a fork, and nothing here is large enough for two.
            "OPENBLAS_NUM_THREADS": "1",
            "MEMCORPUS_COMPILED": str(folder / "compiled"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.threads: list[str] = self._hear()["threads"]

    def run(
        self,
        command: Sequence[str | Path],
        root: Path,
        fault: Fault | None = None,
        *,
        stopped: Callable[[], None] | None = None,
    ) -> Ended:
        """Run `memcorpus COMMAND`, with a fault below `root`; `stopped` is called whenever it stops."""
        log, out, err = (self._folder / name for name in ("calls", "out", "err"))
        log.unlink(missing_ok=True)
        self._say(
            {
                "command": [str(argument) for argument in command],
                "folder": str(root),
                "fault": None if fault is None else fault.to_json(),
                "log": str(log),
                "out": str(out),
                "err": str(err),
                "seconds": SECONDS,
            }
        )
        while "stopped" in (answer := self._hear()):
            assert stopped is not None
            stopped()
            self._say({})
        noted = log.read_text(errors="replace").splitlines() if log.exists() else []
        calls = [(int(n), call, path) for n, call, _, path in (line.split(" ", 3) for line in noted)]
        told = [
            line for line in err.read_text(errors="replace").splitlines() if not _PROGRESS.fullmatch(line)
        ]
        printed = out.read_text(errors="replace").splitlines()
        return Ended(status=answer["status"], printed=printed, told=told, calls=calls)

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=30)

    def _say(self, value: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that forks for each command has died"
        return json.loads(line)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A command, and the folder that it is run in.

    Attributes:
        name: in the report.
        before: what lies there at first; None for nothing.
        command: the arguments of `memcorpus`, from the corpus folder.
        after: what lies there when it is done, but for the statistics.
        whole: the corpus is whole before, and so at any moment.
        tries: how many, unless the environment says otherwise.
    """

    name: str
    before: Path | None
    command: Callable[[Path], list[str | Path]]
    after: Mapping[str, bytes]
    whole: bool = True
    tries: int = 40


@dataclass
class Tally:
    """Tries and how they ended, by scene and class; `failures` in words."""

    ends: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    failures: list[str] = field(default_factory=list)

    def add(self, scene: str, what: str, end: str) -> None:
        self.ends[scene, what][end] += 1

    def lines(self) -> Iterator[str]:
        for (scene, what), ends in self.ends.items():
            told = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
            yield f"{scene:10s} {what:22s} {ends.total():4d} tries: {told}"


def content(root: Path) -> dict[str, bytes]:
    """Every file but the statistics, which hold times."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_relative_to(root / "statistics")
    }


def chosen(forker: Forker, scene: Scene, root: Path) -> list[Fault]:
    """Faults for the calls that the command makes when nothing is wrong; of each class about as many."""
    rng = random.Random(f"{scene.name} {SEED}")
    lay_down(scene, root)
    counted = forker.run(scene.command(root), root, Fault(calls=shim.CALLS))
    assert counted.status == 0, counted.told
    assert content(root) == scene.after, "the undisturbed command gives other bytes"
    calls = Counter(call for _, call, _ in counted.calls)
    queues = []
    for call, kinds in KINDS.items():
        for kind in kinds:
            numbers = list(range(1, calls[call] + 1))
            rng.shuffle(numbers)
            queues.append([Fault(calls=(call,), kind=kind, first=n) for n in numbers])
    rng.shuffle(queues)
    faults = []
    while any(queues):
        faults += [queue.pop() for queue in queues if queue]
    return faults if TRIES == "all" else faults[: int(TRIES or scene.tries)]


def lay_down(scene: Scene, root: Path) -> None:
    """The folder as it is before the command."""
    shutil.rmtree(root, ignore_errors=True)
    if scene.before is not None:
        shutil.copytree(scene.before, root)


def attempt(forker: Forker, scene: Scene, root: Path, fault: Fault) -> str:
    """One try. Returns how the command ended; raises where a promise is broken."""
    lay_down(scene, root)
    reader = Reader(root) if scene.whole else None
    command = scene.command(root)
    ended = forker.run(command, root, fault)
    end = judged(ended, fault)
    if not ended.calls:
        end = "not met"
    if ended.status == 0:
        assert content(root) == scene.after, f"status 0, and other bytes: {differences(root, scene.after)}"
    if reader is not None:
        reader.check()
    finish(forker, scene, root)
    if reader is not None:
        reader.check()
    return end


def finish(forker: Forker, scene: Scene, root: Path) -> None:
    """After a fault: what is visible is whole, and the same command again completes it to the byte."""
    if scene.whole or (scene.before is None and (root / manifest.NAME).exists()):
        require_whole(root)
    again = forker.run(scene.command(root), root)
    assert again.status == 0, f"the same command again ends with {again.status}: {again.told[-1:]}"
    assert content(root) == scene.after, f"after the rerun, other bytes: {differences(root, scene.after)}"
    require_whole(root)
    assert (strays := verify(root, full=True).strays) == [], f"left over: {strays}"


def judged(ended: Ended, fault: Fault) -> str:
    """How a command ended, in a word; raises where it is not as promised."""
    if ended.status == KILLED:
        assert fault.kind in ("kill", "torn"), "killed, though nobody did"
        return "killed"
    assert ended.status is not None, f"hangs: {ended.told[-1:]}"
    assert ended.status in (0, 1, 2), f"status {ended.status}: {ended.told[-1:]}"
    told = ended.told
    if ended.status == 0:
        assert not told, f"status 0, and words: {told[:3]}"
        return "done"
    if not told:
        # `repair` and `verify` list what is not as it should be.
        listed = [line for line in ended.printed if line.startswith(_LISTED)]
        assert listed, f"status {ended.status}, and not a word"
        return f"listed, {ended.status}"
    assert len(told) == 1, f"status {ended.status}, and not one line: {told[:2] + told[-2:]}"
    assert _PLAIN.match(told[0]), f"status {ended.status}, and no plain line: {told}"
    return f"refused, {ended.status}"


def require_whole(root: Path) -> None:
    """Every byte as it was written, and every row of every version as a reader gets it."""
    found = verify(root, full=True)
    assert found.ok, f"damaged: {found.damaged[:3]}"
    corpus = open_corpus(root)
    for name in CorpusFolder(root).manifest.of(components.MEMORY):
        memory = corpus.memory(name, check="always").fetch(range(len(corpus)))
        assert memory.values.shape[0] == corpus.memory(name).tokens(range(len(corpus))).sum()


class Reader:
    """A reader that was open before, and must get what it got."""

    def __init__(self, root: Path) -> None:
        self._corpus = open_corpus(root)
        self._memory = self._corpus.memory(check="always")
        self._rows = self._read()

    def check(self) -> None:
        for before, now in zip(self._rows, self._read(), strict=True):
            assert np.array_equal(before, now), "an open reader gets other rows"

    def _read(self) -> tuple[Any, ...]:
        everything = range(len(self._corpus))
        memory = self._memory.fetch(everything, decode=False)
        table = self._corpus.passages(everything)
        return memory.offsets, memory.values, np.array(table["text"].to_pylist())


def differences(root: Path, after: Mapping[str, bytes]) -> str:
    """The first file that is not as it should be."""
    found = content(root)
    for name in sorted({*found, *after}):
        if name not in after:
            return f"{name} is left over"
        if name not in found:
            return f"{name} is missing"
        if found[name] != after[name]:
            return f"{name} differs"
    return ""


def leftovers(root: Path) -> list[Path]:
    return [*files.leftovers(root), *(root / work_folder.NAME).rglob("*")]


def run(forker: Forker, scene: Scene, folder: Path, tally: Tally) -> list[str]:
    """All tries of a scene. Returns what went wrong, in words."""
    wrong = []
    root = folder / "corpus"
    for fault in chosen(forker, scene, root):
        what = f"{'/'.join(fault.calls)} {fault.kind}"
        try:
            tally.add(scene.name, what, attempt(forker, scene, root, fault))
        except AssertionError as e:
            tally.add(scene.name, what, "BROKEN")
            wrong.append(f"{scene.name}: {fault}: {str(e).splitlines()[0]}")
    return wrong
