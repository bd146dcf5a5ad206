"""The relations behind the questions: their names, the claims they make, and when a claim is false."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from examples.miniwiki.questions import asked_of
from examples.miniwiki.tables import Body, Entity

Values = Literal["name", "code", "quantity", "year"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Relation:
    """What an attribute of `questions.asked_of` is called when it is no question.

    `claim` is a sentence with `{subject}` and `{value}`, or None where a list in the tables may be
    incomplete, so that no other value is surely false. `values` tells when two of them exclude each other:
    codes if they differ, names if nobody shares them and they are of different continents (a gulf is
    part of a sea, but not of another continent's), quantities beyond a tenth, and years beyond ten,
    because sources differ.
    """

    label: str
    claim: str | None = None
    values: Values = "name"


RELATIONS: dict[str, Relation] = {
    "symbol": Relation(
        label="chemical symbol", claim="The chemical symbol of {subject} is {value}.", values="code"
    ),
    "number": Relation(
        label="atomic number", claim="The atomic number of {subject} is {value}.", values="code"
    ),
    "mass": Relation(
        label="atomic weight", claim="The atomic weight of {subject} is {value}.", values="quantity"
    ),
    "discoverers": Relation(label="discoverer"),
    "discovered": Relation(
        label="year of discovery", claim="{Subject} was discovered in {value}.", values="year"
    ),
    "melting point": Relation(
        label="melting point", claim="{Subject} melts at {value} degrees Celsius.", values="quantity"
    ),
    "named after": Relation(label="named after"),
    "capital": Relation(label="capital", claim="The capital of {subject} is {value}."),
    "country of capital": Relation(label="capital of"),
    "currency": Relation(label="currency", claim="The currency of {subject} is the {value}."),
    "languages": Relation(label="official language"),
    "calling code": Relation(
        label="calling code", claim="The calling code of {subject} is {value}.", values="code"
    ),
    "continent": Relation(label="continent"),
    "population": Relation(
        label="population", claim="About {value} people live in {subject}.", values="quantity"
    ),
    "area": Relation(
        label="area", claim="The area of {subject} is {value} square kilometres.", values="quantity"
    ),
    "diameter": Relation(
        label="diameter", claim="The diameter of {subject} is {value} kilometres.", values="quantity"
    ),
    "parent": Relation(label="parent body", claim="{Subject} orbits {value}.", values="code"),
    "period": Relation(
        label="orbital period", claim="{Subject} takes {value} days for one orbit.", values="quantity"
    ),
    "mouth": Relation(label="mouth", claim="{Subject} flows into the {value}."),
    "source": Relation(label="source", claim="{Subject} rises in or near the {value}."),
    "length": Relation(label="length", claim="{Subject} is {value} kilometres long.", values="quantity"),
    "countries": Relation(label="country"),
    "cities": Relation(label="city on its banks"),
    "height": Relation(label="height", claim="{Subject} is {value} metres high.", values="quantity"),
    "range": Relation(label="mountain range", claim="{Subject} stands in the {value}."),
    "first ascent": Relation(
        label="year of the first ascent", claim="{Subject} was first climbed in {value}.", values="year"
    ),
    "climbers": Relation(label="first climber"),
    "depth": Relation(label="depth", claim="{Subject} is {value} metres deep.", values="quantity"),
    "born": Relation(label="year of birth", claim="{Subject} was born in {value}.", values="year"),
    "died": Relation(label="year of death", claim="{Subject} died in {value}.", values="year"),
    "birthplace": Relation(label="place of birth", claim="{Subject} was born in {value}."),
    "fields": Relation(label="field of work"),
}
"""By attribute. What is missing ("uses", "known for") has free text for an answer."""


def claim(relation: Relation, subject: str, value: str) -> str:
    """The sentence that says so.

    Raises:
      ValueError: if nothing is claimed of the relation.
    """
    if relation.claim is None:
        raise ValueError(f"nothing is claimed of the relation {relation.label!r}")
    return relation.claim.format(subject=subject, Subject=subject[0].upper() + subject[1:], value=value)


class Others:
    """The other entities' values of each attribute, for claims that are false.

    Args:
      entities: those whose values are drawn; real and invented ones are not mixed.
    """

    # Of that many entities one nearly always will do; else the claim is left out.
    TRIES = 40

    def __init__(self, entities: Sequence[Entity]) -> None:
        self._holders: dict[tuple[str, str], list[tuple[Entity, tuple[str, ...]]]] = {}
        self._count: Counter[tuple[str, str, str]] = Counter()
        for entity in entities:
            for attribute, (values, _) in asked_of(entity).items():
                key = (_kind(entity), attribute)
                self._holders.setdefault(key, []).append((entity, values))
                self._count[(*key, values[0])] += 1

    def false_value(self, entity: Entity, attribute: str, rng: Random) -> str | None:
        """Another entity's value, which is not one of this entity's; None where none is surely false.

        A name that several entities share is neither given nor replaced: the Atlantic Ocean is where
        many rivers end, and readers would learn that claims with it are true.
        """
        key = (_kind(entity), attribute)
        own = dict(asked_of(entity))[attribute][0]
        values = RELATIONS[attribute].values
        if values == "name" and self._count[(*key, own[0])] > 1:
            return None
        holders = self._holders[key]
        for _ in range(self.TRIES):
            other, found = rng.choice(holders)
            if other.title == entity.title or not exclude(values, own[0], found[0]):
                continue
            shared = values == "name" and self._count[(*key, found[0])] > 1
            continents = {getattr(entity, "continent", 0), getattr(other, "continent", 1)}
            if not shared and (values != "name" or len(continents) > 1):
                return found[0]
        return None


def exclude(values: Values, a: str, b: str) -> bool:
    """Whether an entity that has the value `a` cannot have `b` too."""
    if values == "code":
        return a.lower() != b.lower()
    if values == "name":
        # A "franc" may be a "Swiss franc".
        words, others = set(a.lower().split()), set(b.lower().split())
        return not (words <= others or others <= words)
    x, y = _amount(a), _amount(b)
    if values == "year":
        return abs(x - y) > 10
    return abs(x - y) > 0.1 * max(abs(x), abs(y))


def _amount(text: str) -> float:
    return float(text.removesuffix(" million").replace(",", ""))


def _kind(entity: Entity) -> str:
    # Planets orbit the Sun, and so do their moons, in a way.
    return entity.kind if isinstance(entity, Body) else type(entity).__name__
