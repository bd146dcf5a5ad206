"""Small dumps of pages, edited from one edition to the next, and an independent count of what changed."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

WORDS = (
    "river hill city king bridge stone water north forest island road market tower school winter summer "
    "bread glass iron music letter harbour field cloud lamp garden horse silver theatre mountain"
).split()


@dataclass
class Page:
    """A page: title, and (heading path, text) of each section."""

    title: str
    sections: list[tuple[tuple[str, ...], str]]


Edition = dict[str, Page]


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(6, 16))).capitalize() + "."


def first(seed: int, pages: int) -> Edition:
    rng = random.Random(seed)
    return {str(i): page(rng, i) for i in range(pages)}


def page(rng: random.Random, number: int) -> Page:
    names = [()] + [(f"Part {n}",) for n in range(rng.randint(0, 3))]
    return Page(f"Title {number}", [(path, sentence(rng)) for path in names])


def edited(edition: Edition, seed: int, share: float = 0.1) -> Edition:
    """Paragraphs changed; pages added, removed, renamed; sections moved; a paragraph written twice."""
    rng = random.Random(seed)
    result: Edition = {}
    for key, old in edition.items():
        new = Page(old.title, list(old.sections))
        what = rng.random()
        if what < share / 4:
            continue  # removed
        if what < share / 2:
            new.title = f"{old.title} renamed {seed}"
        elif what < share and len(new.sections) > 1:
            rng.shuffle(new.sections)  # moved
        elif what < share * 1.2:
            path, text = new.sections[-1]
            new.sections.append((path, text))  # the same once more
        for place, (path, _) in enumerate(new.sections):
            if rng.random() < share / 2:
                new.sections[place] = (path, sentence(rng))
        result[key] = new
    top = max(map(int, edition), default=0) + 1
    for number in range(top, top + rng.randint(0, 3)):
        result[str(number)] = page(rng, number)
    return result


def write(edition: Mapping[str, Page], path: Path) -> str:
    """As JSON lines; returns the source."""
    rows = (
        {"id": key, "title": p.title, "sections": [{"path": list(s), "text": t} for s, t in p.sections]}
        for key, p in edition.items()
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"jsonl:{path}"


Said = tuple[str, str, tuple[str, ...], str]


def passages(edition: Mapping[str, Page]) -> list[Said]:
    """What each passage says; sections are short, so each is one."""
    return [(key, p.title, path, text) for key, p in edition.items() for path, text in p.sections]


@dataclass
class Truth:
    """A corpus as lists: what each id says, and whether it is there."""

    said: list[Said] = field(default_factory=list)
    there: list[bool] = field(default_factory=list)

    def take(self, new: Iterable[Said]) -> dict[str, int]:
        """A whole new edition. Returns old, kept, vanished, new, added."""
        old = sum(self.there)
        wanted = list(new)
        left = Counter(wanted)
        vanished = 0
        for number, said in enumerate(self.said):
            if not self.there[number]:
                continue
            if left[said]:
                left[said] -= 1
            else:
                self.there[number] = False
                vanished += 1
        # Of equal ones the first are those that were there.
        budget = Counter(wanted) - left
        added = []
        for said in wanted:
            if budget[said]:
                budget[said] -= 1
            else:
                added.append(said)
        self.said += added
        self.there += [True] * len(added)
        counts = (old, old - vanished, vanished, len(wanted), len(added))
        return dict(zip(("old", "kept", "vanished", "new", "added"), counts, strict=True))

    @property
    def live(self) -> list[int]:
        return [number for number, there in enumerate(self.there) if there]
