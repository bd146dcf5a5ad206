"""Templates of numbers and units, in the signs of the wiki's language."""

from __future__ import annotations

import re

from pipeline.text.wikitext.arguments import Arguments
from pipeline.text.wikitext.languages import Language

# Units that templates show in words, or by another sign than they are written.
_SIGNS = {
    "sqkm": "km²",
    "km2": "km²",
    "m2": "m²",
    "cm2": "cm²",
    "km3": "km³",
    "m3": "m³",
    "cm3": "cm³",
    "c": "°C",
    "f": "°F",
    "kmh": "km/h",
    "kph": "km/h",
}
_WORDS = {
    "sqmi": "sq mi",
    "sqft": "sq ft",
    "cuft": "cu ft",
    "cumi": "cu mi",
    "nmi": "nautical miles",
    "kn": "knots",
    "acre": "acres",
    "foot": "foot",
    "oilbbl": "barrels",
}
_IN_ENGLISH = {**_SIGNS, **_WORDS}
_MULTIPLES = {"e3": "thousand ", "e6": "million ", "e9": "billion ", "e12": "trillion "}
_POWERS = {"e3": "×10^3 ", "e6": "×10^6 ", "e9": "×10^9 ", "e12": "×10^12 "}
_OIL = {"koilbbl": "thousand barrels", "moilbbl": "million barrels", "goilbbl": "billion barrels"}
# Between the ends of a range; the second is for languages other than English.
_RANGES = {
    "to": (" to ", "–"),
    "-": ("–", "–"),
    "–": ("–", "–"),
    "and": (" and ", ", "),
    "or": (" or ", " / "),
    "x": (" × ", " × "),
    "×": (" × ", " × "),
    "by": (" by ", " × "),
    "+/-": (" ± ", " ± "),
    "±": (" ± ", " ± "),
    "to(-)": (" to ", "–"),
    "and(-)": (" and ", ", "),
    "to about": (" to about ", "–"),
}
# Signs by which a call is known for one of units, whatever its template is called; none is a point of the
# compass or a name of a parameter.
_UNITS = frozenset(
    """
        km m cm mm µm nm mi ft in yd nmi km2 km² m2 m² cm2 cm² ha acre acres sqmi sqft km3 km³ m3 m³
        kg g mg t lb oz l ml hl gal °c °f km/h kmh kph mph m/s kn knots kw mw gw kwh mwh hp cv hz khz mhz
        ghz kj mj kcal kpa mpa hpa bar psi kb gb tb ly au pc кг км м см мм км² м² км/ч км/год га т л л. c.
    """.split()
)
_NUMBER = re.compile(r"[+\-−]?\d[\d.,' \xa0]{0,30}(?:e[+-]?\d{1,3})?%?", re.IGNORECASE)
_NUMBER_OF_UNITS = re.compile(r"[+\-−]?[\d.,/+⁄ ]{0,40}\d(?:e[+-]?\d{1,3})?%?", re.IGNORECASE)


def is_number(value: str) -> bool:
    """Whether a parameter is a number, in the digits of any script."""
    return _NUMBER.fullmatch(value) is not None


def is_measure(values: list[str]) -> bool:
    """Whether a call is a number and its unit, or a range and its unit, whatever the template is called."""
    if len(values) > 2 and values[1].lower() in _RANGES and is_number(values[2]):
        values = [values[0], *values[3:]]
    return len(values) > 1 and is_number(values[0]) and values[1].lower() in _UNITS


def _unit(written: str, language: Language) -> str:
    """A unit's name as the template shows it: "e6acre" is "million acres"."""
    for mark in _MULTIPLES:
        if written.startswith(mark):
            multiple = _MULTIPLES[mark] if language.is_english else _POWERS[mark]
            return multiple + _unit_name(written[len(mark) :], language)
    return _unit_name(written, language)


def _unit_name(written: str, language: Language) -> str:
    known = _IN_ENGLISH if language.is_english else _SIGNS
    if name := known.get(written.lower()):
        return name
    unit, slash, per = written.partition("/")
    name = known.get(unit.lower()) or (_OIL.get(unit.lower()) if language.is_english else None)
    if name is None:
        return written
    return f"{name} per day" if slash and per == "d" and language.is_english else name + slash + per


def format_number(args: Arguments) -> str:
    """`{{formatnum:1234.5}}`: "1,234.5", "1 234,5"."""
    return args.page.language.number(args.at(1))


def convert(args: Arguments) -> str:
    """`{{convert|5|to|10|km|mi}}` as "5 to 10 km": what was measured, without the conversion."""
    language = args.page.language
    parts = [part.strip() for part in args.positional]
    if not parts:
        return ""
    text, index = [language.number(parts[0].replace("+", " "))], 1
    while index + 1 < len(parts) and parts[index].lower() in _RANGES:
        text += [_RANGES[parts[index].lower()][not language.is_english], language.number(parts[index + 1])]
        index += 2
    while index < len(parts) and not parts[index]:  # "{{M|61.000||km/h}}"
        index += 1
    if index >= len(parts):
        return "".join(text)
    hyphen = "-" if args.named.get("adj") in ("on", "mid") else " "
    text += [hyphen, _unit(parts[index], language)]
    index += 1
    # Feet and inches, stones and pounds: a second number with its own unit.
    while index + 1 < len(parts) and _NUMBER_OF_UNITS.fullmatch(parts[index]):
        text.append(f" {parts[index]}{hyphen}{parts[index + 1]}")
        index += 2
    return "".join(text)


def fraction(args: Arguments) -> str:
    match args.values:
        case [below]:
            return f"1/{below}"
        case [above, below]:
            return f"{above}/{below}"
        case [whole, above, below]:
            return f"{whole} {above}/{below}"
    return ""


def value(args: Arguments) -> str:
    text = args.at(1)
    if args.at(2):
        text += f"±{args.at(2)}"
    if args.named.get("e"):
        text += f"×10^{args.named['e']}"
    unit = args.first("u", "ul", "up", "upl")
    return f"{text} {unit}" if unit else text
