"""The tables of facts that every article, question and answer of the miniwiki is made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal

from examples.miniwiki.tables.bodies import BODIES as BODIES
from examples.miniwiki.tables.bodies import Body as Body
from examples.miniwiki.tables.countries import COUNTRIES as COUNTRIES
from examples.miniwiki.tables.countries import Country as Country
from examples.miniwiki.tables.elements import ELEMENTS as ELEMENTS
from examples.miniwiki.tables.elements import Element as Element
from examples.miniwiki.tables.mountains import MOUNTAINS as MOUNTAINS
from examples.miniwiki.tables.mountains import Mountain as Mountain
from examples.miniwiki.tables.people import PEOPLE as PEOPLE
from examples.miniwiki.tables.people import Person as Person
from examples.miniwiki.tables.rivers import RIVERS as RIVERS
from examples.miniwiki.tables.rivers import River as River
from examples.miniwiki.tables.waters import WATERS as WATERS
from examples.miniwiki.tables.waters import Water as Water

Entity = Element | Country | Body | River | Mountain | Water | Person
Split = Literal["train", "dev", "test"]

TABLES: dict[str, tuple[Entity, ...]] = {
    "elements": ELEMENTS,
    "countries": COUNTRIES,
    "bodies": BODIES,
    "rivers": RIVERS,
    "mountains": MOUNTAINS,
    "waters": WATERS,
    "people": PEOPLE,
}


def entities() -> Iterator[Entity]:
    """All rows, the tables interleaved in proportion, so that a prefix has something of each."""
    ranked = [
        ((place + 0.5) / len(rows), table, row)
        for table, rows in enumerate(TABLES.values())
        for place, row in enumerate(rows)
    ]
    ranked.sort(key=lambda item: item[:2])
    for _, _, row in ranked:
        yield row


def split_of(title: str) -> Split:
    """Which split the entity with this title belongs to: about 80% train, 10% dev, 10% test.

    It hangs on the title alone, so rows can be added without moving an entity between splits.
    """
    bucket = hashlib.sha256(title.encode()).digest()[0] % 10
    return "dev" if bucket == 8 else "test" if bucket == 9 else "train"
