"""Keeps libraries silent unless something is wrong: this project's own lines are the ones to read."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Final

_ENVIRONMENT: Final = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GRPC_VERBOSITY": "NONE",
    "GLOG_minloglevel": "3",
    "TOKENIZERS_PARALLELISM": "true",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
_LOGGERS: Final = ("apache_beam", "jax", "transformers", "sentence_transformers", "huggingface_hub", "httpx")


def silence() -> None:
    """Set environment, log levels and warning filters. Call before the libraries are imported.

    Python's own warnings are about code, not about the user's data, so users do not see them; the
    tests run with warnings as errors.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.basicConfig(level=logging.ERROR)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
