"""Pumped wikitext: a prefix, a piece n times, a suffix. Each must cost the same a kilobyte at any n.

python -m tests.pumps --minutes 30        (one process; prints the worst ten each minute)
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.text import passages, wikitext
from pipeline.text.articles import Article
from pipeline.text.wikitext import Namespaces

KILOBYTES = (3, 12, 48)
# Markup in pieces, so that a pump opens what its suffix closes or does not; blanks and letters of their own.
TOKENS = (
    *" \t\n\xa0|=*#:;!'<>[]{}()-_~&/.,\"\x02",
    "{{", "}}", "{{{", "}}}", "[[", "]]", "{|", "|}", "|-", "||", "!!", "|+", "-{", "}-", "=>", "{{!}}",
    "{{nowrap|", "{{val|", "{{frac|", "{{date|", "{{nihongo|", "{{lang|de|", "{{convert|", "{{quote|",
    "{{as of|", "{{unknown|", "{{efn|", "{{Bio|Nome=", "{{PAGENAME}}", "{{formatnum:", "{{lc:", "{{subst:",
    "|text=", "|1=", "1", "12", "e3", "e6", "km", "to", "0.5", "²", "the word ", "A sentence. ", "word, ",
    "， ", "،", "。", "।", "[http://a ", "[[a|", "[[a (b", "[[File:a.jpg|", "[[:Category:", "|]]", "(b)",
    "[[a\n|", "[[fr:", "<ref>", "</ref>", "<ref/>", "<ref name=a>", "<!--", "-->", "<nowiki>", "</nowiki>",
    "<math>", "</math>", "<table>", "</table>", "<br>", "<div ", "<div>", "</div>",
    "<span style='display:none'>", "</span>", "display:none", "display", ":", "none", "class=NavContent ",
    "<poem>", "</poem>", "<sup>", "</sup>", "<section begin=a />", "<references", "<gallery>", "\\frac",
    "^{", "_{", "zh-cn:", "zh-tw:", "zh-hans;", "A|", "R|", "H|", "&amp;", "&#", "&x", "__", "_A",
    "__TOC__", "''", "'''", "\n==", "==\n", "\n|", "\n!", "\n*", "\n:", "\n ", "\n----", "\n\n", "\n{|",
    "\n|}", "#REDIRECT", "#a", "中", "คา", "a",
)  # fmt: skip


@dataclass(frozen=True)
class Pump:
    """`prefix`, then `piece` as often as the size wants, then `suffix`."""

    prefix: str
    piece: str
    suffix: str

    def page(self, kilobytes: int) -> str:
        return self.prefix + self.piece * (kilobytes * 1024 // len(self.piece)) + self.suffix


def convert(page: str) -> None:
    """Everything that is done with a page's wikitext, its cutting included."""
    wikitext.is_redirect(page)
    wikitext.sections(page, namespaces=Namespaces(), language="kl")  # sections by what they hold
    found = wikitext.sections(page, namespaces=Namespaces())
    article = Article(page_id="1", title="A", sections=tuple(found))
    list(passages.passages(article))
    passages.article_words(article)


def ms_per_kb(pump: Pump, kilobytes: int, run: Callable[[str], object], repeats: int = 1) -> float:
    """CPU time of this thread; the least of `repeats`, since others can only add to it."""
    page = pump.page(kilobytes)
    least = float("inf")
    for _ in range(repeats):
        start = time.thread_time()
        run(page)
        least = min(least, time.thread_time() - start)
    return least * 1000 / kilobytes


def growth(
    pump: Pump, run: Callable[[str], object], sizes: tuple[int, ...] = KILOBYTES, repeats: int = 1
) -> list[float]:
    """Milliseconds a kilobyte at each size; stops where it is beyond doubt."""
    found: list[float] = []
    for kilobytes in sizes:
        found.append(ms_per_kb(pump, kilobytes, run, repeats))
        if not is_flat(found, slack=6):
            break
    return found


def is_flat(found: list[float], slack: float = 2.5) -> bool:
    """Whether a kilobyte of the largest cost about what one of the smallest did: a square is 16 times dearer.

    The half millisecond is for what is done once a page, and for machines where others run as well.
    """
    return found[-1] <= slack * found[0] + 0.5


def pumps(seed: int) -> Iterator[Pump]:
    """Pumps without end, the same for the same seed."""
    choose = random.Random(seed)

    def some(most: int) -> str:
        return "".join(choose.choice(TOKENS) for _ in range(choose.randint(0, most)))

    while True:
        piece = some(3)
        if piece:
            yield Pump(some(3), piece, some(3))


Worst = list[tuple[Pump, list[float]]]


def fuzz(
    seconds: float,
    seed: int,
    run: Callable[[str], object] = convert,
    *,
    every: float = float("inf"),
    tell: Callable[[int, Worst], None] = lambda tries, worst: None,
) -> tuple[int, Worst]:
    """Try pumps for `seconds` of CPU time: how many there were, and the worst ten.

    Each first at two sizes; only what grew, or is dear already, is worth the third. `tell` is called with
    what there is after each `every` seconds.
    """
    worst: Worst = []
    tries = 0
    start = time.thread_time()
    end, told = start + seconds, start + every
    for pump in pumps(seed):
        if (now := time.thread_time()) >= end:
            break
        if now >= told:
            tell(tries, worst)
            told += every
        tries += 1
        found = growth(pump, run, KILOBYTES[:2])
        if is_flat(found, slack=1.5) and len(worst) == 10 and found[-1] <= worst[-1][1][-1]:
            continue
        # Once more, the least of three: a neighbour on the machine may have been the reason.
        found = growth(pump, run, repeats=3)
        worst = sorted([*worst, (pump, found)], key=lambda one: (is_flat(one[1]), -one[1][-1]))[:10]
    return tries, worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    def show(tries: int, worst: Worst) -> None:
        print(f"{tries:,} pumps; ms a KB at {KILOBYTES} KB of the worst ten:")
        for pump, found in worst:
            judged = "flat" if is_flat(found) else "GROWS"
            print("  ", " ".join(f"{value:6.2f}" for value in found), judged, pump, flush=True)

    show(*fuzz(given.minutes * 60, given.seed, every=60, tell=show))


if __name__ == "__main__":
    main()
