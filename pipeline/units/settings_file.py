"""Settings in a TOML file: the same names and values as options have, for every command that takes many."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from storage import errors


def read(path: Path, known: Collection[str]) -> dict[str, Any]:
    """The settings in a file, by name.

    Args:
        path: of the file.
        known: names that it may have.

    Raises:
        CorpusError: the file cannot be read, is no TOML, or has another name.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise errors.CorpusError(f"settings file {path} cannot be read: {e}") from e
    if unknown := sorted(set(values) - set(known)):
        raise errors.CorpusError(
            f"settings file {path} has unknown key {unknown[0]!r}; known are {', '.join(known)}"
        )
    return values
