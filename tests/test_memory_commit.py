"""What is stored is held to the codec's own bound before a version is committed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from storage import errors, memory_commit
from tests.test_codecs import coder_of, states


@pytest.mark.parametrize("name", ["bfloat16", "int8", "turbo4"])
def test_what_is_off_by_more_than_the_codec_allows_is_not_committed(name: str) -> None:
    coder = coder_of(name)
    values = states(12)
    stored = np.asarray(coder.decoded(coder.encode(values)), np.float32)
    card = cast(Any, SimpleNamespace(version="v", layout=SimpleNamespace(codec=coder.codec)))
    found = memory_commit.require_sound(card, coder, coded=values, kept=values, stored=stored)
    error = np.linalg.norm(values - stored) / np.linalg.norm(values)
    assert found.relative_error == pytest.approx(error, rel=1e-6)
    # One token is another, or none at all.
    for wrong in (-50 * values[5], np.full_like(stored[5], np.nan)):
        damaged = stored.copy()
        damaged[5] = wrong
        with pytest.raises(errors.DamagedError, match=r"version v .* \(token 5 .*not committed"):
            memory_commit.require_sound(card, coder, coded=values, kept=values, stored=damaged)
    # What was recoded is held to the version that it was made of, and its loss is told against the encoder's.
    kept = values * np.float32(1.5)
    told = memory_commit.require_sound(card, coder, coded=values, kept=kept, stored=stored)
    assert told.relative_error > found.relative_error
