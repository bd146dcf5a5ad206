"""Compiling `decode.c`: hatch_build.py does when memcorpus is installed, `python -m storage.native` any time.

The standard library alone, since the build of a wheel has nothing else.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
SOURCES: Final = ("decode.c", "lanes.h", "mapped.h")
# No instructions of this machine's own (-march): each kernel names its set. No contraction: one rounding
# instead of two would be other bits than NumPy's.
FLAGS: Final = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off")
SECONDS: Final = 300


class BuildError(Exception):
    """There is no compiler, or it fails; the message is one line."""


def name() -> str:
    """Of the library's file: of its system and processor, and of no Python, since ctypes loads it."""
    return f"decode-{sysconfig.get_platform()}.so"


def path() -> Path:
    """Where the library lies when it was built with memcorpus."""
    return FOLDER / name()


def source_digest() -> int:
    """64 bits of the sources' SHA-256: what the library tells that it was built of."""
    digest = hashlib.sha256()
    for source in SOURCES:
        digest.update((FOLDER / source).read_bytes())
    return int.from_bytes(digest.digest()[:8], "little")


def compiler() -> list[str]:
    """$CC, or the first of cc, gcc and clang on the path.

    Raises:
        BuildError: there is none.
    """
    if given := shlex.split(os.environ.get("CC", "")):
        return given
    for known in ("cc", "gcc", "clang"):
        if found := shutil.which(known):
            return [found]
    raise BuildError("there is no C compiler: cc, gcc and clang are not on the path, and CC is not set")


def build(folder: Path = FOLDER) -> Path:
    """Compile into `folder`; the library is there whole, or as it was before.

    Raises:
        BuildError: there is no compiler, it fails, or nothing can be written there.
    """
    target = folder / name()
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as scratch:
            made = Path(scratch) / name()
            command = [
                *compiler(),
                *FLAGS,
                f"-DMEMCORPUS_SOURCE={source_digest():#x}u",
                *("-o", str(made), str(FOLDER / SOURCES[0])),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
            if done.returncode or not made.is_file():
                said = " ".join((done.stderr or done.stdout).split())[:500]
                raise BuildError(f"{command[0]} ended with status {done.returncode}: {said}")
            # Renamed, as a process may have the old one mapped.
            os.replace(made, target)
    except (OSError, subprocess.SubprocessError) as e:
        raise BuildError(f"{target} cannot be built: {e}") from e
    return target


def main() -> int:
    try:
        print(build())
    except BuildError as e:
        print(f"memcorpus decodes in NumPy: {e}", file=sys.stderr)
        return 2
    return 0
