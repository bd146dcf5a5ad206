"""Passages by their keys: multisets, in any number of parts, in bounded memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.components.passages import compare, keys
from storage import ids

KEYS = st.lists(st.binary(min_size=1, max_size=1), max_size=40)


def digests(values: list[bytes]) -> list[bytes]:
    return [keys.page_key(value.hex()) for value in values]


@settings(max_examples=200, deadline=None)
@given(KEYS, KEYS, st.lists(st.booleans(), min_size=40, max_size=40), st.integers(1, 60), st.integers(1, 3))
def test_matched_files_are_multisets(
    old: list[bytes], new: list[bytes], looked: list[bool], range_keys: int, files: int
) -> None:
    looked_at = np.array(looked[: len(old)], bool)
    with TemporaryDirectory() as name:
        paths = []
        for side, values in enumerate((digests(old), digests(new))):
            own = []
            for number in range(files):
                path = Path(name) / f"{side}-{number}"
                first, stop = (n * len(values) // files for n in (number, number + 1))
                path.write_bytes(b"".join(values[first:stop]))
                own.append(path)
            paths.append(own)
        same, there = compare.matched_files(paths[0], paths[1], looked_at, range_keys=range_keys)
    counts = Counter(value for value, wanted in zip(old, looked_at, strict=True) if wanted) & Counter(new)
    for mask, values, allowed in ((same, old, looked_at), (there, new, np.ones(len(new), bool))):
        left = Counter(counts)
        # The first of equal ones are those that are matched.
        for found, value, wanted in zip(mask.tolist(), values, allowed.tolist(), strict=True):
            expected = bool(wanted and left[value])
            left[value] -= expected
            assert found == expected


@settings(max_examples=100, deadline=None)
@given(KEYS, KEYS)
def test_within(pages: list[bytes], chosen: list[bytes]) -> None:
    found = compare.within(compare.key_array(digests(pages)), compare.key_array(digests(chosen)))
    assert found.tolist() == [page in chosen for page in pages]


def test_keys_hang_on_what_a_passage_says_and_on_nothing_else() -> None:
    rows: list[keys.Row] = [
        ("1", "Danube", ["Course"], 0, "It rises."),
        ("1", "Danube", ["Course"], 1, "It flows."),
        ("2", "Rhine", [], 0, "It rises."),
    ]
    base = list(keys.passage_keys(rows, by_document=False))
    assert len(set(base)) == 3
    moved = [(page, title, section, ordinal + 1, text) for page, title, section, ordinal, text in rows]
    assert list(keys.passage_keys(moved, by_document=False)) == base
    for place, value in ((0, "3"), (1, "Danube (river)"), (2, ["Course", "a"]), (4, "It rises. ")):
        other = list(rows[0])
        other[place] = value
        assert next(keys.passage_keys([tuple(other)], by_document=False)) != base[0]  # type: ignore[list-item]
    # Fields do not run into each other.
    assert ids.content_key("1", "ab", ["c"], "d") != ids.content_key("1", "a", ["bc"], "d")
    # Of chunks a document is the same as a whole or not at all.
    whole = list(keys.passage_keys(rows, by_document=True))
    rows[1] = (*rows[1][:4], "It flows on.")
    changed = list(keys.passage_keys(rows, by_document=True))
    assert [a == b for a, b in zip(whole, changed, strict=True)] == [False, False, True]
