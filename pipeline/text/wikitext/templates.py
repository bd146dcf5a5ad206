"""The templates whose text is part of a sentence, and what they read as.

Every other template is dropped: infoboxes, navigation, citations, notices. Dropping a template
that stands inside a sentence leaves a hole in it ("a range of  from"), so this list holds the ones
that articles use inside sentences: units, dates, foreign words, typography, quotations. Names are
in lower case, with spaces. Languages other than English have a few of their own here; a template
that is missing costs its words and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.text.wikitext import markup

_NAME = re.compile(r"[\w \-]{1,40}", re.ASCII)
_MONTHS = """
    January February March April May June July August September October November December
""".split()


@dataclass(frozen=True)
class Arguments:
    """A template's parameters, rendered: `positional` from 1 on, `named` by lower-case name."""

    positional: tuple[str, ...]
    named: dict[str, str] = field(default_factory=dict)

    def at(self, number: int) -> str:
        """Positional parameter `number` (from 1), stripped; empty where there is none."""
        value = self.positional[number - 1] if number <= len(self.positional) else ""
        return (value or self.named.get(str(number), "")).strip()

    def first(self, *names: str) -> str:
        """The first named parameter among `names` that has a value."""
        return next((self.named[name] for name in names if self.named.get(name)), "")

    @property
    def values(self) -> list[str]:
        """The positional parameters that have a value, stripped."""
        return [value.strip() for value in self.positional if value.strip()]


def arguments(parts: Sequence[str]) -> Arguments:
    """Sort a template's parameters into named and positional ones."""
    positional: list[str] = []
    named: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if equals and _NAME.fullmatch(name := name.strip()):
            named[name.lower()] = value.strip()
        else:
            positional.append(part)
    return Arguments(tuple(positional), named)


Renderer = Callable[[Arguments], str]


def _nth(number: int) -> Renderer:
    return lambda args: args.at(number)


def _last(args: Arguments) -> str:
    return args.values[-1] if args.values else ""


def _joined(separator: str) -> Renderer:
    return lambda args: separator.join(args.values)


def _constant(text: str) -> Renderer:
    return lambda args: markup.protect(text)


def _prefixed(prefix: str) -> Renderer:
    return lambda args: prefix + args.at(1)


def _block(args: Arguments) -> str:
    text = args.first("text", "quote", "content", "lines", "inhalt", "texte") or args.at(1)
    return f"\n\n{text.strip()}\n\n" if text.strip() else markup.HOLE


def _text(args: Arguments) -> str:
    return args.first("text", "content", "sign") or args.at(1)


def _lines(args: Arguments) -> str:
    return "\n\n" + "\n\n".join(args.values) + "\n\n"


def _parenthesis(parts: Sequence[str]) -> str:
    kept = [part for part in parts if part]
    if len(kept) < 2:
        return kept[0] if kept else ""
    return f"{kept[0]} ({', '.join(kept[1:])})"


def _nihongo(args: Arguments) -> str:
    return _parenthesis([args.at(number) for number in range(1, 5)])


def _named_forms(args: Arguments) -> str:
    """Chinese or Korean forms of a name, given by parameter."""
    names = ("c", "t", "s", "p", "hp", "w", "j", "hangul", "hanja", "rr", "mr")
    return ", ".join(dict.fromkeys([*args.values, *(args.named.get(n, "") for n in names)])).strip(", ")


# Convert -------------------------------------------------------------------------------------

_UNITS = {
    "sqmi": "sq mi",
    "sqkm": "km²",
    "km2": "km²",
    "m2": "m²",
    "cm2": "cm²",
    "km3": "km³",
    "m3": "m³",
    "cm3": "cm³",
    "sqft": "sq ft",
    "cuft": "cu ft",
    "cumi": "cu mi",
    "c": "°C",
    "f": "°F",
    "kmh": "km/h",
    "kph": "km/h",
    "nmi": "nautical miles",
    "kn": "knots",
    "acre": "acres",
    "foot": "foot",
    "oilbbl": "barrels",
}
_MULTIPLES = {"e3": "thousand ", "e6": "million ", "e9": "billion ", "e12": "trillion "}
_OIL = {"koilbbl": "thousand barrels", "moilbbl": "million barrels", "goilbbl": "billion barrels"}
_RANGES = {
    "to": " to ",
    "-": "–",
    "–": "–",
    "and": " and ",
    "or": " or ",
    "x": " × ",
    "×": " × ",
    "by": " by ",
    "+/-": " ± ",
    "±": " ± ",
    "to(-)": " to ",
    "and(-)": " and ",
    "to about": " to about ",
}
_WHOLE = re.compile(r"[1-9]\d{3,17}", re.ASCII)
_NUMBER = re.compile(r"[+\-−]?[\d.,/+⁄ ]*\d(?:e[+-]?\d+)?%?", re.IGNORECASE)


def _unit(written: str) -> str:
    """A unit's name as the template shows it: "e6acre" is "million acres"."""
    for mark, multiple in _MULTIPLES.items():
        if written.startswith(mark):
            return multiple + _unit_name(written[len(mark) :])
    return _unit_name(written)


def _unit_name(written: str) -> str:
    unit, slash, per = written.partition("/")
    name = _OIL.get(unit.lower()) or _UNITS.get(written.lower()) or _UNITS.get(unit.lower())
    if name is None or written.lower() in _UNITS:
        return name or written
    return f"{name} per day" if slash and per == "d" else name + slash + per


def _grouped(number: str) -> str:
    """Thousands separated, as the templates of numbers do: "1435" is "1,435"."""
    return f"{int(number):,}" if _WHOLE.fullmatch(number) else number


def _convert(args: Arguments) -> str:
    """`{{convert|5|to|10|km|mi}}` as "5 to 10 km": what was measured, without the conversion."""
    parts = [part.strip() for part in args.positional]
    if not parts:
        return ""
    text, index = _grouped(parts[0].replace("+", " ")), 1
    while index + 1 < len(parts) and parts[index].lower() in _RANGES:
        text += _RANGES[parts[index].lower()] + _grouped(parts[index + 1])
        index += 2
    if index >= len(parts):
        return text
    hyphen = "-" if args.named.get("adj") in ("on", "mid") else " "
    text += hyphen + _unit(parts[index])
    index += 1
    # Feet and inches, stones and pounds: a second number with its own unit.
    while index + 1 < len(parts) and _NUMBER.fullmatch(parts[index]):
        text += f" {parts[index]}{hyphen}{parts[index + 1]}"
        index += 2
    return text


def _fraction(args: Arguments) -> str:
    match args.values:
        case [below]:
            return f"1/{below}"
        case [above, below]:
            return f"{above}/{below}"
        case [whole, above, below]:
            return f"{whole} {above}/{below}"
    return ""


def _value(args: Arguments) -> str:
    text = args.at(1)
    if args.at(2):
        text += f"±{args.at(2)}"
    if args.named.get("e"):
        text += f"×10^{args.named['e']}"
    unit = args.first("u", "ul", "up", "upl")
    return f"{text} {unit}" if unit else text


# Dates ---------------------------------------------------------------------------------------


def _date(args: Arguments) -> str:
    values = args.values[:3]
    if not values or not all(value.isdecimal() and len(value) <= 4 for value in values):
        return values[0] if len(values) == 1 else " ".join(values)
    if len(values) == 1 or not 1 <= int(values[1]) <= 12:
        return values[0]
    month = _MONTHS[int(values[1]) - 1]
    if len(values) == 2:
        return f"{month} {values[0]}"
    day = int(values[2])
    if args.first("df", "dmy") in ("y", "yes"):
        return f"{day} {month} {values[0]}"
    return f"{month} {day}, {values[0]}"


def _as_of(args: Arguments) -> str:
    if alternative := args.named.get("alt"):
        return alternative
    word = "Since" if args.named.get("since") else "As of"
    return f"{word.lower() if args.named.get('lc') else word} {_date(args)}"


def _old_style(args: Arguments) -> str:
    """`{{OldStyleDate|5 May|1905|22 April}}`."""
    other = f" [O.S. {args.at(3)}]" if args.at(3) else ""
    return f"{args.at(1)} {args.at(2)}".strip() + other


def _reign(args: Arguments) -> str:
    return f"r. {'–'.join(args.values)}"


# Links and names -----------------------------------------------------------------------------


def _interlanguage(args: Arguments) -> str:
    return args.first("lt", "display", "texte", "trad", "text") or args.at(1)


def _ship(prefix: str) -> Renderer:
    def render(args: Arguments) -> str:
        name = args.at(1)
        if args.at(2) and args.at(3) not in ("2", "3", "6"):
            return f"{prefix} {name} ({args.at(2)})"
        return f"{prefix} {name}"

    return render


def _any_ship(args: Arguments) -> str:
    return " ".join(value for value in args.values[:2])


def _ship_class(args: Arguments) -> str:
    kind = args.at(2)
    return f"{args.at(1)}-class {kind}" if kind else f"{args.at(1)} class"


def _ruby(args: Arguments) -> str:
    return _parenthesis(args.values[:2])


# The table -----------------------------------------------------------------------------------

_FIRST = (
    "nowrap nobr nobreak small smaller big bigger large larger resize smallcaps sc smallcaps_all "
    "aut var mvar math em strong kbd samp code codes mono tt sup sub pre2 abbr abbrlink "
    "vanchor visible_anchor anchor_text angbr angle_bracket linktext bold b i italic it u underline "
    "overline not_a_typo not_typo typo as_written proper_name nbsp_text shy_text keypress key "
    "citation title cslist chem2 su hebrew hebrew_text script/hebrew script/arabic polytonic "
    "unicode greek grc grek cyrl nq nastaliq nst lang_text flag flagu flagcountry country flaglist "
    "fbw fb own ipc bibleverse bibleref sourcetext noitalic no_italics normal noitalics nitalic "
    "ill link-interwiki interlanguage_link sortname_text fact_span floruit_text zitat "
    "仮リンク link-en link-de link-fr link-ja le internal_link_helper lj lk "
    "noflag noflag2 highlight hl2 strikethrough s-text del ins resize2 lower raise dfn cite_word "
    "vr gr grapheme angle_brackets midsize railgauge track_gauge format_price petit "
    "siècle_texte exp ind corr souligner"
)
_SECOND = (
    "lang langx langue lang2 color colour font_color coloured_text fontcolor fgcolor bg rtl-lang "
    "tsl native_name youtube tooltip2 script нп5_текст"
)
_BLOCKS = (
    "quote blockquote cquote quotation bquote block_quote centered_pull_quote quote_text "
    "poemquote poem_quote poem columns-list columns_list colend_list cita zitat_block citazione "
    "citation_bloc début_citation_bloc начало_цитаты_текст plainlist flatlist columns bulleted_list_text"
)

_SHIPS = "USS HMS HMAS HMCS HMNZS HMIS SS RMS MV MS SMS USCGC USNS USAT PS MY RV INS ROKS ORP HNLMS"

_TEMPLATES: dict[str, Renderer] = {
    **{name.replace("_", " "): _text for name in _FIRST.split()},
    **{name.replace("_", " "): _nth(2) for name in _SECOND.split()},
    **{name.replace("_", " "): _block for name in _BLOCKS.split()},
    **{name.lower(): _ship(name) for name in _SHIPS.split()},
    **dict.fromkeys(["ship"], _any_ship),
    **dict.fromkeys(["sclass", "sclass2", "sclass-"], _ship_class),
    **dict.fromkeys(["transl", "transliteration", "tlit"], _last),
    **dict.fromkeys(["ill", "illm", "ill2", "interlanguage link multi", "lien"], _interlanguage),
    **dict.fromkeys(["нп", "нп1", "нп2", "нп3", "нп4", "нп5", "iw", "не переведено"], _interlanguage),
    **dict.fromkeys(["citation needed span", "fact span", "clarify span", "sic"], _text),
    **dict.fromkeys(["convert", "cvt", "conv", "convinfobox"], _convert),
    **dict.fromkeys(["unité", "unidad", "unità", "число", "nunit"], _joined(" ")),
    **dict.fromkeys(["frac", "fraction", "sfrac", "fract"], _fraction),
    **dict.fromkeys(["val", "math val"], _value),
    **dict.fromkeys(["e", "esp"], _prefixed("×10^")),
    **dict.fromkeys(["gaps", "chem", "nb10", "plain link text"], _joined("")),
    **dict.fromkeys(["formatnum", "nombre"], lambda args: _grouped(args.at(1))),
    **dict.fromkeys(["as of", "asof"], _as_of),
    **dict.fromkeys(
        [
            "date",
            "start date",
            "start date and age",
            "end date",
            "birth date",
            "birth date and age",
            "dob",
            "bda",
            "death date",
            "death date and age",
            "birth-date",
            "death-date",
            "birth year",
            "film date",
            "dts",
            "start-date",
            "end-date",
            "bya",
            "date-",
            "date de naissance",
            "birth year and age",
            "release date",
        ],
        _date,
    ),
    **dict.fromkeys(["circa", "c.", "ca."], _prefixed("c. ")),
    **dict.fromkeys(["floruit", "fl."], _prefixed("fl. ")),
    **dict.fromkeys(["reign", "r."], _reign),
    **dict.fromkeys(["oldstyledate", "oldstyledatedy"], _old_style),
    **dict.fromkeys(["born", "b."], _prefixed("b. ")),
    **dict.fromkeys(["died", "d."], _prefixed("d. ")),
    **dict.fromkeys(["nihongo", "nihongo2", "nihongo3", "nihongo foot"], _nihongo),
    **dict.fromkeys(["zh", "zh-cn", "korean", "ko-hhrm", "zhi"], _named_forms),
    **dict.fromkeys(["ruby", "読み仮名", "ruby-ja", "yomi", "ルビ"], _ruby),
    **dict.fromkeys(["unbulleted list", "ubl", "bulleted list", "verse translation"], _lines),
    **dict.fromkeys(["hlist", "hlist-comma", "flatlist inline", "enum", "cslist"], _joined(", ")),
    **dict.fromkeys(["'", "apostrophe", "`"], _constant("'")),
    **dict.fromkeys(["'s"], _constant("'s")),
    **dict.fromkeys(["' \"", "'\""], _constant("' \"")),
    **dict.fromkeys(["\" '", "\"'"], _constant("\" '")),
    **dict.fromkeys(["!", "pipe"], _constant("|")),
    **dict.fromkeys(["="], _constant("=")),
    **dict.fromkeys(["(", "lbrace"], _constant("{")),
    **dict.fromkeys([")", "rbrace"], _constant("}")),
    **dict.fromkeys(["bracket", "interp"], lambda args: markup.protect(f"[{args.at(1)}]")),
    **dict.fromkeys(["[", "lbrack"], _constant("[")),
    **dict.fromkeys(["]", "rbrack"], _constant("]")),
    **dict.fromkeys(["*", "asterisk"], _constant("*")),
    **dict.fromkeys(["ndash", "en dash", "endash", "–", "nsndns"], _constant("–")),
    **dict.fromkeys(["mdash", "mdashb", "em dash", "emdash", "—"], _constant("—")),
    **dict.fromkeys(
        ["spaced ndash", "spaced en dash", "spnd", "snd", "snds", "sndash", "dash", "spndsp"],
        _constant(" – "),
    ),
    **dict.fromkeys(["spaced mdash", "spaced em dash"], _constant(" — ")),
    **dict.fromkeys(
        ["nbsp", "spaces", "space", "sp", "thinsp", "thin space", "hair space", "px1", "px2", "nbs"],
        _constant(" "),
    ),
    **dict.fromkeys(["·", "dot", "middot", "•", "bull", "bullet"], _constant(" · ")),
    **dict.fromkeys(["shy", "zwj", "zwnj", "zwsp", "zwnbsp", "wbr", "okina text"], _constant("")),
    **dict.fromkeys(["okina", "hamza"], _constant("ʻ")),
    **dict.fromkeys(["pi"], _constant("π")),
    **dict.fromkeys(["eqm", "eqm2"], _constant("⇌")),
    **dict.fromkeys(["flat"], _constant("♭")),
    **dict.fromkeys(["sharp"], _constant("♯")),
    "music": lambda args: {"flat": "♭", "sharp": "♯", "natural": "♮"}.get(args.at(1), args.at(1)),
    **dict.fromkeys(['-"'], _constant('"')),
    **dict.fromkeys(["tau"], _constant("τ")),
    **dict.fromkeys(["phi"], _constant("φ")),
    **dict.fromkeys(["dagger", "†"], _constant("†")),
    **dict.fromkeys(["degree", "deg"], _prefixed("°")),
    **dict.fromkeys(["no.", "numero", "number sign"], _prefixed("No. ")),
    **dict.fromkeys(["us$", "usd"], _prefixed("US$")),
    **dict.fromkeys(["a$", "aud", "au$"], _prefixed("A$")),
    **dict.fromkeys(["c$", "cad", "ca$"], _prefixed("C$")),
    **dict.fromkeys(["gbp", "£", "pound sterling"], _prefixed("£")),
    **dict.fromkeys(["eur", "euro", "€"], _prefixed("€")),
    **dict.fromkeys(["inr", "indian rupee", "rupee", "₹"], _prefixed("₹")),
    **dict.fromkeys(["jpy", "¥", "yen"], _prefixed("¥")),
    **dict.fromkeys(["sqrt", "radic"], _prefixed("√")),
    **dict.fromkeys(["1er", "1re", "ier", "ière"], _constant("1er")),
    "lc": lambda args: args.at(1).lower(),
    "uc": lambda args: args.at(1).upper(),
    "ucfirst": lambda args: args.at(1)[:1].upper() + args.at(1)[1:],
    "lcfirst": lambda args: args.at(1)[:1].lower() + args.at(1)[1:],
}
# {{lang-fr|…}}, {{script/Hebr|…}}, and the German {{frS|…}}: the language is in the name.
_FIRST_BY_PATTERN = re.compile(
    r"lang-[a-z\-]{2,20}|script/[a-z ]+|(?:en|fr|la|es|it|ru|ar|el|grc|pl|ja|he|tr|pt|nl|sv|hu|zh)s"
)
_CENTURY = re.compile(r"([ivxlc]+)(er|e) siècle(?: av\. j\.-c\.)?")
# Parser functions that take their first argument after a colon.
_FUNCTIONS = ("formatnum", "lc", "uc", "ucfirst", "lcfirst")
_SUBST = re.compile(r"(?:subst|safesubst):", re.IGNORECASE)


def find(name: str) -> Renderer | None:
    """The renderer of the template called `name`, or None for one whose text is dropped.

    Args:
        name: what stands before the first "|", as written, without a namespace.
    """
    written = " ".join(_SUBST.sub("", name).replace("_", " ").split())
    lowered = written.lower()
    if renderer := _TEMPLATES.get(lowered):
        return renderer
    if _FIRST_BY_PATTERN.fullmatch(lowered):
        return _text
    if century := _CENTURY.fullmatch(lowered):
        return _constant(century.group(1).upper() + written[len(century.group(1)) :])
    return None


def find_function(name: str) -> Renderer | None:
    """The renderer of the parser function `name`, whose argument stands after a colon."""
    name = _SUBST.sub("", name).strip().lower()
    return _TEMPLATES[name] if name in _FUNCTIONS else None
