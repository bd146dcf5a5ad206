"""`python -m pipeline` is `python -m memcorpus`, which looks first whether the packages it finds are ours."""

import importlib.util
import os
import sys

# Whose `storage` is found depends on the current folder, and so it does for `memcorpus`, which would tell.
spec = importlib.util.find_spec("memcorpus")
home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
place = spec.origin if spec is not None and spec.origin else "nothing"
if os.path.realpath(place) != os.path.join(home, "memcorpus", "__init__.py"):
    told = f"memcorpus: {place} hides the package 'memcorpus' in {home}: run from another folder"
    print(told, file=sys.stderr)
    sys.exit(2)

from memcorpus.__main__ import main  # noqa: E402 - only where it is ours

main()
