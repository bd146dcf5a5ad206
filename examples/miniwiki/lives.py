"""Articles about people."""

from __future__ import annotations

from random import Random

from examples.miniwiki import markup
from examples.miniwiki.markup import Draft, References, Section, a, joined, link, said
from examples.miniwiki.tables import BODIES, ELEMENTS, PEOPLE, Person

_CRAFT = {
    "physics": "physicist",
    "mathematics": "mathematician",
    "chemistry": "chemist",
    "astronomy": "astronomer",
    "biology": "biologist",
    "microbiology": "microbiologist",
    "medicine": "physician and researcher",
    "engineering": "engineer",
    "computer science": "computer scientist",
    "logic": "logician",
    "printing": "printer",
    "geology": "geologist",
}
# Names in other scripts: the language of the script they are written in.
_SCRIPT = (("Ѐ", "ӿ", "ru"), ("\u0600", "ۿ", "ar"), ("ऀ", "ॿ", "sa"), ("஀", "௿", "ta"), ("一", "鿿", "zh"))


def _native(person: Person) -> str:
    name = person.native_name
    if not name:
        return ""
    code = next((code for low, high, code in _SCRIPT if low <= name[0] <= high), None)
    return f" ({{{{lang|{code}|{name}}}}})" if code else f" (''{name}'')"


def crafts(person: Person) -> str:
    """What the person was, such as "physicist and mathematician"."""
    return joined([_CRAFT[field] for field in person.fields])


def years(person: Person) -> str:
    """Years of life, such as `(1879–1955)`; empty where neither is known."""
    if person.born and person.died:
        return f" ({person.born}–{person.died})"
    if person.born:
        return f" (born {person.born})"
    return f" (died {person.died})" if person.died else ""


def person_article(person: Person, rng: Random) -> Draft:
    """The article of one person."""
    ref = References(rng, person.name)
    last = person.name.split()[-1] if person.name != "Tu Youyou" else "Tu"
    verb = "is" if person.born and person.born > 1925 and not person.died else "was"
    known = rng.choice(
        (
            f"{last} is known for {person.known_for}.",
            f"{last} is best remembered for {person.known_for}.",
        )
    )
    birth = None
    if person.birthplace:
        when = f" in {person.born}" if person.born else ""
        birth = f"{last} was born{when} in {link(person.birthplace)}."
    lead = Section(
        before=[
            markup.infobox(
                "scientist",
                {
                    "name": person.name,
                    "birth_date": person.born,
                    "birth_place": person.birthplace,
                    "death_date": person.died,
                    "fields": ", ".join(link(field) for field in person.fields),
                    "known_for": person.known_for,
                },
            )
        ],
        prose=[
            said(
                f"'''{person.name}'''{_native(person)}{years(person)} {verb} "
                f"{a(person.nationality)} {crafts(person)}.{ref('lives')}",
                known,
            ),
            said(birth, f"{last} worked in {joined([link(field) for field in person.fields])}."),
        ],
    )
    sections = [lead]
    if person.born and person.died:
        sections.append(_times(person, last))
    work = _work(person, last, ref)
    if work is not None:
        sections.append(work)
    return Draft(
        title=person.title,
        short_description=f"{person.nationality} {crafts(person)}".capitalize(),
        sections=sections,
        categories=[f"People in {field}" for field in person.fields],
    )


def _times(person: Person, last: str) -> Section:
    """Contemporaries, by arithmetic on the years; ages are the age reached in that year."""
    assert person.born is not None
    assert person.died is not None
    near = sorted(
        (abs(p.born - person.born), p.name)
        for p in PEOPLE
        if p.born and p is not person and person.born <= p.born <= person.died
    )[:5]
    born = {p.name: p.born for p in PEOPLE if p.born}
    sentences = [
        f"{link(name)} was born in {born[name]}, "
        + (
            "the same year."
            if born[name] == person.born
            else f"the year in which {last} reached the age of {born[name] - person.born}."
        )
        for _, name in near
    ]
    return Section(
        heading="Life and times",
        prose=[
            said(
                f"{last} died in {person.died}, {person.died - person.born} years after the year of birth.",
                *sentences,
            )
        ],
    )


def _work(person: Person, last: str, ref: References) -> Section | None:
    found = [f"the element {link(e.title, e.name.lower())} ({e.discovered})"
             for e in ELEMENTS if person.name in e.discoverers]  # fmt: skip
    found += [f"the {b.kind} {link(b.title, b.name)} ({b.discovered})"
              for b in BODIES if person.name in b.discoverers]  # fmt: skip
    books = [f"''{title}''" + (f", {year}" if year else "") for title, year in person.works]
    if not found and not books:
        return None
    section = Section(heading="Work")
    if found:
        section.prose.append(f"{person.name} discovered, alone or with others, {joined(found)}.")
    if books:
        section.prose.append(f"Works of {last}:{ref('works')}\n" + markup.bullets(books))
    return section
