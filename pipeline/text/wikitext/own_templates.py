"""Templates of a user's own wiki, from a TOML file: names by language, each with how it reads.

    [it]                                # code of the wiki, as in xml:lang; "all" for every wiki
    text = ["Citazione necessaria"]     # reads as its first parameter
    drop = ["Nota disambigua"]          # reads as nothing

    [it.like]
    "Unità di misura" = "convert"       # reads as a template that is known

What stands here wins over what is built in. Names are compared as MediaWiki does, but for case.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.text.wikitext import templates
from storage import errors

EVERY: Final = "all"
LIKE: Final = "like"
_CODE = re.compile(r"[a-z]{2,12}(?:-[a-z0-9]{1,12}){0,3}")
_NO_NAME = re.compile(r"[|{}\[\]<>#\n]")


@dataclass(frozen=True)
class OwnTemplates:
    """By language, by normal name: a way of reading (`templates.WAYS`), or "like:" and a known template."""

    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, language: str) -> Mapping[str, str]:
        """Those of a wiki, by its code: of all wikis, of the language, of the very code."""
        code = language.lower() or "en"
        own: dict[str, str] = {}
        for key in (EVERY, code.partition("-")[0], code):
            own |= self.names.get(key, {})
        return own

    @property
    def digest(self) -> str | None:
        """What decides the text, as a plan holds it; None without any name."""
        if not self.names:
            return None
        return hashlib.sha256(json.dumps(self.names, sort_keys=True).encode()).hexdigest()


NONE: Final = OwnTemplates()


def read(path: Path) -> OwnTemplates:
    """The templates in a file.

    Raises:
        CorpusError: the file cannot be read, is no TOML, or says something that has no meaning here.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise errors.CorpusError(f"templates file {path} cannot be read: {error}") from error
    names: dict[str, Mapping[str, str]] = {}
    for language, table in tables.items():
        if language != EVERY and not _CODE.fullmatch(language):
            raise errors.CorpusError(
                f"templates file {path} has [{language}], wanted the code of a wiki such as [it] or "
                f"[zh-yue], or [{EVERY}]"
            )
        if not isinstance(table, dict):
            raise errors.CorpusError(
                f"templates file {path}: {language} is {table!r:.80}, wanted a table; write [{language}] "
                "above its names"
            )
        if found := _names(f"templates file {path}: [{language}]", table):
            names[language] = found
    return OwnTemplates(names)


def _names(where: str, table: Mapping[str, object]) -> dict[str, str]:
    found: dict[str, str] = {}

    def add(written: object, way: str, key: str) -> None:
        if not isinstance(written, str) or not written.strip() or _NO_NAME.search(written):
            raise errors.CorpusError(
                f"{where} has {written!r:.80} in {key}, wanted the name of a template without its braces and "
                "parameters"
            )
        name = templates.normal(written)
        if found.setdefault(name, way) != way:
            raise errors.CorpusError(
                f"{where} has {written!r:.80} twice, in {found[name]} and {way}; keep one"
            )

    for key, value in table.items():
        if key == LIKE:
            if not isinstance(value, dict):
                raise errors.CorpusError(f"{where}: {key} is {value!r:.80}, wanted a table of names")
            for written, known in value.items():
                if not isinstance(known, str) or templates.find(known) is None:
                    raise errors.CorpusError(
                        f"{where} has {written!r:.80} like {known!r:.80}, which is no known template; "
                        f"name one such as convert or nihongo, or use {', '.join(templates.WAYS)}"
                    )
                add(written, f"{LIKE}:{templates.normal(known)}", key)
        elif key not in templates.WAYS:
            raise errors.CorpusError(
                f"{where} has unknown key {key!r}; known are {', '.join([*templates.WAYS, LIKE])}"
            )
        elif not isinstance(value, list):
            raise errors.CorpusError(f"{where}: {key} is {value!r:.80}, wanted a list of names")
        else:
            for written in value:
                add(written, key, key)
    return found
