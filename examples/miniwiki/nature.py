"""Articles about chemical elements and about the bodies of the Solar System."""

from __future__ import annotations

import math
from random import Random

from examples.miniwiki import markup
from examples.miniwiki.markup import Draft, References, Section, a, joined, link, said
from examples.miniwiki.tables import BODIES, ELEMENTS, Body, Element
from examples.miniwiki.tables.elements import NOBLE_NUMBERS

_SUBSHELLS = "1s 2s 2p 3s 3p 4s 3d 4p 5s 4d 5p 6s 4f 5d 6p 7s 5f 6d 7p".split()
_CAPACITY = {"s": 2, "p": 6, "d": 10, "f": 14}
# Ground states that do not follow the order of filling, outside the noble-gas core.
_EXCEPTIONS = {
    24: "3d5 4s1", 29: "3d10 4s1", 41: "4d4 5s1", 42: "4d5 5s1", 44: "4d7 5s1", 45: "4d8 5s1",
    46: "4d10", 47: "4d10 5s1", 57: "5d1 6s2", 58: "4f1 5d1 6s2", 64: "4f7 5d1 6s2",
    78: "4f14 5d9 6s1", 79: "4f14 5d10 6s1", 89: "6d1 7s2", 90: "6d2 7s2", 91: "5f2 6d1 7s2",
    92: "5f3 6d1 7s2", 93: "5f4 6d1 7s2", 96: "5f7 6d1 7s2", 103: "5f14 7s2 7p1",
}  # fmt: skip


def electron_configuration(number: int) -> str:
    """The ground state, such as `[Ar] 3d6 4s2`, of the elements 1 to 103.

    Source: order of filling, with the exceptions that spectroscopy has found.
    """
    core = max((noble for noble in (0, *NOBLE_NUMBERS) if noble < number), default=0)
    prefix = f"[{ELEMENTS[core - 1].symbol}] " if core else ""
    if number in _EXCEPTIONS:
        return prefix + _EXCEPTIONS[number]
    left, skipped = number, 0
    outer: list[str] = []
    for subshell in _SUBSHELLS:
        count = min(_CAPACITY[subshell[1]], left)
        left -= count
        skipped += count
        if count and skipped > core:
            outer.append(f"{subshell}{count}")
        if not left:
            break
    return prefix + " ".join(sorted(outer, key=lambda item: (item[0], "spdf".index(item[1]))))


def _kin(element: Element) -> list[Element]:
    """The other elements of its group or, without a group, of its series."""
    # By number: an invented element stands in the place of a real one.
    others = [e for e in ELEMENTS if e.number != element.number]
    if element.group is None:
        return [e for e in others if e.category == element.category]
    return [e for e in others if e.group == element.group]


def place_in_table(element: Element) -> str:
    """Where it stands, such as "group 8 and period 4"."""
    group = f"group {element.group} and " if element.group else ""
    return f"{group}period {element.period}"


def element_article(element: Element, rng: Random) -> Draft:
    """The article of one element."""
    low = element.name.lower()
    ref = References(rng, element.name)
    stable_mass = not isinstance(element.mass, int)
    place = place_in_table(element)
    mark = ref("elements")
    own_heat = element.melting_c is not None and element.number % 3 == 1
    lead = Section(
        before=[
            markup.infobox(
                "element",
                {
                    "name": element.name,
                    "symbol": element.symbol,
                    "number": element.number,
                    "group": element.group,
                    "period": element.period,
                    "mass": element.mass if stable_mass else f"[{element.mass}]",
                    "phase": element.phase,
                    "melting point C": element.melting_c,
                    "discovery date": element.discovered,
                },
            )
        ],
        prose=[
            said(
                rng.choice(
                    (
                        f"'''{element.name}''' is a [[chemical element]] with the "
                        f"[[Chemical symbol|symbol]] '''{element.symbol}''' and [[atomic number]] "
                        f"{element.number}.{mark}",
                        f"'''{element.name}''' (symbol '''{element.symbol}''') is the [[chemical "
                        f"element]] whose [[atomic number]] is {element.number}.{mark}",
                    )
                ),
                f"It is {a(element.category)} of {place} of the [[periodic table]].",
                f"At room temperature it is a {element.phase}." if element.phase else None,
                None if own_heat or element.melting_c is None else f"It melts at {element.melting_c} °C.",
            ),
            said(
                f"The standard atomic weight of {low} is {element.mass}."
                if stable_mass
                else f"{element.name} has no standard atomic weight; tables print the mass number "
                f"{element.mass} in brackets instead.",
                f"Its only use is {element.uses}."
                if element.uses == "scientific research"
                else rng.choice(("Uses of {} include {}.", "What {} serves for includes {}.")).format(
                    low, element.uses
                ),
            ),
        ],
    )
    if element.number % 7 == 0:
        caption = f"The place of {link(element.title, low)} in the [[periodic table]]"
        lead.before.append(markup.image(f"Periodic table {element.symbol}.svg", caption))
    sections = [lead, _element_atom(element, ref)]
    if own_heat:
        sections.append(_element_heat(element, ref))
    sections.append(_element_history(element, rng, ref))
    if element.number % 3 == 0:
        sections.append(_element_kin(element))
    return Draft(
        title=element.title,
        short_description=f"Chemical element with atomic number {element.number}",
        sections=sections,
        see_also=["Elements: a list by atomic number", "Periodic table"] if element.number % 5 == 0 else [],
        categories=["Chemical elements", f"{element.category.capitalize()}s"],
    )


def _element_atom(element: Element, ref: References) -> Section:
    low = element.name.lower()
    order = None
    if element.number <= 103:
        config = electron_configuration(element.number)
        order = (
            f"In the ground state its electrons are arranged as {{{{nowrap|{config}}}}}, where the "
            f"letters name the [[Electron shell|subshells]].{ref('atoms')}"
        )
    # Ratios are computed from the same masses the tables give, with hydrogen at 1.008.
    ratio = element.mass / ELEMENTS[0].mass
    weight = None
    if 1 < element.number < 84 and isinstance(element.mass, float):
        weight = f"On average it is about {ratio:.3g} times as heavy as an atom of hydrogen."
    return Section(
        heading="Atom",
        prose=[
            said(
                f"A neutral atom of {low} has {element.number} {link('proton', trail='s')} in its "
                f"nucleus and as many {link('electron', trail='s')} around it. The count of protons "
                f"is the same for every [[isotope]] of {low}."
                if element.number > 1
                else "A neutral atom of hydrogen has one [[proton]] in its nucleus and one "
                "[[electron]] around it.",
                order,
                weight,
            )
        ],
        after=[f':<math display="block">Z = {element.number}</math>'],
    )


def _element_heat(element: Element, ref: References) -> Section:
    assert element.melting_c is not None
    kelvin = element.melting_c + 273.15
    fahrenheit = element.melting_c * 9 / 5 + 32
    return Section(
        heading="Melting point",
        level=3,
        prose=[
            f"{element.name} melts at about {element.melting_c} degrees [[Celsius]]{ref('heat')}, "
            f"which is {kelvin:.0f} [[kelvin]]s or {fahrenheit:.0f} degrees [[Fahrenheit]]."
            "<!-- measured at one atmosphere -->"
        ],
    )


def _element_history(element: Element, rng: Random, ref: References) -> Section:
    low = element.name.lower()
    who = joined([link(name) for name in element.discoverers])
    if element.ancient:
        found = f"{element.name} has been known since antiquity, and no discoverer is recorded."
    elif element.discovered and who:
        found = rng.choice(
            (
                f"{element.name} was discovered in {element.discovered} by {who}.",
                f"The discovery of {low} dates from {element.discovered} and is credited to {who}.",
                f"In {element.discovered}, {who} discovered {low}.",
            )
        )
    elif element.discovered:
        found = f"{element.name} was first made in {element.discovered} by a team of physicists."
    else:
        found = f"Accounts differ on who first found {low}."
    return Section(
        heading=rng.choice(("History and name", "Discovery", "Name and history")),
        prose=[
            said(
                found + ref("history"),
                f"It takes its name from {element.named_after}.",
                f"In formulas it is written <nowiki>{element.symbol}</nowiki>.",
            )
        ],
    )


def _element_kin(element: Element) -> Section:
    kin = _kin(element)
    what = f"group {element.group}" if element.group else f"the {element.category}s"
    sentences = [
        f"{link(other.title, other.name)} has atomic number {other.number} and the symbol "
        f"{other.symbol}, which puts it {abs(other.number - element.number)} places "
        f"{'before' if other.number < element.number else 'after'} {element.name.lower()}; it "
        + (f"melts at {other.melting_c} °C." if other.melting_c else f"is in period {other.period}.")
        for other in kin
    ]
    table = markup.wikitable(
        f"Elements of {what}",
        ("Number", "Symbol", "Name", "Mass"),
        [(e.number, e.symbol, link(e.title, e.name), e.mass) for e in [element, *kin]],
    )
    opening = f"{element.name} shares {what} with {len(kin)} other elements."
    return Section(heading="Relatives", prose=[said(opening, *sentences)], after=[table])


def body_article(body: Body, rng: Random) -> Draft:
    """The article of one body of the Solar System."""
    ref = References(rng, body.name)
    name = f"the {body.name}" if body.name == "Moon" else body.name
    start = name[0].upper() + name[1:]
    around = "the Sun" if body.parent == "Sun" else link(_title(body.parent), body.parent)
    kind = "natural satellite" if body.kind == "moon" else body.kind
    lead = Section(
        before=[
            markup.infobox(
                body.kind,
                {
                    "name": body.name,
                    "orbits": body.parent,
                    "mean_diameter": _convert(body.diameter_km, "km", "mi"),
                    "period": body.orbit_days and f"{body.orbit_days:,} days",
                    "discovered": body.discovered,
                },
            )
        ],
        prose=[
            said(
                f"'''{start}''' is a {link(kind)} that orbits {around}.{ref('planets')}",
                *body.notes[:2],
            ),
            said(*body.notes[2:], f"{start} is named after {body.named_after}."),
        ],
    )
    sections = [lead]
    if body.orbit_days and body.distance_mkm:
        sections.append(_orbit(body, start, around, ref))
    if body.diameter_km:
        sections.append(_size(body, start))
    if body.discovered:
        who = joined([link(person) for person in body.discoverers])
        by = f" by {who}" if who else ""
        sections.append(
            Section(
                heading="Discovery",
                prose=[f"{start} was discovered in {body.discovered}{by}.{ref('history')}"],
            )
        )
    return Draft(
        title=body.title,
        short_description=f"{kind.capitalize()} of the Solar System",
        sections=sections,
        see_also=["Solar System"] if body.kind == "planet" else [],
        categories=[f"{body.kind.capitalize()}s of the Solar System"],
    )


def _title(name: str) -> str:
    return next((body.title for body in BODIES if body.name == name), name)


def _convert(value: float | None, unit: str, to: str) -> str | None:
    return None if value is None else f"{{{{convert|{value}|{unit}|{to}|abbr=on}}}}"


def _orbit(body: Body, start: str, around: str, ref: References) -> Section:
    assert body.orbit_days is not None
    assert body.distance_mkm is not None
    # Mean speed on a circle of that radius; the orbits here are close enough to circles.
    speed = 2 * math.pi * body.distance_mkm * 1e6 / (body.orbit_days * 86_400)
    years = body.orbit_days / 365.25
    span = f"{body.orbit_days:,} days"
    if years > 2:
        span += f", or about {years:,.1f} years"
    return Section(
        heading="Orbit",
        prose=[
            f"{start} goes once around {around} in {span}.{ref('orbits')} Its mean distance from "
            f"{around} is {body.distance_mkm:,} million kilometres, so its mean speed is about "
            f"{speed:.2g} kilometres per second."
        ],
    )


def _size(body: Body, start: str) -> Section:
    assert body.diameter_km is not None
    others = [b for b in BODIES if b.diameter_km and b.kind == body.kind and b is not body]
    sentences = [
        f"{'The ' if b.name == 'Moon' else ''}{link(b.title, b.name)} measures {b.diameter_km:,} kilometres, "
        f"{b.diameter_km / body.diameter_km:.2g} times as much."
        for b in others
        if b.diameter_km
    ]
    return Section(
        heading="Size",
        prose=[
            said(
                f"The mean [[diameter]] of {start} is {{{{convert|{body.diameter_km}|km|mi}}}}.",
                *(sentences if body.kind == "planet" else sentences[:3]),
            )
        ],
    )
