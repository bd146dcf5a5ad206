"""Templates of dates, in the language of the wiki: `{{birth date|1999|3|5}}` is "5 mars 1999" in French."""

from __future__ import annotations

from pipeline.text.wikitext import markup
from pipeline.text.wikitext.arguments import Arguments

_MAX_DIGITS = 4


def _numbers(args: Arguments) -> list[str]:
    """Year, month and day, by place or by name, as far as they are given."""
    values = args.values[:3]
    if not values:
        values = [value for name in ("year", "month", "day") if (value := args.first(name))]
    return values


def date(args: Arguments) -> str:
    """`{{birth date|1999|3|5|df=y}}`; what is no number stays as it is written."""
    values = _numbers(args)
    if not values or not all(value.isdecimal() and len(value) <= _MAX_DIGITS for value in values):
        return values[0] if len(values) == 1 else " ".join(values)
    if len(values) == 1 or not 1 <= int(values[1]) <= 12:
        return values[0]
    language, year, month = args.page.language, values[0], int(values[1])
    if len(values) == 2:
        return language.month(year, month)
    day = int(values[2])
    if language.is_english and args.first("df", "dmy") in ("y", "yes"):
        return f"{day} {language.months[month - 1]} {year}"
    return language.day(year, month, day)


def as_of(args: Arguments) -> str:
    """ "As of July 2015"; outside English the date alone, which no sentence misses the words of."""
    if alternative := args.named.get("alt"):
        return alternative
    if not args.page.language.is_english:
        return date(args)
    word = "Since" if args.named.get("since") else "As of"
    return f"{word.lower() if args.named.get('lc') else word} {date(args)}"


def old_style(args: Arguments) -> str:
    """`{{OldStyleDate|5 May|1905|22 April}}`."""
    other = f" [O.S. {args.at(3)}]" if args.at(3) else ""
    return f"{args.at(1)} {args.at(2)}".strip() + other


def reign(args: Arguments) -> str:
    return f"r. {'–'.join(args.values)}"


def born(args: Arguments) -> str:
    return ("b. " if args.page.language.is_english else markup.protect("* ")) + args.at(1)


def died(args: Arguments) -> str:
    return ("d. " if args.page.language.is_english else "† ") + args.at(1)
