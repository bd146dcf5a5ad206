"""The command line as tests call it; `conftest` has the fixture `command`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# (arguments) -> exit status, stdout, stderr.
Command = Callable[..., tuple[int, str, str]]


def refused(command: Command, arguments: list[Any], *words: str) -> None:
    """Bad input: status 2, nothing printed but one line on stderr that has these words."""
    status, out, err = command(*arguments)
    assert status == 2, (status, out, err)
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    for word in words:
        assert word in err
