"""The articles that come from the tables: one an entity, and a few lists of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from random import Random

from examples.miniwiki import lives, markup, nature, places
from examples.miniwiki.markup import Draft, Section, link
from examples.miniwiki.tables import (
    BODIES,
    COUNTRIES,
    ELEMENTS,
    MOUNTAINS,
    RIVERS,
    Body,
    Country,
    Element,
    Entity,
    Mountain,
    Person,
    River,
    entities,
)


def article_of(entity: Entity, seed: int = 0) -> Draft:
    """The article of one row; the phrasing hangs on the seed and the title, the facts do not."""
    rng = Random(f"{seed}/{entity.title}")
    if isinstance(entity, Element):
        return nature.element_article(entity, rng)
    if isinstance(entity, Country):
        return places.country_article(entity, rng)
    if isinstance(entity, Body):
        return nature.body_article(entity, rng)
    if isinstance(entity, River):
        return places.river_article(entity, rng)
    if isinstance(entity, Mountain):
        return places.mountain_article(entity, rng)
    if isinstance(entity, Person):
        return lives.person_article(entity, rng)
    return places.water_article(entity, rng)


def table_articles(seed: int = 0) -> Iterator[Draft]:
    """Every article of the tables, entities first, then the lists."""
    for entity in entities():
        yield article_of(entity, seed)
    yield from list_articles()


def list_articles() -> Iterator[Draft]:
    """Lists: pages that are mostly a table. Their titles hold a colon, and no namespace."""
    yield _listing(
        "Elements: a list by atomic number",
        f"The {len(ELEMENTS)} known [[chemical element]]s, from {link('Hydrogen')} to "
        f"{link('Oganesson')}, are listed here in the order of their atomic numbers.",
        ("Number", "Symbol", "Element", "Mass"),
        [(e.number, e.symbol, link(e.title, e.name), e.mass) for e in ELEMENTS],
    )
    sized = sorted((c for c in COUNTRIES if c.area_km2), key=lambda c: -(c.area_km2 or 0))
    yield _listing(
        "Countries: a list by area",
        f"This list orders {len(sized)} countries by area, from {link(sized[0].name)} down to "
        f"{link(sized[-1].name)}. Countries whose area is disputed are left out.",
        ("Country", "Capital", "Area (km²)"),
        [(link(c.name), c.capital or "–", f"{c.area_km2:,}") for c in sized],
    )
    long = sorted((r for r in RIVERS if r.length_km), key=lambda r: -(r.length_km or 0))
    yield _listing(
        "Rivers: a list by length",
        f"This list holds {len(long)} rivers, the longest of which is the "
        f"{link(long[0].title, long[0].name)}. Lengths differ from source to source.",
        ("River", "Length (km)", "Mouth"),
        [(link(r.title, r.name), f"{r.length_km:,}", r.mouth) for r in long],
    )
    high = sorted((m for m in MOUNTAINS if m.height_m), key=lambda m: -(m.height_m or 0))
    yield _listing(
        "Mountains: a list by height",
        f"The highest of the {len(high)} mountains listed here is {link(high[0].name)}.",
        ("Mountain", "Height (m)", "Range"),
        [(link(m.name), f"{m.height_m:,}", m.mountain_range or "–") for m in high],
    )
    planets = [body for body in BODIES if body.kind == "planet"]
    yield _listing(
        "Solar System",
        "The '''Solar System''' is the [[Sun]] and all that orbits it. Its eight planets are, from "
        "the innermost outwards, "
        + markup.joined([link(p.title, p.name) for p in planets])
        + ". The first four consist of rock and metal; the others are giants.",
        ("Body", "Kind", "Orbits", "Diameter (km)"),
        [(link(b.title, b.name), b.kind, b.parent, b.diameter_km or "–") for b in BODIES],
    )
    yield _listing(
        "Periodic table",
        "The '''periodic table''' orders the [[chemical element]]s by atomic number in seven rows, "
        "called periods, and eighteen columns, called groups. [[Dmitri Mendeleev]] published a "
        "table of this kind in 1869.<ref>{{cite book |title=A Small Handbook |year=2019}}</ref>",
        ("Period", "Elements"),
        [
            (period, " ".join(link(e.title, e.symbol) for e in ELEMENTS if e.period == period))
            for period in range(1, 8)
        ],
    )


def _listing(title: str, text: str, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> Draft:
    table = markup.wikitable(title, header, rows)
    return Draft(
        title=title,
        sections=[
            Section(prose=[text]),
            Section(heading="Table", after=["{{static row numbers}}\n" + table]),
        ],
        categories=["Lists"],
    )


def shared_names() -> dict[str, list[str]]:
    """Names that several entities have, with their articles' titles: the disambiguation pages."""
    titles: dict[str, list[str]] = defaultdict(list)
    for entity in entities():
        if isinstance(entity, Element | Body | River | Country):
            titles[entity.name].append(entity.title)
    titles["Congo"] += ["Democratic Republic of the Congo", "Republic of the Congo"]
    titles["Titan"].append("Titanium")
    titles["Victoria"] += ["Lake Victoria", "Victoria (Seychelles)"]
    titles["Curie"] += ["Marie Curie", "Pierre Curie", "Curium"]
    titles["Herschel"] += ["William Herschel", "Mimas (moon)"]
    return {name: found for name, found in sorted(titles.items()) if len(found) > 1}


_ALTERNATIVE_NAMES = {
    "Aluminium": ("Aluminum",),
    "Caesium": ("Cesium",),
    "Sulfur": ("Sulphur",),
    "Tungsten": ("Wolfram",),
    "United States": ("USA", "United States of America", "U.S."),
    "United Kingdom": ("UK", "Great Britain and Northern Ireland"),
    "Ivory Coast": ("Côte d'Ivoire",),
    "East Timor": ("Timor-Leste",),
    "Czech Republic": ("Czechia",),
    "Cape Verde": ("Cabo Verde",),
    "Myanmar": ("Burma",),
    "Eswatini": ("Swaziland",),
    "Netherlands": ("Holland",),
    "Turkey": ("Türkiye",),
    "Mount Everest": ("Everest", "Chomolungma", "Sagarmatha"),
    "Denali": ("Mount McKinley",),
    "Mercury (element)": ("Quicksilver", "Hydrargyrum"),
    "Marie Curie": ("Madame Curie",),
    "Yangtze": ("Chang Jiang",),
    "Yellow River": ("Huang He",),
    "Lake Malawi": ("Lake Nyasa",),
}


def redirects_to(entity: Entity) -> list[str]:
    """Titles of the redirect pages that lead to the entity's article."""
    found = list(_ALTERNATIVE_NAMES.get(entity.title, ()))
    if isinstance(entity, Element):
        found += [f"{entity.symbol} (element)", f"Element {entity.number}"]
    elif isinstance(entity, Country):
        if ord(entity.native_name[0]) > 0x24F and entity.native_name != entity.name:
            found.append(entity.native_name)
        found.append(f".{'uk' if entity.iso2 == 'GB' else entity.iso2.lower()}")
    elif isinstance(entity, River) and entity.title == entity.name:
        found.append(f"{entity.name} (river)")
    elif isinstance(entity, Person) and entity.native_name:
        found.append(entity.native_name)
    return found
