"""Language variants, `-{…}-`: one text in the scripts or the words of several readers.

What is shown is what MediaWiki shows to a reader who chose no variant (`ConverterRule`,
https://www.mediawiki.org/wiki/Writing_systems/Syntax): the form of the first variant in the language's order.
"""

from __future__ import annotations

import re

# Variants by language, in the order in which MediaWiki falls back for a reader who chose none.
_ORDER = (
    "zh zh-hans zh-hant zh-cn zh-tw zh-hk zh-sg zh-mo zh-my",
    "gan gan-hans gan-hant",
    "wuu wuu-hans wuu-hant",
    "sr sr-ec sr-el sr-cyrl sr-latn",
    "sh sh-latn sh-cyrl",
    "kk kk-cyrl kk-latn kk-arab kk-kz kk-tr kk-cn",
    "uz uz-latn uz-cyrl",
    "ku ku-latn ku-arab",
    "tg tg-cyrl tg-latn",
    "tly tly-latn tly-cyrl",
    "crh crh-latn crh-cyrl",
    "shi shi-latn shi-tfng",
    "zgh zgh-tfng zgh-latn",
    "iu ike-cans ike-latn iu-cans iu-latn",
    "ban ban-latn ban-bali",
    "mni mni-mtei mni-beng",
)
_RANK = {code: rank for codes in _ORDER for rank, code in enumerate(codes.split())}
_CODE = "|".join(sorted(_RANK, key=len, reverse=True))
# A semicolon parts rules only before a code with its colon, perhaps behind "from =>".
_NEXT_RULE = re.compile(rf"\s*(?:{_CODE})\s*:", re.IGNORECASE)
# As the description of rules names them (flag D); other languages show the codes' own names.
_NAMES = {
    "zh-hans": "简体",
    "zh-hant": "繁體",
    "zh-cn": "大陆",
    "zh-tw": "臺灣",
    "zh-hk": "香港",
    "zh-mo": "澳門",
    "zh-sg": "新加坡",
    "zh-my": "大马",
    "sr-ec": "ћирилица",
    "sr-el": "latinica",
}
_HIDING = frozenset("HT-+")


def shown(content: str) -> str:
    """What `-{content}-` shows."""
    flags_text, pipe, text = content.partition("|")
    if not pipe:
        flags_text, text = "", content
    flags = {flag.strip() for flag in flags_text.split(";")}
    if flags & _HIDING and "R" not in flags:
        return ""
    if "R" in flags or any(flag.lower() in _RANK for flag in flags):
        return text.strip()
    rules = _rules(text)
    if rules is None:
        return text.strip()
    if "D" in flags:
        return "；".join(f"{_NAMES.get(code, code)}：{form}" for code, form in rules)
    # Sorting is stable: of one rank, the first.
    return min(rules, key=lambda rule: _RANK[rule[0]])[1] if rules else ""


def _rules(text: str) -> list[tuple[str, str]] | None:
    """Codes and forms in the order written; None where the text is no list of rules but text."""
    rules: list[tuple[str, str]] = []
    for rule in _parted(text):
        before, colon, form = rule.partition(":")
        code = before.rpartition("=>")[2].strip().lower()
        if not rule.strip():
            continue
        if not colon or code not in _RANK:
            return None
        if form.strip():
            rules.append((code, form.strip()))
    return rules


def _parted(text: str) -> list[str]:
    """The rules of a text: parted at semicolons, where what follows begins a rule or is nothing."""
    parts: list[list[str]] = []
    for piece in text.rstrip("; \t\n").split(";"):
        # "from=>code: to" too: what the arrow turns may be any text.
        if not parts or _NEXT_RULE.match(piece.rpartition("=>")[2]):
            parts.append([piece])
        else:
            parts[-1].append(piece)
    return [";".join(pieces) for pieces in parts]
