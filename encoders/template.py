"""How a passage becomes the text that an encoder reads."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from encoders import errors

FIELDS = ("title", "section", "text")

# FiD (Izacard & Grave 2021), section 3; LUMEN and GLIMMER keep it.
MEMORY_TEMPLATE = "title: {title} context: {text}"
# The convention of BEIR (Thakur et al. 2021), which GTR (Ni et al. 2022) is evaluated with.
RETRIEVER_TEMPLATE = "{title} {text}"

SECTION_SEPARATOR = " > "


class PassageText(TypedDict):
    """What a row of the passage table holds of a passage's text; it may hold more."""

    title: str
    section: list[str]
    text: str


@dataclass(frozen=True)
class PassageTemplate:
    """A template with the fields {title}, {section} and {text}; {{ and }} are literal braces.

    Fields are replaced by concatenation, never by `str.format` on data: a title such as "{0.x}"
    stays as it is.

    Raises:
        EncoderError: unbalanced braces, another field, a conversion or format in a field, or no
            {text}.
    """

    template: str
    _parts: tuple[tuple[str, str | None], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        wanted = "wanted only {title}, {section} and {text}; write {{ and }} for literal braces"
        try:
            parsed = list(string.Formatter().parse(self.template))
        except ValueError as error:
            raise errors.EncoderError(f"template {self.template!r}: {error}, {wanted}") from error
        for _, name, layout, conversion in parsed:
            if name is not None and (name not in FIELDS or layout or conversion):
                written = name + (f"!{conversion}" if conversion else "")
                written += f":{layout}" if layout else ""
                raise errors.EncoderError(f"template {self.template!r} has {{{written}}}, {wanted}")
        if "text" not in {name for _, name, _, _ in parsed}:
            raise errors.EncoderError(f"template {self.template!r} has no {{text}}, {wanted}")
        parts = tuple((literal, name) for literal, name, _, _ in parsed)
        object.__setattr__(self, "_parts", parts)

    def render(self, *, title: str, section: str | Sequence[str] = (), text: str) -> str:
        """The encoder's input for one passage.

        Args:
            title: the article's title.
            section: headings from the outermost in, joined with " > ", or the joined path.
            text: the passage.
        """
        path = section if isinstance(section, str) else SECTION_SEPARATOR.join(section)
        values = {"title": title, "section": path, "text": text}
        return "".join(literal + (values[name] if name is not None else "") for literal, name in self._parts)

    def render_rows(self, rows: Iterable[PassageText]) -> list[str]:
        """As `render`, of rows of the passage table."""
        return [self.render(title=row["title"], section=row["section"], text=row["text"]) for row in rows]
