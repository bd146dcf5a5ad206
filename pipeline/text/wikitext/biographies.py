"""`{{Bio}}`: the first sentence of nearly every biography of the Italian Wikipedia, in parameters.

The sentence is that of https://it.wikipedia.org/wiki/Template:Bio, without its footnotes.
"""

from __future__ import annotations

from pipeline.text.wikitext.arguments import Arguments

_VOWELS = tuple("aeiouàèéìòùAEIOUÀÈÉÌÒÙ")
_HARD = ("z", "gn", "ps", "pn", "x", "y")  # "uno psicologo"


def sentence(args: Arguments) -> str:
    """ "Charles Krauthammer (New York, 13 marzo 1950) è un giornalista statunitense."."""

    def given(*names: str) -> str:
        return args.first(*names).strip()

    name = " ".join(filter(None, (given("titolo"), given("nome"), given("cognome"))))
    if not name:
        return ""
    if after := given("postcognome"):
        name += after if after.startswith(",") else f" {after}"
    birth = _event(given("luogonascitaalt", "luogonascita"), given("giornomesenascita"), given("annonascita"))
    death = _event(given("luogomortealt", "luogomorte"), given("giornomesemorte"), given("annomorte"))
    life = " – ".join(filter(None, (birth, death)))
    details = "; ".join(filter(None, (given("predata"), life)))
    text = f"'''{name}'''" + (f" ({details})" if details else "")
    if end := given("fineincipit"):
        return f"{text} {end}" + _stop(end, args)
    works = [given("attività"), given("attività2"), given("attività3")]
    first, *more = [work for work in works if work] or [""]
    if not first:
        return text + "."
    woman = given("sesso").upper() == "F"
    jobs = ", ".join([first, *more[:-1]]) + (f" e {more[-1]}" if more else "") + given("attivitàaltre")
    is_dead = bool(given("annomorte") or given("giornomesemorte"))
    verb = ("è stata" if woman else "è stato") if is_dead else "è"
    of = (given("nazionalità"), given("nazionalitànaturalizzato"), given("postnazionalità"))
    rest = " ".join(part for part in (jobs, *of) if part)
    rest = rest.replace(" ,", ",")
    return f"{text} {verb} {_article(first, woman)}{rest}" + _stop(rest, args)


def _event(place: str, day: str, year: str) -> str:
    return ", ".join(filter(None, (place, " ".join(filter(None, (day, year))))))


def _article(word: str, woman: bool) -> str:
    plain = word.lstrip("'[ ")
    if woman:
        return "un'" if plain.startswith(_VOWELS) else "una "
    lower = plain.lower()
    hard = lower.startswith(_HARD) or (lower[:1] == "s" and lower[1:2] not in (*_VOWELS, ""))
    return "uno " if hard else "un "


def _stop(text: str, args: Arguments) -> str:
    return "" if text.endswith(".") or args.named.get("punto", "").lower() == "no" else "."
