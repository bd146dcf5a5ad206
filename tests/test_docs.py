"""The documents: short sentences, links that lead somewhere, and Python that only names what there is."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
MOST_WORDS = 35

FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
ITEM = re.compile(r"^ *(?:[-*]|\d+\.) ")
# Not words: what inline code says is one thing, of a link its text is read.
INLINE_CODE = re.compile(r"`[^`]*`")
LINK = re.compile(r"\[([^\]]*)\]\(([^)]*)\)")
END_OF_SENTENCE = re.compile(r"(?<=[.!?])[)*\"]*\s+")


def without_code(text: str) -> str:
    return FENCE.sub("", text)


def paragraphs(text: str) -> Iterator[str]:
    """Running text, an item of a list at a time; no code, tables, headings or comments."""
    held: list[str] = []
    was_blank = True
    for line in [*re.sub(r"<!--.*?-->", "", without_code(text), flags=re.DOTALL).splitlines(), ""]:
        code = line.startswith("    ") and (was_blank or not held)
        skipped = not line.strip() or line.lstrip().startswith(("|", "#")) or code
        if skipped or ITEM.match(line):
            if held:
                yield " ".join(held)
            held = []
        if not skipped:
            held.append(ITEM.sub("", line).strip())
        was_blank = not line.strip()


def sentences(text: str) -> Iterator[str]:
    for paragraph in paragraphs(text):
        plain = LINK.sub(r"\1", INLINE_CODE.sub("CODE", paragraph))
        yield from (sentence for sentence in END_OF_SENTENCE.split(plain) if sentence.strip())


def words(sentence: str) -> int:
    return len(re.findall(r"\S*\w\S*", sentence))


def test_the_splitter_sees_what_it_must() -> None:
    text = (
        "# A heading of many words\n\nOne two `three four` five. Six [seven\neight](x.md) nine!\n\n"
        "- Ten eleven: twelve\n  thirteen 1. fourteen.\n- Fifteen 1.5 GB.\n\n    code is not read\n\n"
        "| tables | neither |\n\n```sh\nnor this. Or this.\n```\nLast one"
    )
    assert [words(sentence) for sentence in sentences(text)] == [4, 4, 5, 1, 3, 2]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_sentences_are_short(path: Path) -> None:
    found = [(words(one), one) for one in sentences(path.read_text("utf-8"))]
    assert len(found) > 5
    too_long = [f"{count} words: {one}" for count, one in found if count > MOST_WORDS]
    assert too_long == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_within_the_project_lead_somewhere(path: Path) -> None:
    for _, target in LINK.findall(without_code(path.read_text("utf-8"))):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            document = path.parent / file if file else path
            assert document.exists(), f"{path.name} links to {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", document.read_text("utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w\- ]", "", one).strip().lower().replace(" ", "-") for one in headings}
                assert anchor in anchors, f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_in_the_documents_imports_what_there_is(path: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    inside = hasattr(module, alias.name) or find_spec(f"{node.module}.{alias.name}")
                    assert inside, f"{path.name}: from {node.module} import {alias.name}"
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "memcorpus"
            ):
                known = importlib.import_module("memcorpus").__all__
                there = node.attr in known or find_spec(f"memcorpus.{node.attr}")
                assert there, f"{path.name}: {node.attr}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_paths_in_the_documents_are_there(path: Path) -> None:
    """Files of this project that a document names in `code`; those with a * or < stand for many."""
    for code in re.findall(r"`([^`\n]+)`", without_code(path.read_text("utf-8"))):
        if re.fullmatch(r"(?:pipeline|encoders|storage|retrieval|tests|examples|docs)/[\w./]+", code):
            assert (ROOT / code).exists(), f"{path.name} names {code}"
