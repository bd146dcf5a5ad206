"""A plan that was laid down, and the one that is asked for now: a job goes on only where they agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from encoders import fingerprint
from storage import errors


def require_same(where: object, found: Mapping[str, Any], wanted: Mapping[str, Any], how: str) -> None:
    """Name the first thing in which what was planned differs from what is asked for now.

    Raises:
        MismatchError: `where` was begun, or made, with other settings; `how` says which.
    """
    different = fingerprint.differences(found, wanted)
    if not different:
        return
    key = different[0]
    here, now = _at(found, key), _at(wanted, key)
    more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
    raise errors.MismatchError(
        f"{where} {how} with {key} = {_short(here)}, this command has {_short(now)}{more}; "
        "use the same, or another folder"
    )


def _at(value: Any, key: str) -> Any:
    """What stands at a key of `fingerprint.differences`, or None. Names of files have dots of their own."""
    if not isinstance(value, Mapping):
        return None
    if key in value:
        return value[key]
    outer = next((name for name in value if key.startswith(f"{name}.")), None)
    return None if outer is None else _at(value[outer], key.removeprefix(f"{outer}."))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
