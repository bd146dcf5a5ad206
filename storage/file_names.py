"""Names of stored files: paths that stay inside the corpus folder, and what lies below one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from storage import errors

# Far above any name of ours, and below what systems refuse.
_MAX_PATH: Final = 1000


def inside(root: Path, relative: str) -> Path:
    """The path of a stored name, refused where it would leave the corpus folder.

    Names come from files that somebody else may have written, so `..`, absolute paths and links
    that lead outside are errors.
    """
    pure = PurePosixPath(relative)
    plain = relative and not pure.is_absolute() and ".." not in pure.parts and "\\" not in relative
    if not plain or len(relative) > _MAX_PATH:
        raise errors.CorpusError(
            f"stored path {relative!r:.200} leaves the corpus folder; only plain relative paths are allowed"
        )
    path = root / pure
    if not _may_lead_away(root, pure):
        return path
    try:
        stays = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError) as e:  # links in a circle, a name that no file can have
        raise errors.CorpusError(f"stored path {relative!r} leads nowhere: {e}") from e
    if not stays:
        raise errors.CorpusError(f"stored path {relative!r} is a link out of the corpus folder {root}")
    return path


def _may_lead_away(root: Path, name: PurePosixPath) -> bool:
    """Is something below `root` a link, or can nobody say? Where nothing is, all stays within.

    A look at each folder below `root` takes a third of the time that resolving both paths does, and half of
    the requests, of a commit that looks at every file.
    """
    at = str(root)
    for part in name.parts:
        at = f"{at}/{part}"
        try:
            if stat.S_ISLNK(os.lstat(at).st_mode):
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError):
            return True
    return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link in a circle, or to where nobody may look
        return False


def names_below(folder: Path, prefix: str = "", *, sizes: bool = False) -> Iterator[tuple[str, int]]:
    """All files below a folder, in the order of their parts: (name, bytes, or 0 without `sizes`).

    The names of one folder, and of those above it, are held at a time. Links to folders are not followed, and
    folders that may not be read are passed over.
    """
    try:
        with os.scandir(folder / prefix) as entries:
            found = sorted(
                (entry.name, entry.is_dir(follow_symlinks=False), _is_file(entry)) for entry in entries
            )
    except (PermissionError, FileNotFoundError, NotADirectoryError):  # or removed since it was listed
        return
    for name, is_folder, is_file in found:
        if is_folder:
            yield from names_below(folder, f"{prefix}{name}/", sizes=sizes)
        elif is_file:
            yield prefix + name, (folder / prefix / name).stat().st_size if sizes else 0
