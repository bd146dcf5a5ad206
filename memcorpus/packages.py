"""Are the packages that memcorpus is made of our own, and is what they need installed?

Their names are plain, and Python imports the first of a name that it finds. With a `storage/` in the current
folder, `python -c` and `python -m` find that one; nothing of memcorpus works then, and the error that comes
of it explains nothing. So it is looked at before anything is imported. This module imports the standard
library alone: whatever else it needed might be the package that is hidden.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# The packages that each part of the face needs. A folder of the user's own that is named `pipeline` does
# not hinder anybody who reads a corpus.
READING = ("storage", "encoders", "retrieval")
EVERYTHING = (*READING, "pipeline")


class HiddenPackageError(ImportError):
    """Another package bears the name of one of memcorpus's own, and would be imported in its place."""


class MissingLibraryError(ImportError):
    """A library that only some uses of memcorpus need is not installed."""


def home() -> str:
    """The folder that holds this package, and the four others beside it."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def require_ours(names: Sequence[str] = EVERYTHING) -> None:
    """Refuse to go on where a foreign package hides one of ours.

    Raises:
        HiddenPackageError: naming the first one, where it lies, and what to do.
    """
    for name in names:
        ours = os.path.join(home(), name)
        found = _place(name)
        if found is None:
            raise HiddenPackageError(
                f"memcorpus's package {name!r} is not in {home()}: the installation is not whole; "
                "install memcorpus again"
            )
        if os.path.realpath(found) != os.path.realpath(ours):
            raise HiddenPackageError(
                f"{found} hides memcorpus's own package {name!r}, which is {ours}: {_remedy(found)}"
            )


@contextmanager
def importing(names: Sequence[str], extra: str = "build") -> Iterator[None]:
    """A block that imports from these packages of ours; what hinders it is said in one line.

    Args:
        names: of the packages that the block needs.
        extra: of the installation, that brings the libraries which a block like this needs.

    Raises:
        HiddenPackageError: a foreign package bears one of the names, or its files lie among ours.
        MissingLibraryError: a library is not installed.
    """
    require_ours(names)
    try:
        yield
    except (ImportError, AttributeError) as e:
        if other := _other_owner(names):
            raise HiddenPackageError(
                f"the distribution {other[1]!r} has installed a package {other[0]!r} over memcorpus's own; "
                "install memcorpus again, in an environment of its own"
            ) from e
        missing = e.name if isinstance(e, ModuleNotFoundError) and e.name else ""
        if missing and missing.partition(".")[0] not in EVERYTHING:
            raise MissingLibraryError(
                f"{missing} is not installed; this needs `pip install 'memcorpus[{extra}]'`"
            ) from e
        raise


def _place(name: str) -> str | None:
    """The folder or file that `import name` takes, or has taken; None if there is no package of the name."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module that somebody made by hand
        return str(getattr(sys.modules[name], "__file__", None) or f"a module {name!r} without a file")
    # Folders without an `__init__.py` have no origin. Python takes them only where it finds nothing else.
    if spec is None or spec.origin is None:
        return None
    return os.path.dirname(spec.origin) if spec.submodule_search_locations is not None else spec.origin


def _remedy(found: str) -> str:
    installed = {"site-packages", "dist-packages"} & set(found.split(os.sep))
    if installed:
        return "install memcorpus in an environment of its own"
    return "rename it, or keep it off Python's path (run from another folder, or with `python -P`)"


def _other_owner(names: Sequence[str]) -> tuple[str, str] | None:
    """The first of the names that another distribution has installed too, and that distribution."""
    import importlib.metadata

    owners = importlib.metadata.packages_distributions()
    for name in names:
        for owner in sorted(set(owners.get(name, [])) - {"memcorpus"}):
            return name, owner
    return None
