"""Lets several libraries' threads share a machine's cores."""

from __future__ import annotations

import os

# PyTorch's threads meet at a barrier after every operation, and by OpenMP's default wait there by spinning.
# As soon as anybody else has work for a core, be it a writer's thread or another process, the spinning takes
# the time of the thread that is waited for. Threads that sleep leave it the core.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}


def share() -> None:
    """Set the environment, as far as it is not set. Call before the libraries are imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
