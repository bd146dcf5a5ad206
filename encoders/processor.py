"""What this processor can do, as far as an encoder asks for it.

XLA needs the processor's own instructions to convert float16 (F16C on x86, since 2012). Without them its
programs compile, and fail to load with words that name no cause.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

from encoders.errors import EncoderError

_NOT_LOADED: Final = "Failed to materialize symbols"
# By which users tell XLA to leave instructions alone.
_LIMIT: Final = "xla_cpu_max_isa"
_TRY: Final = "import jax; jax.jit(lambda x: x.astype('float16'))(jax.numpy.ones(8)).block_until_ready()"


class Float16Error(EncoderError):
    """float16 was asked of a processor that has no instructions for it."""

    def __init__(self) -> None:
        super().__init__(
            "float16 is beyond this processor: it has no instructions to convert it (F16C), and XLA cannot "
            "do without; take bfloat16, which it can, or another machine"
        )


def require_float16() -> None:
    """Refuse before anything is computed.

    Raises:
        Float16Error: programs with float16 do not run on this machine's processor.
    """
    if not _does_float16():
        raise Float16Error


def lacks_float16(error: BaseException) -> bool:
    """Is this what XLA makes of float16 on such a processor?"""
    return isinstance(error, RuntimeError) and _NOT_LOADED in str(error) and not _does_float16()


@functools.cache
def _does_float16() -> bool:
    if _has_f16c() and _LIMIT not in os.environ.get("XLA_FLAGS", ""):
        return True
    # In a process of its own: here jax might take an accelerator that workers are to have.
    tried = subprocess.run(
        [sys.executable, "-P", "-c", _TRY],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    return _NOT_LOADED not in tried.stderr


def _has_f16c() -> bool:
    """As the system tells; False where it does not, or on processors that have another name for it."""
    try:
        told = Path("/proc/cpuinfo").read_text() if platform.machine() == "x86_64" else ""
    except OSError:
        return False
    return any(line.startswith("flags") and "f16c" in line.split() for line in told.splitlines())
