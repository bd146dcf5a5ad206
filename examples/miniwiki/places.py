"""Articles about countries, rivers, mountains and waters."""

from __future__ import annotations

import math
from random import Random

from examples.miniwiki import markup
from examples.miniwiki.markup import Draft, References, Section, joined, link, said
from examples.miniwiki.tables import (
    COUNTRIES,
    MOUNTAINS,
    RIVERS,
    WATERS,
    Country,
    Mountain,
    River,
    Water,
)

BY_ISO2 = {country.iso2: country for country in COUNTRIES}
BY_NAME = {country.name: country for country in COUNTRIES}
_EARTH_RADIUS_KM = 6371.0
_DIRECTIONS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")
# The language of a native name in another script, for {{lang|..}}; the rest are set in italics.
_NATIVE_LANGUAGE = {
    "AF": "fa", "DZ": "ar", "AM": "hy", "BH": "ar", "BD": "bn", "BY": "be", "BT": "dz", "BN": "ms",
    "BG": "bg", "KH": "km", "TD": "ar", "CN": "zh", "KM": "ar", "CY": "el", "DJ": "ar", "EG": "ar",
    "ER": "ti", "ET": "am", "GE": "ka", "GR": "el", "IN": "hi", "IR": "fa", "IQ": "ar", "IL": "he",
    "JP": "ja", "JO": "ar", "KZ": "kk", "KW": "ar", "KG": "ky", "LA": "lo", "LB": "ar", "LY": "ar",
    "MV": "dv", "MR": "ar", "MN": "mn", "MA": "ar", "MM": "my", "NP": "ne", "KP": "ko", "MK": "mk",
    "OM": "ar", "QA": "ar", "RU": "ru", "SA": "ar", "RS": "sr", "SG": "zh", "KR": "ko", "LK": "si",
    "SD": "ar", "SY": "ar", "TJ": "tg", "TH": "th", "TN": "ar", "UA": "uk", "AE": "ar", "YE": "ar",
}  # fmt: skip


def the(name: str) -> str:
    """A link to a country as it stands in a sentence, such as `the [[Netherlands]]`."""
    return BY_NAME[name].article + link(name)


def distance_km(a: Country, b: Country) -> float:
    """Great-circle distance between two capitals (haversine on a sphere)."""
    lat_a, lon_a, lat_b, lon_b = map(math.radians, (*_capital_at(a), *_capital_at(b)))
    half = (
        math.sin((lat_b - lat_a) / 2) ** 2
        + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    )
    return 2 * _EARTH_RADIUS_KM * math.asin(math.sqrt(half))


def direction(a: Country, b: Country) -> str:
    """Which way the shortest path from a's capital to b's sets out, by the eight winds."""
    lat_a, lon_a, lat_b, lon_b = map(math.radians, (*_capital_at(a), *_capital_at(b)))
    east = math.sin(lon_b - lon_a) * math.cos(lat_b)
    north = math.cos(lat_a) * math.sin(lat_b) - math.sin(lat_a) * math.cos(lat_b) * math.cos(lon_b - lon_a)
    return _DIRECTIONS[round(math.degrees(math.atan2(east, north)) / 45) % 8]


def _capital_at(country: Country) -> tuple[float, float]:
    if country.capital_lat is None or country.capital_lon is None:
        raise ValueError(f"{country.name} has no position of a capital in the table")
    return country.capital_lat, country.capital_lon


def people_in(country: Country) -> str:
    """The population in words, such as "about 68 million" or "about 40,000"."""
    millions = country.population_millions
    return f"about {millions:g} million" if millions >= 1 else f"about {millions * 1e6:,.0f}"


def position(lat: float, lon: float) -> str:
    """Such as `48.9° N, 2.4° E`."""
    return f"{abs(lat)}° {'N' if lat >= 0 else 'S'}, {abs(lon)}° {'E' if lon >= 0 else 'W'}"


def native(country: Country) -> str:
    """The native name in markup."""
    code = _NATIVE_LANGUAGE.get(country.iso2)
    return f"{{{{lang|{code}|{country.native_name}}}}}" if code else f"''{country.native_name}''"


def country_article(country: Country, rng: Random) -> Draft:
    """The article of one country."""
    ref = References(rng, country.name)
    name = country.the_name
    start = name[0].upper() + name[1:]
    own = "" if country.native_name == country.name else f" ({native(country)})"
    bold = f"{country.article.capitalize()}'''{country.name}'''"
    lead = Section(
        before=[
            markup.infobox(
                "country",
                {
                    "conventional_long_name": country.name,
                    "native_name": country.native_name,
                    "capital": country.capital and link(country.capital),
                    "area_km2": country.area_km2,
                    "population_estimate": f"{people_in(country)}{ref('population')}",
                    "currency": country.currency,
                    "calling_code": country.calling_code and f"+{country.calling_code}",
                    "cctld": f".{_domain(country)}",
                },
            )
        ],
        prose=[
            said(
                rng.choice(
                    (
                        f"{bold}{own} is a country in [[{country.continent}]].{ref('countries')}",
                        f"{bold}{own} is a [[Sovereign state|state]] in [[{country.continent}]].",
                    )
                )
                if country.capital != country.name
                else f"{bold}{own} is a small country in [[{country.continent}]].",
                rng.choice(
                    (
                        f"The capital of {name} is [[{country.capital}]].",
                        f"Its capital is [[{country.capital}]].",
                    )
                )
                if country.capital
                else None,
                f"{people_in(country).capitalize()} people live there.{ref('population')}",
                f"The currency is the {country.currency}.",
            )
        ],
    )
    if ord(country.iso2[1]) % 6 == 0:
        lead.before.append(markup.image(f"Flag of {country.name}.svg", f"Flag of {link(country.name)}"))
    sections = [lead, _geography(country, start, ref)]
    if country.capital and ord(country.iso2[0]) % 3 == 0:
        sections.append(_distances(country))
    sections.append(_society(country, start, rng, ref))
    if country.iso2[0] in "FJ":
        sections[-1].after.append(
            f"<gallery>\nFlag of {country.name}.svg|Flag of [[{country.name}]]\n"
            f"Map of {country.name}.svg|Map\n</gallery>"
        )
    return Draft(
        title=country.title,
        short_description=f"Country in {country.continent}",
        sections=sections,
        see_also=["Countries: a list by area"] if country.iso2[0] in "BG" else [],
        categories=[f"Countries in {country.continent}"],
    )


def _domain(country: Country) -> str:
    # The one country here whose domain is not its ISO code.
    return "uk" if country.iso2 == "GB" else country.iso2.lower()


def _geography(country: Country, start: str, ref: References) -> Section:
    neighbours = [BY_ISO2[code] for code in country.neighbours]
    if len(neighbours) > 1:
        names = joined([f"{n.article}{link(n.name)}" for n in neighbours])
        border = f"Its neighbours by land include {names}."
    elif neighbours:
        border = f"Its only neighbour by land is {neighbours[0].article}{link(neighbours[0].name)}."
    else:
        border = "It has no land border with any other country of this encyclopedia."
    area = None
    if country.area_km2:
        density = country.population_millions * 1e6 / country.area_km2
        area = (
            f"{start} covers about {country.area_km2:,} square kilometres{ref('area')}, so that "
            f"about {density:,.2g} people live on each square kilometre."
            if density < 10
            else f"{start} covers about {country.area_km2:,} square kilometres{ref('area')}, so "
            f"that about {density:,.0f} people live on each square kilometre."
        )
    capital = None
    if country.capital and country.capital_lat is not None and country.capital_lon is not None:
        where = position(country.capital_lat, country.capital_lon)
        capital = f"[[{country.capital}]] lies near {where}."
    waters = [w for w in WATERS if country.name in w.countries]
    rivers = [r for r in RIVERS if country.name in r.countries]
    peaks = [m for m in MOUNTAINS if country.name in m.countries]
    found: tuple[River | Water | Mountain, ...] = (*rivers, *waters, *peaks)
    features = [link(feature.title, feature.name) for feature in found]
    lists = []
    if len(features) > 3:
        lists = ["Rivers, lakes and mountains in or on its borders include:"]
        lists.append(markup.bullets(features))
    elif features:
        lists = [f"In it or on its borders is found {joined(features)}."]
    return Section(heading="Geography", prose=[said(area, border, capital), *lists])


def _distances(country: Country) -> Section:
    others = sorted(
        (distance_km(country, o), o.name)
        for o in COUNTRIES
        if o.capital and o is not country and o.capital_lat is not None
    )
    # A third of these sections are meant to be longer than one passage.
    count = 20 if ord(country.iso2[1]) % 3 == 0 else 9
    near = [(km, BY_NAME[name]) for km, name in others if km >= 50][:count]
    far_km, far_name = others[-1]
    far = BY_NAME[far_name]
    sentences = [
        f"[[{o.capital}]], the capital of {o.the_name}, is roughly {_round(km):,} km away to the "
        f"{direction(country, o)}."
        for km, o in near
    ]
    return Section(
        heading=f"Distances from {country.capital}",
        level=3,
        prose=[
            said(
                f"Measured along a [[great circle]], the capitals closest to [[{country.capital}]] "
                f"are these {len(near)}.",
                *sentences,
                f"The most distant capital is [[{far.capital}]] in {far.the_name}, roughly "
                f"{_round(far_km):,} km away.",
            )
        ],
    )


def _round(km: float) -> int:
    # Positions are given to a tenth of a degree, so tens of kilometres mean little far away.
    return round(km / 10) * 10 if km < 1000 else round(km / 50) * 50


def _society(country: Country, start: str, rng: Random, ref: References) -> Section:
    languages = None
    if country.languages:
        named = joined([link(f"{name} language", name) for name in country.languages])
        plural = len(country.languages) > 1
        languages = rng.choice(
            (
                f"The official language{'s' if plural else ''} of {country.the_name} "
                f"{'are' if plural else 'is'} {named}.",
                f"Among the languages with official standing {'are' if plural else 'is'} {named}.",
            )
        )
    sharing = [c for c in COUNTRIES if c.currency == country.currency and c is not country]
    shared = ""
    if 0 < len(sharing) <= 12:
        shared = f", as in {joined([c.article + link(c.name) for c in sharing])}"
    elif sharing:
        shared = f", as in {len(sharing)} other countries"
    calls = None
    if country.calling_code:
        calls = f"Telephone numbers begin with the country code +{country.calling_code}."
    return Section(
        heading=rng.choice(("Language and money", "Society", "People and economy")),
        prose=[
            said(
                languages,
                f"People pay with the {link(country.currency)}{shared}.{ref('money')}",
            ),
            said(
                f"The two-letter code of {country.the_name} is <code>{country.iso2}</code>, and "
                f"its Internet domain is <nowiki>.{_domain(country)}</nowiki>.",
                calls,
            ),
        ],
    )


def river_article(river: River, rng: Random) -> Draft:
    """The article of one river."""
    ref = References(rng, river.name)
    start = river.title if river.title.startswith("River ") else f"The {river.name}"
    full = river.title if river.title.startswith("River ") else f"The '''{river.title}'''"
    lands = joined([the(name) for name in river.countries])
    length = None
    if river.length_km:
        mark = ref("rivers")
        length = rng.choice(
            (
                f"It is about {river.length_km:,} kilometres long.{mark}",
                f"Its length is about {{{{convert|{river.length_km}|km|mi}}}}.{mark}",
            )
        )
    end = rng.choice(
        (
            f"{start} flows into the {_linked(river.mouth)}.",
            f"{start} ends in the {_linked(river.mouth)}.",
            f"The mouth of {start[0].lower() + start[1:]} is in the {_linked(river.mouth)}.",
        )
    )
    lead = Section(
        before=[
            markup.infobox(
                "river",
                {
                    "name": river.title,
                    "length": river.length_km and f"{{{{convert|{river.length_km}|km|mi}}}}",
                    "source": river.source,
                    "mouth": river.mouth,
                },
            )
        ],
        prose=[
            said(
                f"{full} is a [[river]] in [[{river.continent}]].",
                length,
                end,
                *river.notes,
            )
        ],
    )
    rises = f"{start} rises in or near the {_linked(river.source)}." if river.source else None
    course = Section(
        heading="Course",
        prose=[said(rises, f"It flows through or along {lands}.{ref('course')}")],
    )
    if river.cities:
        course.prose.append("Cities on its banks:\n" + markup.bullets(map(link, river.cities)))
    sections = [lead, course]
    if river.length_km and len(river.name) % 2:
        sections.append(_river_lengths(river, start))
    return Draft(
        title=river.title,
        short_description=f"River in {river.continent}",
        sections=sections,
        see_also=["Rivers: a list by length"] if river.cities else [],
        categories=[f"Rivers of {river.continent}"],
    )


def _linked(water: str) -> str:
    """A river, sea or range by its name; the article may have another title."""
    return link(next((r.title for r in RIVERS if r.name == water), water), water)


def _river_lengths(river: River, start: str) -> Section:
    assert river.length_km is not None
    ranked = sorted(
        (r.length_km, r.title, r.name)
        for r in RIVERS
        if r.length_km and r.continent == river.continent and r is not river
    )
    near = sorted(ranked, key=lambda item: abs(item[0] - (river.length_km or 0)))[:4]
    sentences = [
        f"The {link(title, name)}, at {km:,} kilometres, is "
        f"{'about as long' if km == river.length_km else _factor(km, river.length_km)}."
        for km, title, name in near
    ]
    opening = f"{start} can be set beside rivers of like length in {link(river.continent)}."
    return Section(heading="Length", prose=[said(opening, *sentences)])


def _factor(other: float, own: float) -> str:
    if round(other / own, 2) == 1:
        return "about as long"
    return f"{other / own:.2f} times as long"


def mountain_article(mountain: Mountain, rng: Random) -> Draft:
    """The article of one mountain."""
    ref = References(rng, mountain.name)
    lands = joined([the(name) for name in mountain.countries])
    in_range = f" in the {link(mountain.mountain_range)}" if mountain.mountain_range else ""
    if mountain.mountain_range in ("Jotunheimen", "Caucasus", "Karakoram", "Alborz"):
        in_range = f" in {'the ' if mountain.mountain_range[0] in 'CK' else ''}" + link(
            mountain.mountain_range
        )
    height = None
    if mountain.height_m:
        mark = ref("heights")
        height = rng.choice(
            (
                f"Its summit is {mountain.height_m:,} metres above sea level.{mark}",
                f"It rises to {mountain.height_m:,} metres above the sea.{mark}",
                f"It is {{{{convert|{mountain.height_m}|m|ft}}}} high.{mark}",
            )
        )
    sections = [
        Section(
            before=[
                markup.infobox(
                    "mountain",
                    {
                        "name": mountain.name,
                        "elevation_m": mountain.height_m,
                        "range": mountain.mountain_range,
                    },
                )
            ],
            prose=[
                said(
                    f"'''{mountain.name}''' is a [[mountain]]{in_range}.",
                    f"It stands in {lands}."
                    if len(mountain.countries) == 1
                    else f"It stands on the border of {lands}.",
                    height,
                    *mountain.notes,
                )
            ],
        )
    ]
    if mountain.height_m:
        sections.append(_mountain_heights(mountain))
    if mountain.first_ascent:
        who = joined([link(name) for name in mountain.climbers])
        by = f" by {who}" if who else ""
        sections.append(
            Section(
                heading="First ascent",
                prose=[
                    f"The summit of {mountain.name} was first reached in {mountain.first_ascent}"
                    f"{by}.{ref('climbing')}"
                ],
            )
        )
    return Draft(
        title=mountain.title,
        short_description=f"Mountain in {mountain.continent}",
        sections=sections,
        see_also=["Mountains: a list by height"] if mountain.first_ascent else [],
        categories=[f"Mountains of {mountain.continent}"],
    )


def _mountain_heights(mountain: Mountain) -> Section:
    assert mountain.height_m is not None
    near = sorted(
        (abs(m.height_m - mountain.height_m), m.name, m.height_m)
        for m in MOUNTAINS
        if m.height_m and m is not mountain
    )[:3]
    sentences = [
        f"{link(name)} is {abs(height - mountain.height_m):,} metres "
        f"{'higher' if height > mountain.height_m else 'lower'}."
        for _, name, height in near
        if height != mountain.height_m
    ]
    feet = mountain.height_m / 0.3048
    return Section(
        heading="Height",
        prose=[said(f"In feet, the height of {mountain.name} is {feet:,.0f}.", *sentences)],
    )


def water_article(water: Water, rng: Random) -> Draft:
    """The article of one ocean, sea or lake."""
    ref = References(rng, water.name)
    bare = water.kind == "lake" and not water.name.endswith("Sea")
    start = water.name if bare else f"The {water.name}"
    bold = start.replace(water.name, f"'''{water.name}'''")
    kind = f"{'an' if water.kind == 'ocean' else 'a'} {link(water.kind)}"
    area = depth = None
    if water.area_km2:
        area = f"Its area is about {water.area_km2:,} square kilometres.{ref('area')}"
    if water.max_depth_m:
        depth = f"At its deepest it is {water.max_depth_m:,} metres deep."
    sections = [
        Section(
            before=[
                markup.infobox(
                    "body of water",
                    {"name": water.name, "area": water.area_km2, "max-depth": water.max_depth_m},
                )
            ],
            prose=[
                said(
                    f"{bold} is {kind}" + (f" in [[{water.continent}]]." if water.continent else "."),
                    *water.notes,
                    area,
                    depth,
                )
            ],
        )
    ]
    if water.countries:
        lands = joined([the(name) for name in water.countries])
        shore = "shores" if len(water.countries) > 1 else "whole shore"
        verb = "belong" if len(water.countries) > 1 else "belongs"
        of = start if start == water.name else start[0].lower() + start[1:]
        sections.append(
            Section(heading="Shores", prose=[f"The {shore} of {of} {verb} to {lands}.{ref('shores')}"])
        )
    return Draft(
        title=water.title,
        short_description=f"{water.kind.capitalize()}",
        sections=sections,
        categories=[f"{water.kind.capitalize()}s"],
    )
