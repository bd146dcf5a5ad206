"""Spans of markup to text: templates, links and tables of one page."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from pipeline.text.wikitext import arguments, links, markup, shapes, templates, variants
from pipeline.text.wikitext.markup import Kind, Span
from pipeline.text.wikitext.namespaces import TEMPLATE, Namespaces

# MediaWiki's own limit of nesting is 40 (100 in later versions). What is kept is copied once a
# level, so this also bounds the work of a page.
MAX_DEPTH = 40
MAX_NAME_CHARS = 120
MAX_TARGET_CHARS = 1024
_CONTEXT = 120  # characters on each side of an unknown template that are looked at


def render(text: str, namespaces: Namespaces, page: arguments.Page) -> str:
    """`text` with its brackets resolved; tags, quote marks and line marks are left as they are."""
    return _Renderer(text, namespaces, page).between(0, len(text), 0)


class _Renderer:
    def __init__(self, text: str, namespaces: Namespaces, page: arguments.Page) -> None:
        self._text = text
        self._namespaces = namespaces
        self._page = page
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

    def _split(self, low: int, high: int, depth: int, *, named: bool = False) -> list[str]:
        """What stands between `low` and `high`, rendered and split at its own pipes.

        With `named`, its own equals signs become `arguments.EQUALS`.
        """
        parts: list[str] = []
        part: list[str] = []
        for piece, raw in self._pieces(low, high, depth):
            if raw and named and "=" in piece:
                piece = piece.replace("=", arguments.EQUALS)
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
        own = templates.find_own(name, self._page.own) if self._page.own else None
        renderer = own or renderer or templates.find(name)
        if renderer is None:
            return self._unknown(span, name, argument, depth) or markup.HOLE
        parts = self._split(argument, high, depth, named=True) if argument <= high else []
        text = renderer(arguments.sort(parts, self._page))
        return text or (markup.HOLE if parts else "")

    def _unknown(self, span: Span, name: str, argument: int, depth: int) -> str:
        high = span.end - 2
        if not 0 < high - argument <= shapes.MAX_CHARS:
            return ""
        raw = self._text[argument:high]
        if not shapes.may_be_text(name, raw):
            return ""
        parts = self._split(argument, high, depth, named=True)
        return shapes.text_of(arguments.sort(parts, self._page), raw, self._place(span))

    def _place(self, span: Span) -> shapes.Place:
        """The line around a span, as far as it tells what stands there."""
        low = max(0, span.start - _CONTEXT)
        before = self._text[low : span.start].rpartition("\n")[2]
        return shapes.Place(before, self._text[span.end : span.end + _CONTEXT].partition("\n")[0])

    def _link(self, span: Span, depth: int) -> str:
        low, high = span.start + 2, span.end - 2
        inside = self._text[low:high]
        if ":" not in inside and "\n" not in inside and "[" not in inside and "{" not in inside:
            # As most are: to an article, with nothing in it.
            plain, bar, shown = inside.partition("|")
            if len(plain) <= MAX_TARGET_CHARS:
                return links.text_of(plain, shown if bar else None)
        pipe = self._text.find("|", low, min(low + MAX_TARGET_CHARS, high))
        target = self._text[low : pipe if pipe >= 0 else high]
        label = self._text[pipe + 1 : high] if pipe >= 0 else None
        if links.is_hidden(target, self._namespaces, labelled=pipe >= 0):
            return markup.HOLE
        # "[[target⏎|label]]" is no link to MediaWiki, but its label is what was meant.
        broken = ("\n\n" if pipe >= 0 else "\n") in target
        if broken or len(target) > MAX_TARGET_CHARS or target.lstrip().startswith(("http:", "https:")):
            # No link, or an external one in too many brackets: what it says is text.
            inner = self.between(low, high, depth)
            return inner.partition(" ")[2] if inner.lstrip().startswith("http") else inner
        following = bisect_left(self._starts, low)
        if following == len(self._starts) or self._starts[following] >= high:  # nothing in it, as in most
            return links.text_of(target, label)
        parts = self._split(low, high, depth)
        return links.text_of(parts[0], "|".join(parts[1:]) if len(parts) > 1 else None)

    def _external(self, span: Span, depth: int) -> str:
        inner = self.between(span.start + 1, span.end - 1, depth)
        words = inner.split(None, 1)
        return words[1] if len(words) > 1 else ""
