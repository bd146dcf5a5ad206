"""The command `memcorpus`, by that name and as `python -m memcorpus`."""

from __future__ import annotations

import sys

from memcorpus import packages


def main() -> None:
    """Run the command; where its own packages cannot be imported, say so in one line, with status 2."""
    try:
        with packages.importing(packages.EVERYTHING):
            from pipeline.cli import main as command
    except (packages.HiddenPackageError, packages.MissingLibraryError) as e:
        print(f"memcorpus: {e}", file=sys.stderr)
        sys.exit(2)
    command.main()


if __name__ == "__main__":
    main()
