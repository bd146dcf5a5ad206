"""Where passages are cut, script by script: never inside a cluster, at a sentence's end where one is near."""

from __future__ import annotations

import pytest

from benchmarks import cuts


@pytest.mark.parametrize("script", cuts.SENTENCES)
@pytest.mark.parametrize("size", [200, 50])
def test_cuts(script: str, size: int) -> None:
    found = cuts.cuts(cuts.text_of(script), size)
    assert found["cuts"] >= 20
    assert found["inside a cluster"] == 0
    if script in ("Thai", "Lao"):  # which have no sign for it
        assert found["sentence near"] == 0
    else:
        assert found["sentence near"] >= 10
        assert found["at its end"] >= 0.85 * found["sentence near"]
