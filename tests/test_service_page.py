"""The page in a headless Chromium: search, a passage, versions, by keyboard, on a phone, right to left."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from encoders.memory_spec import MemorySpec
from tests import browser
from tests.second_version import add_version
from tests.serving_http import Served, serving

SCRIPT = "<script>document.title='broken'</script> & <img src=x onerror=alert(1)>"
ARABIC = "نهر النيل أطول أنهار أفريقيا، ويصب في البحر المتوسط."


@pytest.fixture(scope="module")
def program() -> str:
    found = browser.found()
    if found is None:
        pytest.skip(f"there is no browser: none of {', '.join(browser.NAMES)} is installed")
    return found


@pytest.fixture(scope="module")
def served(program: str, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from pipeline.components.settings import BuildSettings
    from tests.jobs import build

    folder = tmp_path_factory.mktemp("page")
    articles = [
        {"id": 1, "title": "Danube", "text": "The Danube is a river in Europe. It ends in the Black Sea."},
        {"id": 2, "title": SCRIPT, "text": f"A title that looks like markup. {SCRIPT}"},
        {"id": 3, "title": "نهر النيل", "text": ARABIC},
        {"id": 4, "title": "A long one", "text": "The river flows and flows. " * 90},
    ]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in articles))
    root = build(
        BuildSettings(
            sources=(f"jsonl:{folder / 'a.jsonl'}",),
            retriever=str(models / "gtr"),
            memory_encoder=str(models / "t5"),
            memory=MemorySpec(compute_dtype="float32", max_tokens=96),
            passage_words=100,
        ),
        folder / "corpus",
    ).corpus.root
    add_version(root, "int8", alias="small")
    with serving(root) as found:
        yield found


@pytest.fixture
def page(program: str, served: Served) -> Iterator[browser.Page]:
    with browser.page(program) as found:
        found.size(1100, 900)
        yield found
        assert found.told == []
        asked = [url for url in found.requests if not url.startswith((served.url, "data:", "about:"))]
        assert asked == []


def pictured(page: browser.Page, tmp_path: Path, name: str) -> None:
    """A screenshot, into the folder that MEMCORPUS_PICTURES names, for who wants to look."""
    folder = Path(os.environ.get("MEMCORPUS_PICTURES") or tmp_path)
    page.picture(folder / f"{name}.png")
    assert (folder / f"{name}.png").stat().st_size > 5000


def fits(page: browser.Page) -> bool:
    """Nothing stands out of the window's width."""
    return bool(page.ask("document.documentElement.scrollWidth <= innerWidth"))


def test_search_a_passage_and_versions_compared(page: browser.Page, served: Served, tmp_path: Path) -> None:
    page.go(served.url)
    page.wait("document.querySelector('#main dl')")
    figures = page.ask("document.querySelector('#main').innerText")
    assert "Memory versions" in figures
    assert "int8" in figures
    pictured(page, tmp_path, "figures")
    # By keyboard alone: the search box, a word, Enter.
    page.ask("document.getElementById('query').focus()")
    page.type("Where does the Danube end?")
    page.key("Enter", 13)
    page.wait("document.querySelectorAll('.hits li').length >= 4")
    expected = json.loads(served.get("/v1/search?q=Where+does+the+Danube+end%3F").data)
    titles = [" › ".join([hit["title"], *hit["section"]]) for hit in expected["results"][0]["passages"]]
    assert page.ask("[...document.querySelectorAll('.hits h2')].map(h => h.textContent)") == titles
    pictured(page, tmp_path, "search")
    # The first link is one Tab from the results, and Enter opens it.
    place = titles.index("Danube")
    page.ask(f"document.querySelectorAll('.hits a')[{place}].focus()")
    page.key("Enter", 13)
    page.wait("document.querySelector('#version')")
    assert page.ask("document.querySelector('#main h2').textContent") == "Danube"
    look = json.loads(served.get("/v1/look/0").data)
    assert page.ask("document.querySelectorAll('.tokens tbody tr').length") == look["memory"]["tokens"]
    pieces = page.ask("[...document.querySelectorAll('.tokens td.piece')].map(td => td.textContent)")
    assert pieces == [piece.replace("▁", " ") for piece in look["memory"]["pieces"]]
    assert "Danube" in "".join(pieces).replace(" ", "") or "<unk>" in "".join(pieces)
    # Compare with the other version.
    page.ask(
        "(() => { const s = document.getElementById('other'); s.focus(); s.selectedIndex = 2;"
        " s.dispatchEvent(new Event('change')); })()"
    )
    page.wait("document.querySelector('#main').innerText.includes('Compared on this passage')")
    assert page.ask("document.activeElement.id") == "other"
    compared = json.loads(
        served.get(f"/v1/look/0?other={page.ask('document.getElementById(`other`).value')}").data
    )["compared"]
    assert 0 < compared["relative_error"] < 0.05
    shown = page.ask("document.querySelector('#main').innerText")
    digits = f"{compared['relative_error']:.3g}"
    assert digits[:6] in shown
    pictured(page, tmp_path, "passage")
    assert fits(page)
    # And back, by the browser's own button.
    page.ask("history.back()")
    page.ask("history.back()")
    page.wait("document.querySelectorAll('.hits li').length >= 4")


def test_markup_in_the_corpus_stays_text(page: browser.Page, served: Served) -> None:
    page.go(f"{served.url}/#passage=1")
    page.wait("document.querySelector('#version')")
    assert page.ask("document.querySelector('#main h2').textContent") == SCRIPT
    assert page.ask("document.title") == "passage 1 – memcorpus"
    assert page.ask("document.querySelectorAll('#main script, #main img').length") == 0
    assert page.ask(f"document.querySelector('#main').innerText.includes({json.dumps(SCRIPT)})")
    page.go(f"{served.url}/#q={SCRIPT.replace('&', '%26').replace('#', '%23')}")
    page.wait("document.querySelectorAll('.hits li').length >= 4")
    assert page.ask("document.querySelectorAll('#main script, #main img').length") == 0


def test_what_was_cut_is_shown(page: browser.Page, served: Served) -> None:
    for passage in range(3, 6):
        look = json.loads(served.get(f"/v1/look/{passage}").data)
        if look["memory"]["cut"]["tokens"]:
            break
    else:
        raise AssertionError("no passage was cut")
    assert look["memory"]["tokens"] == look["memory"]["limit"] == 96
    page.go(f"{served.url}/#passage={passage}")
    page.wait("document.querySelector('#version')")
    shown = page.ask("document.querySelector('#main').innerText")
    assert f"Cut at the limit: {look['memory']['cut']['tokens']} tokens" in shown
    assert look["memory"]["cut"]["text"] in shown


@pytest.mark.parametrize("where", ["", "#q=river", "#passage=2", "#passage=1"])
def test_on_a_phone_and_right_to_left(page: browser.Page, served: Served, tmp_path: Path, where: str) -> None:
    page.size(360, 740)
    page.go(f"{served.url}/{where}")
    page.wait("document.querySelector('#main').children.length")
    assert fits(page)
    # What is pressed is large enough for a finger (WCAG 2.2, 2.5.8: 24 pixels).
    small = page.ask(
        "[...document.querySelectorAll('button, input, select')].filter(e => e.getClientRects().length)"
        ".map(e => e.getBoundingClientRect().height).filter(h => h < 24).length"
    )
    assert small == 0
    if where == "#passage=2":
        box = page.ask(
            "(() => { const p = document.querySelector('#main .text'); const r = document.createRange();"
            "r.selectNodeContents(p); const t = r.getBoundingClientRect(), o = p.getBoundingClientRect();"
            "return [getComputedStyle(p).direction, t.left - o.left, o.right - t.right]; })()"
        )
        # Arabic begins at the right edge.
        assert box[2] <= box[1] + 1
        pictured(page, tmp_path, "phone-arabic")


def test_a_screen_reader_finds_names_for_everything(page: browser.Page, served: Served) -> None:
    for where in ("", "#q=river", "#passage=0"):
        page.go(f"{served.url}/{where}")
        page.wait("document.querySelector('#main').children.length")
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
        roles: dict[str, list[str]] = {}
        for node in nodes:
            if not node.get("ignored"):
                name = node.get("name", {}).get("value", "")
                roles.setdefault(node["role"]["value"], []).append(name)
        for role in ("searchbox", "button", "combobox", "link", "region", "meter"):
            assert all(roles.get(role, [])), (where, role, roles.get(role))
        for landmark in ("banner", "main", "search", "status"):
            assert landmark in roles, (where, sorted(roles))


def test_a_wrong_passage_is_told(program: str, served: Served) -> None:
    with browser.page(program) as page:
        page.go(f"{served.url}/#passage=99999")
        page.wait("document.querySelector('#status').classList.contains('wrong')")
        assert "unknown passage id 99999" in page.ask("document.querySelector('#status').textContent")


def test_the_token_is_asked_for(program: str, corpus: Path) -> None:
    token = "0123456789abcdef-token"
    with serving(corpus, token=token) as served, browser.page(program) as page:
        page.go(served.url)
        page.wait("!document.getElementById('token').hidden")
        assert page.ask("document.activeElement.id") == "secret"
        page.type(token)
        page.key("Enter", 13)
        page.wait("document.querySelector('#main dl')")
        assert token not in page.ask("location.href")


def test_the_page_says_what_it_may(served: Served) -> None:
    answer = served.get("/")
    policy = answer.headers["content-security-policy"]
    for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"):
        assert part in policy
    assert "unsafe" not in policy
    text = answer.data.decode() + served.get("/page.js").data.decode() + served.get("/page.css").data.decode()
    assert "://" not in text
    assert "innerHTML" not in text
    assert "style=" not in text
