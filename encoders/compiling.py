"""Compiled programs: counted, and kept from one process to the next.

XLA compiles a program for each shape, which takes seconds for a large encoder, and jax can keep what was
compiled in a folder. It trusts what it finds there: it writes entries in place, and a flipped bit of one is
machine code all the same. So each process gives jax a folder of its own, filled with the kept entries whose
digest is right, and adds what was compiled to those by a rename. Importing this loads no jax.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Where compiled programs are kept; "off" for nowhere.
VARIABLE: Final = "MEMCORPUS_COMPILED"
OFF: Final = "off"
# Compilations shorter than this are not worth a file.
LEAST_SECONDS: Final = 0.1
# What is kept in one folder, at most; the oldest goes first.
MOST_BYTES: Final = 1 << 30

_COMPILED: Final = "/jax/core/compile/backend_compile_duration"
_LOADED: Final = "/jax/compilation_cache/cache_hits"
_DIGEST_BYTES: Final = 32
# What a process's own folder is called, in the folder for temporary files.
_OWN_PREFIX: Final = "memcorpus-programs-"


@dataclass(kw_only=True)
class Count:
    """Programs that a block of code asked for: `compiled` by XLA, `loaded` because they had been kept."""

    compiled: int = 0
    loaded: int = 0


_COUNTS = threading.local()
_LOCK = threading.Lock()
_LISTENING = False


@contextlib.contextmanager
def counted() -> Iterator[Count]:
    """Count the programs that the calling thread compiles or loads in the block."""
    _listen()
    count = Count()
    outer, _COUNTS.count = getattr(_COUNTS, "count", None), count
    try:
        yield count
    finally:
        _COUNTS.count = outer


def _listen() -> None:
    """Once a process: jax calls listeners in the thread that compiles, and has no way to end one."""
    global _LISTENING
    import jax

    def on_duration(event: str, duration_secs: float, **_: str | int) -> None:
        count: Count | None = getattr(_COUNTS, "count", None)
        if count is not None and event == _COMPILED:
            count.compiled += 1

    def on_event(event: str, **_: str | int) -> None:
        count: Count | None = getattr(_COUNTS, "count", None)
        if count is not None and event == _LOADED:
            # The same program is told of as compiled, too.
            count.loaded += 1
            count.compiled -= 1

    with _LOCK:
        if not _LISTENING:
            jax.monitoring.register_event_duration_secs_listener(on_duration)
            jax.monitoring.register_event_listener(on_event)
            _LISTENING = True


class Kept:
    """A folder of compiled programs, and this process's copy of it that jax reads and writes.

    Args:
        folder: shared by any number of processes, and by machines of the same kind alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own, self._lock = _make_own()
        self._known: set[str] = set()
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            program = _unsealed(path)
            if program is not None:
                (self.own / path.name).write_bytes(program)
                self._known.add(path.name)

    def remove(self) -> None:
        """Remove this process's copy; what was to be kept is in the folder."""
        shutil.rmtree(self.own, ignore_errors=True)
        os.close(self._lock)

    def keep(self) -> None:
        """Add what was compiled since to the folder; a folder that cannot be written keeps nothing."""
        # By jax's suffix: it has other files beside programs there, such as times of use.
        new = [path for path in self.own.glob("*-cache") if path.name not in self._known]
        with contextlib.suppress(OSError):
            for path in new:
                program = path.read_bytes()
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                # Renamed whole, so that no other process sees half of it.
                partial = self.folder / f".{path.name}.{os.getpid()}"
                try:
                    partial.write_bytes(hashlib.sha256(program).digest() + program)
                    partial.replace(self.folder / path.name)
                except OSError:
                    partial.unlink(missing_ok=True)
                    raise
                self._known.add(path.name)
            if new:
                _remove_oldest(self.folder)


def _make_own() -> tuple[Path, int]:
    """A new folder, and the descriptor whose lock tells other processes that it is in use."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_OWN_PREFIX))
        lock = _locked(path)
        if lock is not None:
            return path, lock
        # Another process has taken it for a dead one's before it was locked.


def _locked(path: Path) -> int | None:
    """The descriptor of a folder that is locked now; None where somebody else has it, or it is gone.

    The system takes a lock away with the last process that holds it, however that ends.

    Raises:
        OSError: it is another user's, or its file system has no locks.
    """
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between the two calls its owner may have removed it: then what is locked has no name any more, or
        # the name is another folder's.
        if os.path.samestat(path.stat(), os.fstat(lock)):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(lock)
        raise
    os.close(lock)
    return None


def remove_leftovers() -> None:
    """Remove the folders of processes that were killed before they could."""
    for path in Path(tempfile.gettempdir()).glob(f"{_OWN_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = _locked(path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _unsealed(path: Path) -> bytes | None:
    """What was kept in a file; None, and the file goes, where its digest is wrong."""
    # What `keep` is writing in another process, or was when that was killed.
    if path.name.startswith("."):
        return None
    try:
        data = path.read_bytes()
        digest, program = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(program).digest() == digest:
            return program
        path.unlink()
    except OSError:  # removed meanwhile, or not ours to read
        pass
    return None


def _remove_oldest(folder: Path) -> None:
    # Oldest by when they were written: jax reads copies, so nobody knows which are in use.
    entries = sorted(((path.stat(), path) for path in folder.iterdir()), key=lambda e: -e[0].st_mtime)
    held = 0
    for stat, path in entries:
        held += stat.st_size
        if held > MOST_BYTES:
            path.unlink(missing_ok=True)


def kept_folder() -> Path | None:
    """Where programs for this machine are kept, by the environment; None: nowhere.

    `MEMCORPUS_COMPILED`, or `memcorpus/compiled` below XDG_CACHE_HOME or ~/.cache; in it a folder for each
    version of jax and kind of CPU, because the code is for one kind only.
    """
    given = os.environ.get(VARIABLE)
    if given == OFF:
        return None
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    root = Path(given) if given else Path(cache).expanduser() / "memcorpus" / "compiled"
    kind = hashlib.sha256(_cpu().encode()).hexdigest()[:12]
    from importlib import metadata  # a fiftieth of a second, of programs alone

    return root / f"jax-{metadata.version('jax')}-{metadata.version('jaxlib')}-{kind}"


def _cpu() -> str:
    """Model and instructions of the CPU, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(told)])


_KEPT: Kept | None = None


def use_kept() -> None:
    """Let jax take compiled programs from the folder that the environment names; the first call counts.

    Where jax has been given a folder by its own settings, that is left as it is.
    """
    global _KEPT
    import jax

    with _LOCK:
        config: Any = jax.config
        if _KEPT is not None or config.jax_compilation_cache_dir:
            return
        folder = kept_folder()
        if folder is None:
            return
        remove_leftovers()
        try:
            _KEPT = Kept(folder)
        except OSError:  # no room for a copy: compile
            return
        atexit.register(remove_own)
        config.update("jax_compilation_cache_dir", str(_KEPT.own))
        config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
        # -1: of any size.
        config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        # Their folder's name, below this process's own, would make another key of every program.
        config.update("jax_persistent_cache_enable_xla_caches", "none")


def keep_new() -> None:
    """Keep what was compiled since, where something is kept at all."""
    with _LOCK:
        if _KEPT is not None:
            _KEPT.keep()


def remove_own() -> None:
    """Remove this process's copy. Where a process ends without its exit handlers, call it before."""
    global _KEPT
    with _LOCK:
        if _KEPT is not None:
            _KEPT.remove()
            _KEPT = None
