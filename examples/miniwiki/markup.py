"""Wikitext: the pieces articles are made of, the draft they are gathered in, and its plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random


@dataclass(kw_only=True, slots=True)
class Section:
    """One section: `prose` is its text, `before` and `after` are boxes that no reader reads out."""

    heading: str = ""
    level: int = 2
    prose: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Draft:
    """An article before it is written out; the first section is the lead and has no heading."""

    title: str
    sections: list[Section]
    see_also: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    short_description: str = ""

    def wikitext(self) -> str:
        """The article as an editor would have left it."""
        parts: list[str] = []
        if self.short_description:
            parts.append(f"{{{{Short description|{self.short_description}}}}}")
        for section in self.sections:
            if section.heading:
                bar = "=" * section.level
                parts.append(f"\n{bar} {section.heading} {bar}")
            parts += section.before
            if section.prose:
                parts.append("\n\n".join(section.prose))
            parts += section.after
        if self.see_also:
            parts.append("\n== See also ==\n" + bullets(link(title) for title in self.see_also))
        parts.append("\n== References ==\n{{reflist}}\n")
        parts += [f"[[Category:{name}]]" for name in self.categories]
        return "\n".join(parts)

    def plain_sections(self) -> Iterator[tuple[str, str]]:
        """(heading, plain text) of each section that has prose; the lead's heading is empty.

        This is what the retriever is trained on, so that training needs no wikitext parser. It
        undoes the markup of this module only and is no reader of wikitext in general.
        """
        for section in self.sections:
            if section.prose:
                yield section.heading, plain("\n".join(section.prose))


def link(target: str, label: str = "", trail: str = "") -> str:
    """`[[target]]`, `[[target|label]]` or, with a trail, `[[target]]s`."""
    inner = f"{target}|{label}" if label and label != target else target
    return f"[[{inner}]]{trail}"


def bullets(items: Iterable[str]) -> str:
    """A list, one `* ` line an item."""
    return "\n".join(f"* {item}" for item in items)


def joined(items: Sequence[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + " and " + items[-1]


def said(*sentences: str | None) -> str:
    """Sentences as one paragraph; None and empty ones are left out.

    A name that ends in a full stop ("Washington, D.C.") does not get a second one.
    """
    return " ".join(s.replace(".]].", ".]]").replace("..", ".") for s in sentences if s)


def a(noun: str) -> str:
    """The noun with its indefinite article (by spelling, which is right for this vocabulary)."""
    return ("an " if noun[0].lower() in "aeio" else "a ") + noun


def infobox(kind: str, values: Mapping[str, object]) -> str:
    """An infobox template; entries that are None are left out."""
    lines = [f"| {key} = {value}" for key, value in values.items() if value is not None]
    return "\n".join([f"{{{{Infobox {kind}", *lines, "}}"])


def wikitable(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A wikitable with a caption and a header row."""
    lines = ['{| class="wikitable sortable"', f"|+ {caption}", "|-", "! " + " !! ".join(header)]
    for row in rows:
        lines += ["|-", "| " + " || ".join(str(cell) for cell in row)]
    return "\n".join([*lines, "|}"])


def image(name: str, caption: str) -> str:
    """A thumbnail; the caption may hold links."""
    return f"[[File:{name}|thumb|upright=1.2|alt={name.partition('.')[0]}|{caption}]]"


class References:
    """The footnotes of one article: the first use of a name defines it, later uses are empty tags.

    Sources are stand-ins on example.org: the facts come from the tables, not from a web page.
    """

    def __init__(self, rng: Random, title: str) -> None:
        self._rng = rng
        self._title = title
        self._slug = re.sub(r"\W+", "-", title).strip("-").lower()
        self._seen: set[str] = set()

    def __call__(self, name: str) -> str:
        """The footnote mark for the source called `name`."""
        if name in self._seen:
            return f'<ref name="{name}" />'
        self._seen.add(name)
        day = f"2024-{self._rng.randint(1, 12):02}-{self._rng.randint(1, 28):02}"
        page = self._rng.randint(1, 400)
        kind = self._rng.randrange(3)
        if kind == 0:
            return (
                f'<ref name="{name}">{{{{cite web |url=https://example.org/{name}/{self._slug} '
                f"|title={self._title}: {name} |access-date={day}}}}}</ref>"
            )
        if kind == 1:
            return (
                f"<ref name={name}>{{{{cite book |title=A Small Handbook of {name.title()} "
                f"|page={page} |year=2019 |publisher=Example Press}}}}</ref>"
            )
        return (
            f'<ref name="{name}">[https://example.org/{name}?p={page} {self._title}], '
            f"''Tables of {name.title()}'', p.&nbsp;{page}.</ref>"
        )


_PLAIN = (
    (re.compile(r"<!--.*?-->", re.DOTALL), ""),
    (re.compile(r"<ref[^>]*/>"), ""),
    (re.compile(r"<ref[^>]*>.*?</ref>", re.DOTALL), ""),
    (re.compile(r"<math>.*?</math>", re.DOTALL), ""),
    (re.compile(r"\{\{convert\|([^|{}]*)\|([^|{}]*)[^{}]*\}\}"), r"\1 \2"),
    (re.compile(r"\{\{lang\|[^|{}]*\|([^{}]*)\}\}"), r"\1"),
    (re.compile(r"\{\{nowrap\|([^{}]*)\}\}"), r"\1"),
    (re.compile(r"\{\{[^{}]*\}\}"), ""),
    (re.compile(r"\[\[(?:[^|\[\]]*\|)?([^|\[\]]*)\]\]"), r"\1"),
    (re.compile(r"\[https?://\S+ ([^\]]*)\]"), r"\1"),
    (re.compile(r"</?\w+[^>]*>"), ""),
    (re.compile(r"'{2,}"), ""),
    (re.compile(r"^[*#] ", re.MULTILINE), ""),
    (re.compile(r"&nbsp;|[ \t]+"), " "),
)


def plain(text: str) -> str:
    """Wikitext made by this module, without its markup."""
    for pattern, replacement in _PLAIN:
        text = pattern.sub(replacement, text)
    return text.strip()
