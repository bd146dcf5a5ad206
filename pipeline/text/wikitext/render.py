"""Spans of markup to text: templates, links and tables of one page."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from pipeline.text.wikitext import links, markup, templates, variants
from pipeline.text.wikitext.markup import Kind, Span
from pipeline.text.wikitext.namespaces import TEMPLATE, Namespaces

# MediaWiki's own limit of nesting is 40 (100 in later versions). What is kept is copied once a
# level, so this also bounds the work of a page.
MAX_DEPTH = 40
MAX_NAME_CHARS = 120


def render(text: str, namespaces: Namespaces) -> str:
    """`text` with its brackets resolved; tags, quote marks and line marks are left as they are."""
    return _Page(text, namespaces).between(0, len(text), 0)


class _Page:
    def __init__(self, text: str, namespaces: Namespaces) -> None:
        self._text = text
        self._namespaces = namespaces
        self._spans = markup.find_spans(text)
        self._starts = [span.start for span in self._spans]

    def between(self, low: int, high: int, depth: int) -> str:
        return "".join(piece for piece, _ in self._pieces(low, high, depth))

    def _pieces(self, low: int, high: int, depth: int) -> Iterator[tuple[str, bool]]:
        """The text from `low` to `high` in pieces, each with whether it is raw text."""
        index = bisect_left(self._starts, low)
        while index < len(self._spans) and self._starts[index] < high:
            span = self._spans[index]
            yield self._text[low : span.start], True
            yield self._span(span, depth), False
            low = span.end
            index += 1
            if index < len(self._spans) and self._starts[index] < low:
                index = bisect_left(self._starts, low, index)
        yield self._text[low:high], True

    def _span(self, span: Span, depth: int) -> str:
        if depth >= MAX_DEPTH:
            return markup.HOLE
        match span.kind:
            case Kind.TEMPLATE:
                return self._template(span, depth + 1)
            case Kind.LINK:
                return self._link(span, depth + 1)
            case Kind.EXTERNAL:
                return self._external(span, depth + 1)
            case Kind.VARIANT:
                return variants.shown(self.between(span.start + 2, span.end - 2, depth + 1))
            case Kind.ARGUMENT:
                parts = self._split(span.start + 3, span.end - 3, depth + 1)
                return parts[1] if len(parts) > 1 else ""
            case Kind.TABLE:
                return "\n"
        return markup.HOLE

    def _split(self, low: int, high: int, depth: int) -> list[str]:
        """What stands between `low` and `high`, rendered and split at its own pipes."""
        parts: list[str] = []
        part: list[str] = []
        for piece, raw in self._pieces(low, high, depth):
            if raw and "|" in piece:
                head, *rest = piece.split("|")
                parts.append("".join([*part, head]))
                parts += rest[:-1]
                part = [rest[-1]]
            else:
                part.append(piece)
        parts.append("".join(part))
        return parts

    def _template(self, span: Span, depth: int) -> str:
        low, high = span.start + 2, span.end - 2
        # Only a name that is plain text is known here; the rest is never looked into.
        name = self._text[low : min(low + MAX_NAME_CHARS, high)].partition("|")[0]
        argument = low + len(name) + 1
        renderer = None
        prefix, colon, rest = name.partition(":")
        if colon and (renderer := templates.find_function(prefix)):
            argument = low + len(prefix) + 1
        elif colon and self._namespaces.key(prefix) == TEMPLATE:
            name = rest
        renderer = renderer or templates.find(name)
        if renderer is None:
            return markup.HOLE
        parts = self._split(argument, high, depth) if argument <= high else []
        text = renderer(templates.arguments(parts))
        return text or (markup.HOLE if parts else "")

    def _link(self, span: Span, depth: int) -> str:
        low, high = span.start + 2, span.end - 2
        pipe = self._text.find("|", low, min(low + 1024, high))
        target = self._text[low : pipe if pipe >= 0 else high]
        if links.is_hidden(target, self._namespaces, labelled=pipe >= 0):
            return markup.HOLE
        # "[[target⏎|label]]" is no link to MediaWiki, but its label is what was meant.
        broken = ("\n\n" if pipe >= 0 else "\n") in target
        if broken or len(target) > 1024 or target.lstrip().startswith(("http:", "https:")):
            # No link, or an external one in too many brackets: what it says is text.
            inner = self.between(low, high, depth)
            return inner.partition(" ")[2] if inner.lstrip().startswith("http") else inner
        parts = self._split(low, high, depth)
        return links.text_of(parts[0], "|".join(parts[1:]) if len(parts) > 1 else None)

    def _external(self, span: Span, depth: int) -> str:
        inner = self.between(span.start + 1, span.end - 1, depth)
        words = inner.split(None, 1)
        return words[1] if len(words) > 1 else ""
