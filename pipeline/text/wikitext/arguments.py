"""A template's parameters as its renderer sees them, and the page that it stands on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.text.wikitext.languages import ENGLISH, Language

# In a parameter that is being split: an "=" of its own, which parts name and value. One that came out of
# a template or a link in it does not.
EQUALS = "\x1a"
_NAME = re.compile(r"\w[\w .\-]{0,39}")
_MOST = 99  # positional parameters by number; MediaWiki's templates have a dozen


@dataclass(frozen=True)
class Page:
    """What a template can say of the page that it stands on."""

    title: str = ""
    language: Language = ENGLISH
    own: Mapping[str, str] = field(default_factory=dict)  # templates that a user's file names


@dataclass(frozen=True)
class Arguments:
    """A template's parameters, rendered: `positional` from 1 on, `named` by lower-case name."""

    positional: tuple[str, ...]
    named: dict[str, str] = field(default_factory=dict)
    page: Page = field(default_factory=Page)

    def at(self, number: int, *names: str) -> str:
        """Positional parameter `number` (from 1), or the first among `names`, stripped; empty without one."""
        value = self.positional[number - 1].strip() if number <= len(self.positional) else ""
        return value or self.first(*names)

    def first(self, *names: str) -> str:
        """The first named parameter among `names` that has a value."""
        return next((self.named[name] for name in names if self.named.get(name)), "")

    @property
    def values(self) -> list[str]:
        """The positional parameters that have a value, stripped."""
        return [value.strip() for value in self.positional if value.strip()]


def sort(parts: Iterable[str], page: Page) -> Arguments:
    """Sort a template's parameters into named and positional ones; "2=b" is the second of the latter."""
    positional: list[str] = []
    numbered: dict[int, str] = {}
    named: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition(EQUALS)
        name, value = name.strip(), value.replace(EQUALS, "=").strip()
        if not equals or not _NAME.fullmatch(name):
            positional.append(part.replace(EQUALS, "="))
        elif name.isdecimal() and len(name) <= 2 and 1 <= int(name) <= _MOST:
            numbered[int(name)] = value
        else:
            named[name.lower().replace("_", " ")] = value
    for number, value in sorted(numbered.items()):
        positional += [""] * (number - len(positional))
        positional[number - 1] = value
    return Arguments(tuple(positional), named, page)
