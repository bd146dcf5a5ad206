"""The templates that are known by name, and what they read as.

Dropping a template that stands inside a sentence leaves a hole in it ("a range of  from"), so these are the
ones that articles use there: units, dates, foreign words, typography, quotations. Names are in lower case,
with spaces. They hold on every wiki, since most wikis have taken them over from the English one; other
languages have a few of their own among them, and `own_templates` adds those of a user's file. What is not
here is judged by the shape of its call (`shapes`): infoboxes, navigation, citations and notices are dropped.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence

from pipeline.text.wikitext import biographies, dates, links, markup, numbers
from pipeline.text.wikitext.arguments import Arguments

Renderer = Callable[[Arguments], str]


def _nth(number: int) -> Renderer:
    return lambda args: args.at(number, "text")


def _last(args: Arguments) -> str:
    return args.values[-1] if args.values else args.first("text")


def _joined(separator: str) -> Renderer:
    return lambda args: separator.join(args.values)


def _constant(text: str) -> Renderer:
    return lambda args: markup.protect(text)


def _prefixed(prefix: str) -> Renderer:
    return lambda args: prefix + args.at(1) if args.at(1) else ""


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
    names = ("english", "kanji", "romaji", "extra", "extra2")
    return _parenthesis([args.at(number, name) for number, name in enumerate(names, 1)])


def _named_forms(args: Arguments) -> str:
    """Chinese or Korean forms of a name, given by parameter."""
    names = ("c", "t", "s", "p", "hp", "w", "j", "hangul", "hanja", "rr", "mr")
    return ", ".join(dict.fromkeys([*args.values, *(args.named.get(n, "") for n in names)])).strip(", ")


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


def _page_name(args: Arguments) -> str:
    """`{{PAGENAME}}`, and `{{PAGENAME:title}}`. In the main namespace a title's "/" begins no subpage."""
    return args.at(1) or markup.protect(args.page.title)


# By what a file of a user's own calls it; see `own_templates`.
WAYS: dict[str, Renderer] = {
    "text": _text,
    "second": _nth(2),
    "last": _last,
    "block": _block,
    "lines": _lines,
    "joined": _joined(" "),
    "commas": _joined(", "),
    "drop": lambda args: markup.HOLE,
}


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

# In MediaWiki's English and in the languages of its message files.
_PAGENAMES = (
    "pagename pagenamee basepagename basepagenamee fullpagename fullpagenamee subpagename rootpagename "
    "seitenname vollerseitenname basisname nompage nompagecomplet nombredepagina nombredepágina nomedapagina "
    "nomedapágina nomepagina paginanaam volledigepaginanaam nazwastrony названиестраницы имястраницы "
    "назвасторінки sidnamn sidenavn sivunimi sayfaadi sayfaadı têntrang "
    "페이지이름 문서이름 ページ名 頁名 页名 页面名 頁面名稱 اسم_الصفحة نام‌صفحه "
    "názevstránky oldalneve numepagina"
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
    **dict.fromkeys(["convert", "cvt", "conv", "convinfobox"], numbers.convert),
    **dict.fromkeys(["unité", "unidad", "unità", "число", "nunit"], _joined(" ")),
    **dict.fromkeys(["frac", "fraction", "sfrac", "fract"], numbers.fraction),
    **dict.fromkeys(["val", "math val"], numbers.value),
    **dict.fromkeys(["e", "esp"], _prefixed("×10^")),
    **dict.fromkeys(["gaps", "chem", "nb10", "plain link text"], _joined("")),
    **dict.fromkeys(["formatnum", "nombre"], numbers.format_number),
    **dict.fromkeys(["as of", "asof"], dates.as_of),
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
        dates.date,
    ),
    **dict.fromkeys(["circa", "c.", "ca."], _prefixed("c. ")),
    **dict.fromkeys(["floruit", "fl."], _prefixed("fl. ")),
    **dict.fromkeys(["reign", "r."], dates.reign),
    **dict.fromkeys(["oldstyledate", "oldstyledatedy"], dates.old_style),
    **dict.fromkeys(["born", "b."], dates.born),
    **dict.fromkeys(["died", "d."], dates.died),
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
    **dict.fromkeys(["shy", "zwnbsp", "wbr", "okina text"], _constant("")),
    "zwnj": _constant("\u200c"),
    "zwj": _constant("\u200d"),
    "zwsp": _constant("\u200b"),
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
    **{name: _constant(name) for name in ("1er", "1re")},
    **dict.fromkeys(["ier"], _constant("er")),
    **dict.fromkeys(["ière"], _constant("re")),
    **dict.fromkeys(_PAGENAMES.split(), _page_name),
    "bio": biographies.sentence,
    "lc": lambda args: args.at(1).lower(),
    "uc": lambda args: args.at(1).upper(),
    "ucfirst": lambda args: args.at(1)[:1].upper() + args.at(1)[1:],
    "lcfirst": lambda args: args.at(1)[:1].lower() + args.at(1)[1:],
}
# {{lang-fr|…}}, {{script/Hebr|…}}, and the German {{frS|…}}: the language is in the name.
_FIRST_BY_PATTERN = re.compile(
    r"lang-[a-z\-]{2,20}\d?|script/[a-z ]+|(?:en|fr|la|es|it|ru|ar|el|grc|pl|ja|he|tr|pt|nl|sv|hu|zh)s"
)
_CENTURY = re.compile(r"([ivxlc]+)(er|e) siècle(?: av\. j\.-c\.)?")
# Parser functions that take their first argument after a colon.
_FUNCTIONS = frozenset(["formatnum", "lc", "uc", "ucfirst", "lcfirst", *_PAGENAMES.split()])
_SUBST = re.compile(r"(?:subst|safesubst):", re.IGNORECASE)


@functools.lru_cache(maxsize=1 << 14)
def find(name: str) -> Renderer | None:
    """The renderer of the template called `name`, or None for one whose text is dropped.

    Args:
        name: what stands before the first "|", as written, without a namespace.
    """
    written = _written(name)
    lowered = written.lower()
    if renderer := _TEMPLATES.get(lowered):
        return renderer
    if _FIRST_BY_PATTERN.fullmatch(lowered):
        return _text
    if lowered in links.LANGUAGES:  # "{{en|My Happiness}}"; without words it is a note of the language
        return lambda args: args.at(1) or markup.HOLE
    if century := _CENTURY.fullmatch(lowered):
        return _constant(century.group(1).upper() + written[len(century.group(1)) :])
    return None


def find_own(name: str, own: Mapping[str, str]) -> Renderer | None:
    """The renderer of a template that a user's file names.

    Args:
        name: as in `find`.
        own: of the wiki, see `own_templates.OwnTemplates.of`.
    """
    way = own.get(normal(name))
    if way is None:
        return None
    return WAYS[way] if way in WAYS else find(way.partition(":")[2])


@functools.lru_cache(maxsize=1 << 14)
def normal(name: str) -> str:
    """A template's name as names are compared."""
    return _written(name).lower()


def _written(name: str) -> str:
    return " ".join(_SUBST.sub("", name).replace("_", " ").split())


def find_function(name: str) -> Renderer | None:
    """The renderer of the parser function `name`, whose argument stands after a colon."""
    name = _SUBST.sub("", name).strip().lower()
    return _TEMPLATES[name] if name in _FUNCTIONS else None
