"""Questions with answers about the rows of the tables; the retriever is trained on some of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from examples.miniwiki.tables import (
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

# attribute -> (answers, phrasings)
_Asked = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question; `title` is that of the article that answers it."""

    text: str
    answers: tuple[str, ...]
    title: str
    attribute: str
    held_out: bool


def questions() -> Iterator[Question]:
    """Every question in every phrasing, in the tables' order.

    About one in six is held out of the retriever's training, by a hash of its text: the article
    is trained on by its other questions, this question in this wording is not.
    """
    for entity in entities():
        for attribute, (answers, phrasings) in asked_of(entity).items():
            for text in phrasings:
                digest = hashlib.sha256(text.encode()).digest()
                yield Question(
                    text=text,
                    answers=answers,
                    title=entity.title,
                    attribute=attribute,
                    held_out=digest[0] % 6 == 0,
                )


def asked_of(entity: Entity) -> _Asked:
    """Attributes of the entity that have an answer, each with its phrasings."""
    if isinstance(entity, Element):
        asked = _element(entity)
    elif isinstance(entity, Country):
        asked = _country(entity)
    elif isinstance(entity, Body):
        asked = _body(entity)
    elif isinstance(entity, River):
        asked = _river(entity)
    elif isinstance(entity, Mountain):
        asked = _mountain(entity)
    elif isinstance(entity, Person):
        asked = _person(entity)
    else:
        name = entity.name
        asked = {
            "area": (_number(entity.area_km2), (f"How large is {name}?", f"area of {name}")),
            "depth": (_number(entity.max_depth_m), (f"How deep is {name}?", f"{name} depth")),
            "countries": (
                entity.countries,
                (f"Which countries share {name}?", f"Where is {name}?", f"countries on {name}"),
            ),
        }
    return {attribute: pair for attribute, pair in asked.items() if pair[0]}


def subject_of(entity: Entity) -> str:
    """The entity as it stands inside a sentence, such as "the Danube" or "the element mercury"."""
    if isinstance(entity, Element):
        low = entity.name.lower()
        return low if entity.title == entity.name else f"the element {low}"
    if isinstance(entity, Country):
        return entity.the_name
    if isinstance(entity, Body):
        if entity.name == "Moon":
            return "the Moon"
        return entity.name if entity.title == entity.name else f"the {entity.kind} {entity.name}"
    if isinstance(entity, River):
        return entity.title if entity.title.startswith("River ") else f"the {entity.title}"
    if isinstance(entity, Water) and (entity.kind != "lake" or entity.name.endswith("Sea")):
        return f"the {entity.name}"
    return entity.name


def _number(value: float | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(dict.fromkeys((f"{value:,}", str(value))))


def _one(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _element(e: Element) -> _Asked:
    low = subject_of(e)
    return {
        "symbol": (
            (e.symbol,),
            (f"What is the chemical symbol of {low}?", f"symbol for {low}", f"{low} symbol"),
        ),
        "number": (
            (str(e.number),),
            (f"What is the atomic number of {low}?", f"atomic number of {low}"),
        ),
        "mass": (
            (str(e.mass),) if isinstance(e.mass, float) else (),
            (f"What is the atomic weight of {low}?", f"{low} standard atomic weight"),
        ),
        "discoverers": (
            e.discoverers,
            (f"Who discovered {low}?", f"By whom was {low} found?", f"discoverer of {low}"),
        ),
        "discovered": (
            _number(e.discovered)[-1:],
            (f"When was {low} discovered?", f"{low} year of discovery"),
        ),
        "melting point": (
            _number(e.melting_c)[-1:],
            (f"At what temperature does {low} melt?", f"melting point of {low}"),
        ),
        "named after": ((e.named_after,), (f"What is {low} named after?", f"origin of name {low}")),
        "uses": ((e.uses,), (f"What is {low} used for?", f"uses of {low}")),
    }


def _country(c: Country) -> _Asked:
    the = subject_of(c)
    return {
        "capital": (
            _one(c.capital),
            (
                f"What is the capital of {the}?",
                f"capital of {the}",
                f"Which city is the capital of {the}?",
                f"{c.name} capital",
            ),
        ),
        "country of capital": (
            (c.name,) if c.capital and c.capital != c.name else (),
            (f"{c.capital} is the capital of which country?", f"In which country is {c.capital}?"),
        ),
        "currency": (
            (c.currency,),
            (f"What currency is used in {the}?", f"What do people in {the} pay with?"),
        ),
        "languages": (
            c.languages,
            (f"Which languages are official in {the}?", f"What do people speak in {the}?"),
        ),
        "calling code": (
            (f"+{c.calling_code}",) if c.calling_code else (),
            (f"What is the telephone code of {the}?", f"calling code {c.name}"),
        ),
        "continent": ((c.continent,), (f"On which continent is {the}?", f"Where is {the}?")),
        "population": (
            (f"{c.population_millions:g} million",) if c.population_millions >= 1 else (),
            (f"How many people live in {the}?", f"population of {the}"),
        ),
        "area": (_number(c.area_km2), (f"How large is {the}?", f"area of {the}")),
    }


def _body(b: Body) -> _Asked:
    name = subject_of(b)
    return {
        "diameter": (_number(b.diameter_km), (f"How big is {name}?", f"diameter of {name}")),
        "discoverers": (b.discoverers, (f"Who discovered {name}?", f"discoverer of {name}")),
        "discovered": (
            _number(b.discovered)[-1:],
            (f"When was {name} discovered?", f"{name} discovery year"),
        ),
        "parent": ((b.parent,), (f"What does {name} orbit?", f"orbit of {name}")),
        "period": (
            _number(b.orbit_days),
            (f"How long does {name} take for one orbit?", f"{name} orbital period"),
        ),
        "named after": ((b.named_after,), (f"What is {name} named after?", f"name of {name}")),
    }


def _river(r: River) -> _Asked:
    the = subject_of(r)
    return {
        "mouth": (
            (r.mouth,),
            (
                f"Where does {the} end?",
                f"Into which water does {the} flow?",
                f"mouth of {the}",
            ),
        ),
        "source": (_one(r.source), (f"Where does {the} rise?", f"source of {the}")),
        "length": (_number(r.length_km), (f"How long is {the}?", f"length of {the}")),
        "countries": (
            r.countries,
            (f"Through which countries does {the} flow?", f"countries of {the}"),
        ),
        "cities": (r.cities, (f"Which cities lie on {the}?", f"cities on {the}")),
    }


def _mountain(m: Mountain) -> _Asked:
    return {
        "height": (
            _number(m.height_m),
            (f"How high is {m.name}?", f"height of {m.name}", f"What is the height of {m.name}?"),
        ),
        "range": (
            _one(m.mountain_range),
            (f"In which mountain range is {m.name}?", f"{m.name} range"),
        ),
        "countries": (m.countries, (f"In which country is {m.name}?", f"Where is {m.name}?")),
        "first ascent": (
            _number(m.first_ascent)[-1:],
            (f"When was {m.name} first climbed?", f"first ascent of {m.name}"),
        ),
        "climbers": (m.climbers, (f"Who first climbed {m.name}?", f"first climbers of {m.name}")),
    }


def _person(p: Person) -> _Asked:
    return {
        "born": (
            _number(p.born)[-1:],
            (f"When was {p.name} born?", f"In what year was {p.name} born?"),
        ),
        "died": (
            _number(p.died)[-1:],
            (f"When did {p.name} die?", f"year of death of {p.name}"),
        ),
        "birthplace": (
            _one(p.birthplace),
            (f"Where was {p.name} born?", f"birthplace of {p.name}"),
        ),
        "fields": (p.fields, (f"What did {p.name} work on?", f"fields of {p.name}")),
        "known for": (
            (p.known_for,),
            (f"What is {p.name} known for?", f"Who is known for {p.known_for}?"),
        ),
    }
