"""Made-up entities, as many as are asked for: a reader that knows the tables by heart knows none.

Each is a row as the tables have it, with facts drawn at random, so that the same writers make its
article and the same questions are asked about it. Names are made of syllables and are those of nothing
in the tables; what is no name is invented too (numbers, years) or drawn from the tables (continents,
languages, countries through which a river flows).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import astuple
from random import Random

from examples.miniwiki.articles import list_articles, redirects_to, shared_names
from examples.miniwiki.tables import (
    BODIES,
    COUNTRIES,
    ELEMENTS,
    PEOPLE,
    RIVERS,
    Body,
    Country,
    Element,
    Entity,
    Mountain,
    Person,
    River,
    Water,
    entities,
)

_ONSETS = "b bl br c ch d dr f fl g gl gr h j k kr l m n p pl r s sh st t th tr v vr w y z".split()
_VOWELS = "a a a e e e i i o o u ai ea ia ou".split()
_CODAS = ["", "", "", "", *"l m n n r r s t x nd rk sk".split()]
_CONTINENTS = tuple(sorted({country.continent for country in COUNTRIES}))
_CURRENCIES = tuple(sorted({country.currency for country in COUNTRIES}))
_KNOWN_FOR = ("the theory of {}s", "the {} theorem", "the laws of {}", "the {} engine")
_LANGUAGES = tuple(sorted({language for country in COUNTRIES for language in country.languages}))
_CODES = {country.iso2 for country in COUNTRIES}
_FIELDS = tuple(sorted({field for person in PEOPLE for field in person.fields}))
_NATIONALITIES = tuple(sorted({person.nationality for person in PEOPLE}))
_PLANETS = tuple(body.name for body in BODIES if body.kind == "planet" and body.name != "Earth")
_BODY_NOTES = (
    "Its surface is covered with craters.",
    "It has almost no atmosphere.",
    "Ice covers most of it.",
    "It always shows the same face to the body it orbits.",
    "A spacecraft has flown past it.",
)
_SOURCES = tuple(sorted({river.source for river in RIVERS if river.source}))


def invented_entities(count: int, seed: int = 0) -> Iterator[Entity]:
    """`count` entities of every kind, in the tables' proportions.

    The same seed gives the same entities, and the first of a larger count are those of a smaller one.
    """
    kinds = [type(entity) for entity in entities()]
    names = _Names()
    for place in range(count):
        names.rng = Random(f"{seed}/invented/{place}")
        yield _MAKERS[kinds[place % len(kinds)]](names)


class _Names:
    """Names that nothing in the tables has; `rng` is the entity's own."""

    rng: Random

    def __init__(self) -> None:
        self._real = _real_names()
        self._given: set[str] = set()

    def word(self, low: int = 2, high: int = 3) -> str:
        """A capitalized word of `low` to `high` syllables; it may come again."""
        rng = self.rng
        while True:
            parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.randint(low, high))]
            word = "".join(parts) + rng.choice(_CODAS)
            if word not in self._real:
                return word.capitalize()

    def new(self, form: str = "{}", low: int = 2, high: int = 3) -> str:
        """A name of this form that has not been given yet."""
        while True:
            name = form.format(self.word(low, high))
            if name.lower() not in self._real and name not in self._given:
                self._given.add(name)
                return name

    def person(self) -> str:
        """A first and a last name."""
        return self.new(f"{self.word(1, 2)} {{}}", 2, 3)


def _real_names() -> set[str]:
    """Every title, and every text that a row of the tables holds, in lower case."""
    found = {draft.title for draft in list_articles()}
    found |= {name for pair in shared_names().items() for name in (pair[0], *pair[1])}
    for entity in entities():
        found |= {entity.title, *redirects_to(entity)}
        for value in astuple(entity):
            values = value if isinstance(value, tuple) else (value,)
            found |= {text for text in values if isinstance(text, str)}
    return {name.lower() for name in found}


def _rounded(value: float, digits: int) -> int:
    """A number as tables print it, with that many significant digits."""
    return int(round(value, digits - 1 - math.floor(math.log10(value))))


def _spread(rng: Random, low: float, high: float) -> float:
    """A number between the two, all orders of magnitude being alike."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _some(rng: Random, values: tuple[str, ...], most: int) -> tuple[str, ...]:
    return tuple(rng.sample(values, rng.randint(1, most)))


def _lands(rng: Random, continent: str, most: int) -> tuple[str, ...]:
    """Countries of the continent: real ones, for the writers look them up."""
    return _some(rng, tuple(c.name for c in COUNTRIES if c.continent == continent), most)


def _country(names: _Names) -> Country:
    rng = names.rng
    name = names.new(rng.choice(("{}", "{}ia", "{}land", "{}stan", "{} Islands")))
    continent = rng.choice(_CONTINENTS)
    near = tuple(c.iso2 for c in COUNTRIES if c.continent == continent)
    millions = _spread(rng, 0.02, 400)
    languages = (
        names.new() if rng.random() < 0.5 else rng.choice(_LANGUAGES) for _ in range(rng.choice((1, 1, 2)))
    )
    code = "GB"
    while code in _CODES:
        code = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=2))
    return Country(
        name=name,
        article="the " if name.endswith("Islands") else "",
        iso2=code,
        calling_code=rng.randint(20, 999),
        capital=names.new(),
        capital_lat=round(rng.uniform(-60, 70), 1),
        capital_lon=round(rng.uniform(-180, 180), 1),
        continent=continent,
        currency=names.word(1, 2).lower() if rng.random() < 0.8 else rng.choice(_CURRENCIES),
        languages=tuple(dict.fromkeys(languages)),
        population_millions=_rounded(millions, 2) if millions >= 10 else round(millions, 1 + (millions < 1)),
        area_km2=_rounded(_spread(rng, 300, 3e6), rng.randint(3, 6)),
        native_name=name,
        neighbours=tuple(rng.sample(near, rng.randint(0, 4))),
    )


def _element(names: _Names) -> Element:
    rng = names.rng
    # The place in the periodic table is a real element's; hydrogen and helium have sentences of their own.
    base = rng.choice(ELEMENTS[2:])
    name = names.new(rng.choice(("{}ium", "{}ium", "{}on", "{}ine")), 1, 2)
    ancient = rng.random() < 0.05
    melting = {"gas": (-250, -20), "liquid": (-60, 20), "solid": (40, 3400), None: (40, 3400)}[base.phase]
    mass = base.number * rng.uniform(2.0, 2.6)
    return Element(
        number=base.number,
        symbol=name[0] + rng.choice(sorted(set(name[1:].lower()))),
        name=name,
        title=name,
        mass=round(mass, rng.randint(2, 3)) if isinstance(base.mass, float) else int(mass),
        category=base.category,
        discovered=None if ancient else rng.randint(1650, 2010),
        discoverers=() if ancient else tuple(names.person() for _ in range(rng.choice((1, 1, 2)))),
        ancient=ancient,
        named_after=rng.choice(("the city of {}", "the river {}", "{}, a planet", "{}, an island")).format(
            names.word()
        ),
        melting_c=None if base.melting_c is None else round(rng.uniform(*melting), rng.randint(0, 1) or None),
        uses=rng.choice(ELEMENTS).uses,
    )


def _body(names: _Names) -> Body:
    rng = names.rng
    name = names.new()
    kind = rng.choices(("moon", "planet", "dwarf planet"), weights=(4, 1, 1))[0]
    found = rng.random() < 0.9
    return Body(
        name=name,
        title=name,
        kind=kind,
        parent=rng.choice(_PLANETS) if kind == "moon" else "Sun",
        diameter_km=_rounded(_spread(rng, 200, 90_000), 4),
        orbit_days=_rounded(_spread(rng, 100, 90_000), 5) if kind != "moon" else round(rng.uniform(1, 90), 1),
        distance_mkm=_rounded(_spread(rng, 50, 9000), 4) if kind != "moon" else round(rng.uniform(0.1, 9), 2),
        discoverers=tuple(names.person() for _ in range(rng.choice((1, 1, 1, 2)))) if found else (),
        discovered=rng.randint(1610, 2010) if found else None,
        named_after=rng.choice(("the god {}", "the goddess {}", "the city of {}")).format(names.word()),
        notes=_some(rng, _BODY_NOTES, 3),
    )


def _river(names: _Names) -> River:
    rng = names.rng
    name = names.new()
    continent = rng.choice(_CONTINENTS)
    return River(
        name=name,
        title=rng.choice(("{}", "{} River", "River {}")).format(name),
        continent=continent,
        length_km=_rounded(_spread(rng, 100, 6500), rng.randint(2, 4)),
        source=rng.choice((f"Lake {names.word()}", f"{names.word()} Mountains", rng.choice(_SOURCES))),
        mouth=rng.choice(("{} Sea", "Gulf of {}", "Bay of {}", "{}")).format(names.word()),
        countries=_lands(rng, continent, 3),
        cities=tuple(names.word() for _ in range(rng.randint(1, 3))),
        notes=_some(rng, ("Its water is clear.", "Several dams stand on it.", "Ships sail on it."), 1),
    )


def _mountain(names: _Names) -> Mountain:
    rng = names.rng
    continent = rng.choice(_CONTINENTS)
    climbed = rng.random() < 0.8
    return Mountain(
        name=names.new(rng.choice(("Mount {}", "{}", "{} Peak", "Monte {}"))),
        continent=continent,
        height_m=round(rng.uniform(900, 8900)),
        mountain_range=f"{names.word()} Mountains",
        countries=_lands(rng, continent, 2),
        first_ascent=rng.randint(1780, 1990) if climbed else None,
        climbers=tuple(names.person() for _ in range(rng.randint(1, 3))) if climbed else (),
        notes=_some(rng, ("Snow lies on it all year.", "It is an old volcano.", "Few climb it."), 1),
    )


def _water(names: _Names) -> Water:
    rng = names.rng
    lake = rng.random() < 0.8
    continent = rng.choice(_CONTINENTS)
    return Water(
        name=names.new(rng.choice(("Lake {}", "{} Lake")) if lake else "{} Sea"),
        kind="lake" if lake else "sea",
        area_km2=_rounded(_spread(rng, 50, 80_000 if lake else 3e6), 3),
        max_depth_m=_rounded(_spread(rng, 10, 1600 if lake else 6000), 3),
        countries=_lands(rng, continent, 2) if lake else (),
        continent=continent if lake else None,
        notes=_some(rng, ("Its water is salty.", "It is rich in fish.", "It freezes in winter."), 2),
    )


def _person(names: _Names) -> Person:
    rng = names.rng
    name = names.person()
    born = rng.randint(1450, 1930)
    subject = names.word().lower()
    return Person(
        name=name,
        born=born,
        died=born + rng.randint(30, 90),
        birthplace=names.word(),
        nationality=rng.choice(_NATIONALITIES),
        fields=_some(rng, _FIELDS, 2),
        known_for=rng.choice(
            ("the theory of {}s", "the {} theorem", "the laws of {}", "the {} engine")
        ).format(subject),
        native_name=None,
        works=((f"On the Nature of {subject.capitalize()}", born + 29),) if rng.random() < 0.3 else (),
    )


_MAKERS: dict[type[Entity], Callable[[_Names], Entity]] = {
    Element: _element,
    Country: _country,
    Body: _body,
    River: _river,
    Mountain: _mountain,
    Water: _water,
    Person: _person,
}
