"""Keeps transformers and sentence-transformers from writing to the terminal while they load."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Set while it is imported: without PyTorch it says that models are not available, which nobody asked.
_NO_ADVICE = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
_LOGGERS = ("transformers", "sentence_transformers", "huggingface_hub")


def load() -> None:
    """Import transformers, without its advice."""
    if "transformers" in sys.modules:
        return
    before = os.environ.get(_NO_ADVICE)
    os.environ[_NO_ADVICE] = "1"
    try:
        import transformers  # noqa: F401
    finally:
        if before is None:
            del os.environ[_NO_ADVICE]
        else:
            os.environ[_NO_ADVICE] = before


@contextmanager
def silenced() -> Iterator[None]:
    """Silences progress bars, warnings and log lines below errors; restores them afterwards."""
    load()
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    transformers_logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
