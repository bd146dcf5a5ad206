"""Templates that a user's file names: what they read as, what is refused, and that they decide a build."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.components.settings import BuildSettings
from pipeline.text import wikitext
from pipeline.text.wikitext import Namespaces, own_templates
from retrieval import open_corpus
from storage import errors
from tests.commands import Command
from tests.jobs import build

FILE = """
[all]
text = ["Wort", "Mein_Name"]
[it]
second = ["lingua2"]
last = ["Ultimo"]
block = ["Passo"]
lines = ["Versi"]
joined = ["Unità di misura"]
commas = ["Elenco"]
drop = ["nowrap", "Wort"]
[it.like]
Metri = "convert"
"""


def shown(markup: str, file: Path, language: str = "it") -> str:
    own = own_templates.read(file)
    found = wikitext.sections(markup, namespaces=Namespaces(), language=language, own=own)
    return "\n".join(section.text for section in found)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("A {{mein name|b}} c.", "A b c."),
        ("A {{ Lingua2 |fr|mot}} c.", "A mot c."),
        ("A {{ultimo|x|y|z}} c.", "A z c."),
        ("A.{{Passo|Due parole}}C.", "A.\nDue parole\nC."),
        ("A.{{Versi|uno|due}}", "A.\nuno\ndue"),
        ("A {{Unità_di_misura|5|km}} c.", "A 5 km c."),
        ("A {{elenco|b|c}}.", "A b, c."),
        ("A {{nowrap|b}} c.", "A c."),
        ("A {{wort|b}} c.", "A c."),  # the language's word is the last
        ("A {{metri|1000|m}} c.", "A 1000 m c."),
        ("A {{Template:elenco|b|c}}.", "A b, c."),
    ],
)
def test_what_they_read_as(markup: str, text: str, file: Path) -> None:
    assert shown(markup, file) == text


def test_languages(file: Path) -> None:
    markup = "A {{wort|b}} c, a {{elenco|d|e}} f."
    assert shown(markup, file, "it") == "A c, a d, e f."
    assert shown(markup, file, "it-CH") == "A c, a d, e f."
    assert "A b c" in shown(markup, file, "de")
    assert "d, e" not in shown(markup, file, "de")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[it", "cannot be read: "),
        ('[it]\ntext = ["a"]\ntext = ["b"]', "cannot be read: "),
        ('text = ["a"]', r"text is \['a'\], wanted a table; write \[text\] above its names"),
        ("[Italian]\n", r"has \[Italian\], wanted the code of a wiki such as \[it\]"),
        ("[it]\ntxt = []", r"\[it\] has unknown key 'txt'; known are text, second, last, block"),
        ('[it]\ntext = "a"', r"\[it\]: text is 'a', wanted a list of names"),
        ("[it]\ntext = [1]", r"\[it\] has 1 in text, wanted the name of a template"),
        ('[it]\ntext = ["{{a}}"]', r"\[it\] has '{{a}}' in text, wanted the name of a template without"),
        ('[it]\ntext = [" "]', "wanted the name of a template"),
        ('[it]\ntext = ["A b"]\ndrop = ["a_b"]', r"\[it\] has 'a_b' twice, in text and drop; keep one"),
        ("[it]\nlike = 1", r"\[it\]: like is 1, wanted a table of names"),
        (
            '[it.like]\na = "nobody knows"',
            "has 'a' like 'nobody knows', which is no known template; name one",
        ),
        ("[it.like]\na = 1", "has 'a' like 1, which is no known template"),
    ],
)
def test_what_has_no_meaning_is_refused(content: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(content)
    with pytest.raises(errors.CorpusError, match=why) as caught:
        own_templates.read(path)
    assert str(path) in str(caught.value)


def test_no_file_is_one_line(command: Command, tmp_path: Path, settings: BuildSettings) -> None:
    out = tmp_path / "out"
    asked = ["--source", settings.sources[0], "--memory-encoder", settings.memory_encoder]
    asked += ["--templates", str(tmp_path / "none.toml")]
    for arguments in (
        ["plan", *asked, "--device", "h100"],
        [
            "build",
            *asked,
            "--retriever",
            settings.retriever,
            "--live-proportion",
            "1/3",
            "--out",
            tmp_path / "out",
        ],
    ):
        status, _, err = command(*arguments)
        assert (status, err.count("\n")) == (2, 1)
        assert f"templates file {tmp_path}/none.toml cannot be read" in err
    assert not out.exists()


def test_they_decide_what_is_built(settings: BuildSettings, tmp_path: Path, command: Command) -> None:
    """The same names in another file are the same build, others are refused; `plan` counts by them too."""
    dump, out = tmp_path / "a.xml", tmp_path / "out"
    dump.write_text(
        '<mediawiki xml:lang="it"><siteinfo></siteinfo><page><title>A</title><ns>0</ns><id>1</id><revision>'
        "<id>1</id><text>Si dice {{lingua2|fr|tout court}}.</text></revision></page></mediawiki>"
    )
    one, same, other = (tmp_path / f"{name}.toml" for name in ("one", "same", "other"))
    one.write_text('[it]\nsecond = ["Lingua2"]\n')
    same.write_text('# a comment\n[it]\n\nsecond = ["lingua2"]\n')
    other.write_text('[it]\ndrop = ["Lingua2"]\n')
    asked = dataclasses.replace(settings, sources=(f"mediawiki:{dump}",), templates=str(one))
    build(asked, out)
    (row,) = open_corpus(out).passages(np.arange(1)).to_pylist()
    assert row["text"] == "Si dice tout court."
    assert build(dataclasses.replace(asked, templates=str(same)), out).already
    for wrong in (str(other), None):
        with pytest.raises(errors.MismatchError, match="templates = "):
            build(dataclasses.replace(asked, templates=wrong), out)
    totals = []
    for path in (one, other):
        status, printed, err = command(
            *("plan", "--source", f"mediawiki:{dump}", "--memory-encoder", settings.memory_encoder),
            *("--templates", path, "--device", "h100", "--json"),
        )
        assert status == 0, err
        totals.append(json.loads(printed)["counts"]["text_bytes"])
    assert totals == [len("Si dice tout court."), len("Si dice.")]
