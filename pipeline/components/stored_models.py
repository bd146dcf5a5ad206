"""Models in an object store: copied to this machine before they are loaded, once a state of the folder."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from pathlib import Path

from encoders import model_folder
from storage import remote
from storage.bucket import SCHEMES
from storage.object_store import ObjectStore


def copied(url: str, patterns: Sequence[str]) -> Path:
    """The files of a model's folder that fit the patterns, on this machine.

    A copy bears the names, sizes and states of all the folder's objects in its own name: what was changed
    there is copied anew, and what lies here is never of two states.

    Raises:
        ModelFolderError: there is no such folder.
        UnreadableError: the store cannot be reached, or refuses.
    """
    store = ObjectStore(url)
    objects = list(store.listed())
    if not objects:
        raise model_folder.ModelFolderError(f"{url} holds no model: there are no objects below it")
    state = hashlib.sha256(repr([(o.name, o.bytes, o.e_tag, o.changed_ns) for o in objects]).encode())
    place = remote.cache_of(store.url)
    folder = place.with_name("models") / place.name / state.hexdigest()[:16]
    for found in objects:
        path = folder / found.name
        wanted = any(fnmatch.fnmatchcase(found.name, pattern) for pattern in patterns)
        if wanted and not (path.is_file() and path.stat().st_size == found.bytes):
            store.get_file(found.name, path)
    return folder


model_folder.PLACES.update(dict.fromkeys(SCHEMES, copied))
