"""Articles without end, for load tests: true statements by arithmetic, about numbers and pairs.

Numbers go on for ever, so any count of articles can be asked for; the other kinds are finite and
take turns with the numbers until they run out. Every title, and so every text, is distinct.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from random import Random
from typing import TypeVar

from examples.miniwiki import markup, places
from examples.miniwiki.markup import Draft, Section, joined, link, said
from examples.miniwiki.tables import COUNTRIES, ELEMENTS, Country, Element

_Row = TypeVar("_Row")
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_ROMAN = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"),
    (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip


def systematic_articles(seed: int = 0) -> Iterator[Draft]:
    """An endless stream of articles, the kinds in turn; it holds nothing but its place."""
    streams: list[Iterator[Draft]] = [
        (number_article(n, Random(f"{seed}/{n}")) for n in itertools.count(2)),
        (nuclide_article(element, mass) for element, mass in _nuclides()),
        (distance_article(a, b) for a, b in _pairs([c for c in COUNTRIES if c.capital])
         if places.distance_km(a, b) >= 50),
        (element_pair_article(a, b) for a, b in _pairs(ELEMENTS)),
        (country_pair_article(a, b) for a, b in _pairs(COUNTRIES)),
    ]  # fmt: skip
    while streams:
        for stream in list(streams):
            draft = next(stream, None)
            if draft is None:
                streams.remove(stream)
            else:
                yield draft


def _pairs(rows: Sequence[_Row]) -> Iterator[tuple[_Row, _Row]]:
    """Every unordered pair once, by growing stride, so that no row comes many times in a row."""
    count = len(rows)
    for stride in range(1, count // 2 + 1):
        # At half the length the pairs (i, i + stride) and (i + stride, i) are the same.
        last = count // 2 if 2 * stride == count else count
        for i in range(last):
            yield rows[i], rows[(i + stride) % count]


def _nuclides() -> Iterator[tuple[Element, int]]:
    """Mass numbers around each element's own, the closest first."""
    for step in range(80):
        for element in ELEMENTS:
            centre = round(element.mass)
            mass = centre + (step + 1) // 2 * (1 if step % 2 else -1)
            if element.number <= mass <= 3 * element.number:
                yield element, mass


def words(number: int) -> str:
    """The number in English words, for 0 to 999,999,999."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")
    for unit, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= unit:
            high, low = divmod(number, unit)
            head = f"{words(high)} {name}"
            return f"{head}{' and' if low < 100 else ''} {words(low)}" if low else head
    raise ValueError(f"{number} is negative: only numbers from 0 have words here")


def roman(number: int) -> str:
    """The number in Roman numerals, for 1 to 3,999."""
    out = ""
    for value, sign in _ROMAN:
        count, number = divmod(number, value)
        out += sign * count
    return out


def factors(number: int) -> list[tuple[int, int]]:
    """Prime factors with their powers, by trial division."""
    found: list[tuple[int, int]] = []
    prime = 2
    while prime * prime <= number:
        power = 0
        while number % prime == 0:
            number //= prime
            power += 1
        if power:
            found.append((prime, power))
        prime += 1 if prime == 2 else 2
    if number > 1:
        found.append((number, 1))
    return found


def number_article(n: int, rng: Random) -> Draft:
    """Arithmetic facts about one number."""
    parts = factors(n)
    prime = parts == [(n, 1)]
    divisors = [1]
    for p, k in parts:
        divisors = [d * p**e for d in divisors for e in range(k + 1)]
    divisors.sort()
    product = " × ".join(f"{p}<sup>{k}</sup>" if k > 1 else f"{p}" for p, k in parts)
    proper = sum(divisors[:-1])
    standing = "deficient" if proper < n else "perfect" if proper == n else "abundant"
    steps = [n]
    while steps[-1] != 1 and len(steps) < 60:
        last = steps[-1]
        steps.append(last // 2 if last % 2 == 0 else 3 * last + 1)
    few = f"{', '.join(map(str, divisors[:12]))}{', …' if len(divisors) > 12 else ''}"
    lead = said(
        f"'''{n}''' ('''{words(n)}''') is the [[natural number]] that follows {n - 1} and precedes "
        f"{link(f'Number {n + 1}', str(n + 1))}.",
        f"It is {'even' if n % 2 == 0 else 'odd'} and "
        + (
            rng.choice(("it is a [[prime number]].", "prime: only 1 and itself divide it."))
            if prime
            else rng.choice((f"equals {product}.", f"it factors as {product}."))
        ),
    )
    body = said(
        f"The number {n} has {len(divisors)} divisors ({few}), and those below it add up to "
        f"{proper}, so it is {markup.a(standing)} number.",
        f"Its square is {n * n:,}, its cube {n**3:,}, and the sum of the numbers from 1 to {n} is "
        f"{n * (n + 1) // 2:,}.",
        f"The digits of {n} add up to {sum(map(int, str(n)))}.",
    )
    notation = said(
        f"In binary {n} is written {n:b}, in octal {n:o} and in hexadecimal {n:X}.",
        f"In Roman numerals it is {roman(n)}." if n < 4000 else None,
    )
    collatz = (
        f"Halving even numbers and replacing an odd ''x'' by 3''x'' + 1, one goes from {n} "
        f"through {', '.join(map(str, steps[1:]))}" + (", where it ends." if steps[-1] == 1 else ".")
    )
    return Draft(
        title=f"Number {n}",
        short_description="Natural number",
        sections=[
            Section(
                before=[markup.infobox("number", {"number": n, "factorization": product})],
                prose=[lead],
            ),
            Section(heading="Divisors and powers", prose=[body]),
            Section(heading="Notation", level=3, prose=[notation]),
            Section(
                heading="Halving and tripling",
                prose=[collatz],
                after=["<math>x \\mapsto 3x + 1</math>"],
            ),
        ],
        categories=["Numbers", "Prime numbers" if prime else "Composite numbers"],
    )


def nuclide_article(element: Element, mass: int) -> Draft:
    """Counts of protons and neutrons; nothing is claimed about how long such a nucleus lasts."""
    low = element.name.lower()
    z, n = element.number, mass - element.number
    isobars = [
        f"{other.name.lower()}-{mass} ({other.number} protons, {mass - other.number} neutrons)"
        for other in ELEMENTS[max(0, z - 4) : z + 3]
        if other is not element and mass >= other.number
    ]
    isotones = [
        f"{other.name.lower()}-{other.number + n} ({other.number} protons)"
        for other in ELEMENTS[max(0, z - 4) : z + 3]
        if other is not element
    ]
    share = 100 * n / mass
    return Draft(
        title=f"Nuclide {low}-{mass}",
        short_description=f"Nuclide of {low}",
        sections=[
            Section(
                before=[markup.infobox("isotope", {"symbol": element.symbol, "mass number": mass})],
                prose=[
                    f"'''{element.name}-{mass}''', written <sup>{mass}</sup>{element.symbol}, is the "
                    f"[[nuclide]] of {link(element.title, low)} with [[mass number]] {mass}: it has "
                    f"{_count(z, 'proton')} and {_count(n, 'neutron')}. Its name says nothing about "
                    "how long such a nucleus lasts."
                ],
            ),
            Section(
                heading="Composition",
                prose=[
                    f"Neutrons make up {share:.1f} percent of the {mass} nucleons of {low}-{mass}. "
                    f"A neutral atom of it has {_count(z, 'electron')}, so that it counts "
                    f"{_count(2 * z + n, 'particle')} in all. {{{{nowrap|A = Z + N}}}} reads "
                    f"{mass} = {z} + {n}."
                ],
            ),
            Section(
                heading="Relatives",
                prose=[
                    said(
                        f"The same mass number {mass} is that of {joined(isobars)}." if isobars else None,
                        f"As many neutrons, {n}, are counted in {joined(isotones)}.",
                    )
                ],
            ),
        ],
        categories=[f"Nuclides of {low}"],
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def distance_article(a: Country, b: Country) -> Draft:
    """How far two capitals are from each other."""
    km = places.distance_km(a, b)
    # To ten kilometres: positions are given to a tenth of a degree.
    about = round(km / 10) * 10
    hours = about / 900
    return Draft(
        title=f"Distance between {a.capital} and {b.capital}",
        short_description="Great-circle distance",
        sections=[
            Section(
                prose=[
                    f"The '''distance between [[{a.capital}]] and [[{b.capital}]]''', the capitals "
                    f"of {a.article}{link(a.name)} and {b.article}{link(b.name)}, is about "
                    f"{about:,} kilometres along a [[great circle]]."
                ]
            ),
            Section(
                heading="Route",
                prose=[
                    said(
                        f"From {a.capital} ({_where(a)}) the shortest way to {b.capital} "
                        f"({_where(b)}) sets out to the {places.direction(a, b)}, and the way back "
                        f"sets out to the {places.direction(b, a)}.",
                        f"That is {about / 1.609344:,.0f} miles, or {km / 20015 * 100:.1f} percent "
                        "of the way to the opposite side of the [[Earth]].",
                        f"At 900 kilometres an hour the way takes {hours:.1f} hours.",
                    )
                ],
            ),
        ],
        categories=["Distances between capitals"],
    )


def _where(country: Country) -> str:
    assert country.capital_lat is not None
    assert country.capital_lon is not None
    return places.position(country.capital_lat, country.capital_lon)


def element_pair_article(a: Element, b: Element) -> Draft:
    """Two elements side by side."""
    light, heavy = sorted((a, b), key=lambda e: e.number)
    table = markup.wikitable(
        f"{a.name} and {b.name}",
        ("", a.name, b.name),
        [
            ("Symbol", a.symbol, b.symbol),
            ("Number", a.number, b.number),
            ("Mass", a.mass, b.mass),
        ],
    )
    alike = (
        f"Both count as {a.category}s."
        if a.category == b.category
        else f"{a.name} is {markup.a(a.category)}, {b.name.lower()} {markup.a(b.category)}."
    )
    return Draft(
        title=f"Comparison of {a.name.lower()} and {b.name.lower()}",
        short_description="Two chemical elements side by side",
        sections=[
            Section(
                prose=[
                    f"{link(a.title, a.name)} (symbol {a.symbol}) and {link(b.title, b.name.lower())}"
                    f" (symbol {b.symbol}) are [[chemical element]]s with the atomic numbers "
                    f"{a.number} and {b.number}. {alike}"
                ],
                after=[table],
            ),
            Section(
                heading="Atoms",
                prose=[
                    f"An atom of {heavy.name.lower()} has {heavy.number - light.number} more "
                    f"{'proton' if heavy.number - light.number == 1 else 'protons'} than an atom of "
                    f"{light.name.lower()}. In the [[periodic table]] {a.name.lower()} stands in "
                    f"{nature_place(a)}, {b.name.lower()} in {nature_place(b)}. The masses that "
                    f"tables print for them, {a.mass} and {b.mass}, stand in the ratio "
                    f"{a.mass / b.mass:.3f}."
                ],
            ),
        ],
        categories=["Comparisons of elements"],
    )


def nature_place(element: Element) -> str:
    """Where the element stands in the periodic table."""
    return f"group {element.group}, period {element.period}" if element.group else (
        f"period {element.period} among the {element.category}s"
    )  # fmt: skip


def country_pair_article(a: Country, b: Country) -> Draft:
    """Two countries side by side."""
    more, fewer = sorted((a, b), key=lambda c: -c.population_millions)
    ratio = more.population_millions / fewer.population_millions
    border = b.iso2 in a.neighbours
    area = None
    if a.area_km2 and b.area_km2:
        large, small = (a, b) if a.area_km2 >= b.area_km2 else (b, a)
        area = (
            f"The area of {large.the_name}, about {large.area_km2:,} square kilometres, is "
            f"{(large.area_km2 or 0) / (small.area_km2 or 1):,.1f} times that of {small.the_name}."
        )
    shared = sorted(set(a.languages) & set(b.languages))
    return Draft(
        title=f"Comparison of {a.name} and {b.name}",
        short_description="Two countries side by side",
        sections=[
            Section(
                prose=[
                    said(
                        f"{a.article.capitalize()}{link(a.name)} and {b.article}{link(b.name)} are "
                        + (
                            f"both countries in {link(a.continent)}."
                            if a.continent == b.continent
                            else f"countries in {link(a.continent)} and {link(b.continent)}."
                        ),
                        "They are neighbours by land." if border else None,
                        f"Their capitals are {a.capital} and {b.capital}."
                        if a.capital and b.capital
                        else None,
                    )
                ]
            ),
            Section(
                heading="People and land",
                prose=[
                    said(
                        f"{places.people_in(a).capitalize()} people live in {a.the_name}, "
                        f"{places.people_in(b)} in {b.the_name}: {ratio:,.1f} times as many in "
                        f"{more.the_name} as in {fewer.the_name}.",
                        area,
                        f"Both have {joined(shared)} as an official language." if shared else None,
                        f"Money is the {a.currency} in both."
                        if a.currency == b.currency
                        else f"People pay with the {a.currency} in {a.the_name} and with the "
                        f"{b.currency} in {b.the_name}.",
                    )
                ],
            ),
        ],
        categories=["Comparisons of countries"],
    )
