"""Strict reading of JSON that somebody else may have written: each field has the type and range it should.

Python is generous: `int` takes 10.9 and True, `str` takes None, `float` takes "nan". A card that was read so
would claim what nobody wrote. Here a whole number is a whole number, and whatever is not is an error that
names the file, the field, the value and what was wanted. Fields that are not asked for do no harm.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from storage import errors
from storage.aliases import Json

T = TypeVar("T")

# Far beyond any count of ours, and what int64 arrays can hold.
MOST: Final = 2**63 - 1
_HEX: Final = re.compile(r"[0-9a-f]+")


class Fields:
    """The fields of one JSON object. Every reader takes a name and gives a checked value.

    `where` names the object in errors: a file, or a file and the way into it.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise errors.CorpusError(f"{where} is {_short(value)}, wanted an object")
        self._value: Json = value
        self._where = where

    def __contains__(self, name: str) -> bool:
        return name in self._value

    def _get(self, name: str) -> Any:
        if name not in self._value:
            raise errors.CorpusError(f"{self._where} lacks field {name!r}")
        return self._value[name]

    def _fail(self, name: str, wanted: str) -> errors.CorpusError:
        return errors.CorpusError(
            f"{self._where}: field {name!r} is {_short(self._value[name])}, wanted {wanted}"
        )

    def is_null(self, name: str) -> bool:
        """Is it null, of those that may be?"""
        return self._get(name) is None

    def integer(self, name: str, *, least: int = 0, most: int = MOST) -> int:
        value = self._get(name)
        if not _is_integer(value) or not least <= value <= most:
            bounds = f"{least:,} or more" if most == MOST else f"from {least:,} to {most:,}"
            raise self._fail(name, f"a whole number, {bounds}")
        return int(value)

    def number(self, name: str, *, least: float = 0.0, most: float = math.inf) -> float:
        value = self._get(name)
        if not _is_number(value) or not least <= value <= most:
            bounds = f"{least:g} or more" if most == math.inf else f"from {least:g} to {most:g}"
            raise self._fail(name, f"a number, {bounds}")
        return float(value)

    def boolean(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            raise self._fail(name, "true or false")
        return value

    def text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str):
            raise self._fail(name, "a string")
        return value

    def text_or_none(self, name: str) -> str | None:
        value = self._get(name)
        if value is not None and not isinstance(value, str):
            raise self._fail(name, "a string or null")
        return value

    def hexadecimal(self, name: str, digits: int) -> str:
        """Lower-case hexadecimal digits, so many: what digests are written as."""
        value = self._get(name)
        if not isinstance(value, str) or len(value) != digits or not _HEX.fullmatch(value):
            raise self._fail(name, f"{digits} hexadecimal digits")
        return value

    def object(self, name: str) -> Json:
        """An object whose fields are its reader's to check."""
        value = self._get(name)
        if not isinstance(value, dict):
            raise self._fail(name, "an object")
        return value

    def nested(self, name: str) -> Fields:
        """The fields of an object within."""
        return Fields(self._get(name), f"{self._where}: {name}")

    def items(self, name: str) -> list[Any]:
        value = self._get(name)
        if not isinstance(value, list):
            raise self._fail(name, "a list")
        return value

    def integers(self, name: str, *, least: int = 0) -> tuple[int, ...]:
        values = self.items(name)
        if not all(_is_integer(value) and least <= value <= MOST for value in values):
            raise self._fail(name, f"a list of whole numbers, {least:,} or more each")
        return tuple(values)

    def integer_pairs(self, name: str) -> tuple[tuple[int, int], ...]:
        values = self.items(name)
        for pair in values:
            if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_count, pair)):
                raise self._fail(name, "a list of pairs of whole numbers, 0 or more each")
        return tuple((first, second) for first, second in values)

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.items(name)
        if not all(isinstance(value, str) for value in values):
            raise self._fail(name, "a list of strings")
        return tuple(values)

    def each(self, name: str, read: Callable[[Any], T]) -> tuple[T, ...]:
        """A list, each item read by a function that checks it."""
        return tuple(read(item) for item in self.items(name))

    def integers_by_name(self, name: str) -> dict[str, int]:
        return self._by_name(name, _is_count, "whole numbers, 0 or more each")

    def numbers_by_name(self, name: str, *, least: float = -math.inf) -> dict[str, float]:
        values = self._by_name(name, lambda value: _is_number(value) and value >= least, "numbers")
        return {key: float(value) for key, value in values.items()}

    def texts_by_name(self, name: str) -> dict[str, str]:
        return self._by_name(name, lambda value: isinstance(value, str), "strings")

    def figures_by_name(self, name: str) -> Json:
        return self._by_name(
            name, lambda value: isinstance(value, str) or _is_number(value), "numbers or strings"
        )

    def _by_name(self, name: str, right: Callable[[Any], bool], wanted: str) -> Json:
        value = self.object(name)
        if not all(right(item) for item in value.values()):
            raise self._fail(name, f"an object of {wanted}")
        return dict(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and 0 <= value <= MOST


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
