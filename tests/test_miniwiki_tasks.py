"""The miniwiki's task files and invented entities: their answers, their falsehoods, their splits."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from examples import miniwiki
from examples.miniwiki import articles, relations, tables
from examples.miniwiki.__main__ import main
from examples.miniwiki.questions import asked_of, subject_of
from examples.miniwiki.tasks import SPLITS, TASKS
from pipeline.readers import kilt
from pipeline.text import passages, sources
from pipeline.text.articles import Article

INVENTED = 700
Examples = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    miniwiki.write_tasks(folder, invented=INVENTED)
    return folder


@pytest.fixture(scope="module")
def files(folder: Path) -> Examples:
    return {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in folder.iterdir()
    }


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, list[str]]]:
    """Page id -> title and passages, read from the dump as a build reads it."""
    dump = miniwiki.write_dump(tmp_path_factory.mktemp("dump"), invented=INVENTED)
    assert dump.articles == miniwiki.count_articles() + INVENTED
    return {
        page.page_id: (page.title, [passage.text for passage in passages.passages(page)])
        for split in sources.open_source(f"mediawiki:{dump.path}").splits(1 << 20)
        for page in sources.read_split(split)
        if isinstance(page, Article)
    }


def everything(files: Examples) -> list[dict[str, Any]]:
    return [example for examples in files.values() for example in examples]


def test_every_task_has_its_files(files: Examples) -> None:
    assert set(files) == {f"{task}-{split}" for task in TASKS for split in SPLITS}
    assert min(map(len, files.values())) > 200
    ids = [example["id"] for example in everything(files)]
    assert len(set(ids)) == len(ids)


def test_the_project_reads_them(folder: Path, files: Examples) -> None:
    for path in folder.iterdir():
        read = list(kilt.read_examples(path))
        assert [(e.id, e.input) for e in read] == [(e["id"], e["input"]) for e in files[path.stem]]
        assert all(
            e.answers == tuple(o["answer"] for o in g["output"])
            for e, g in zip(read, files[path.stem], strict=True)
        )


def test_answers_stand_in_the_passages_of_their_provenance(
    files: Examples, dumped: dict[str, tuple[str, list[str]]]
) -> None:
    checked = 0
    for name, examples in files.items():
        for example in examples:
            for output in example["output"]:
                (page,) = output["provenance"]
                title, texts = dumped[page["wikipedia_id"]]
                assert title == page["title"] == example["meta"]["entity"]
                if name.startswith("facts"):
                    assert output["answer"] in ("SUPPORTS", "REFUTES")
                else:
                    assert any(output["answer"] in f"{title} {text}" for text in texts), example
                    assert len(output["answer"].split()) <= 5
                    checked += 1
    assert checked > 10_000


def test_questions_do_not_hold_their_answers(files: Examples) -> None:
    for split in SPLITS:
        for example in files[f"qa-{split}"]:
            words = set(re.findall(r"\w+", example["input"]))
            for output in example["output"]:
                assert not set(re.findall(r"\w+", output["answer"])) <= words, example


def test_claims_are_balanced_and_the_false_ones_are_false(files: Examples) -> None:
    by_title = {entity.title: entity for entity in tables.entities()}
    by_title |= {entity.title: entity for entity in miniwiki.invented_entities(INVENTED)}
    held: dict[tuple[type, str, str], int] = Counter(
        (type(entity), attribute, value)
        for entity in by_title.values()
        for attribute, (values, _) in asked_of(entity).items()
        for value in values
    )
    for split in SPLITS:
        claimed: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        for example in files[f"facts-{split}"]:
            entity, attribute = by_title[example["meta"]["entity"]], example["meta"]["attribute"]
            subject = subject_of(entity)
            form = relations.RELATIONS[attribute].claim.format(
                subject=subject, Subject=subject[0].upper() + subject[1:], value="@"
            )
            before, after = form.split("@")
            text = example["input"]
            assert text.startswith(before)
            assert text.endswith(after)
            value = text[len(before) : len(text) - len(after)]
            assert held[type(entity), attribute, value]
            claimed[entity.title, attribute][example["output"][0]["answer"]] = value
        for (title, attribute), pair in claimed.items():
            own = asked_of(by_title[title])[attribute][0]
            assert set(pair) == {"SUPPORTS", "REFUTES"}
            assert pair["SUPPORTS"] in own
            assert pair["REFUTES"] not in own
            if re.fullmatch(r"-?[\d,.]+", own[0]) and attribute != "number":
                true, false = (float(value.replace(",", "")) for value in pair.values())
                assert abs(true - false) > min(10, 0.1 * abs(true)), pair


@pytest.mark.parametrize(
    ("values", "a", "b", "excluded"),
    [
        ("name", "franc", "Swiss franc", False),
        ("name", "Paris", "Oslo", True),
        ("code", "+1", "+11", True),
        ("code", "Au", "Au", False),
        ("year", "1774", "1772", False),
        ("year", "1774", "1801", True),
        ("quantity", "3,770", "3,650", False),
        ("quantity", "-7.2", "-38.8", True),
        ("quantity", "1.3 million", "13 million", True),
    ],
)
def test_values_that_exclude_each_other(values: Any, a: str, b: str, excluded: bool) -> None:
    assert relations.exclude(values, a, b) is relations.exclude(values, b, a) is excluded


def test_false_names_are_nobody_elses_and_of_other_continents(files: Examples) -> None:
    holders = defaultdict(list)
    for river in tables.RIVERS:
        holders[river.mouth].append(river)
    by_title = {river.title: river for river in tables.RIVERS}
    seen = 0
    for split in SPLITS:
        for example in files[f"facts-{split}"]:
            meta = example["meta"]
            if meta["attribute"] == "mouth" and not meta["invented"]:
                (holder,) = holders[re.search(r"flows into the (.*)\.", example["input"])[1]]
                river = by_title[meta["entity"]]
                seen += example["output"][0]["answer"] == "REFUTES"
                assert (holder is river) == (example["output"][0]["answer"] == "SUPPORTS")
                assert holder is river or holder.continent != river.continent
    assert seen > 5


def test_claims_alone_do_not_tell_whether_they_are_true(files: Examples) -> None:
    def words(example: dict[str, Any]) -> set[str]:
        return set(re.findall(r"\w+", example["input"]))

    # Naive Bayes over words: what a reader can learn that never looks at a passage.
    seen: dict[str, Counter[str]] = {"SUPPORTS": Counter(), "REFUTES": Counter()}
    for example in files["facts-train"]:
        seen[example["output"][0]["answer"]].update(words(example))
    examples = files["facts-dev"] + files["facts-test"]
    right = 0
    for example in examples:
        odds = sum(
            math.log((seen["SUPPORTS"][word] + 1) / (seen["REFUTES"][word] + 1)) for word in words(example)
        )
        right += (odds > 0) == (example["output"][0]["answer"] == "SUPPORTS")
    assert len(examples) > 600
    assert 0.35 < right / len(examples) < 0.55


def test_splits_are_by_entity(files: Examples) -> None:
    asked: dict[str, set[str]] = defaultdict(set)
    inputs: dict[str, set[str]] = defaultdict(set)
    for name, examples in files.items():
        for example in examples:
            asked[example["meta"]["entity"]].add(name.split("-")[1])
            inputs[name.split("-")[1]].add(example["input"])
            if example["meta"]["invented"]:
                assert name.endswith("train")
    assert all(len(splits) == 1 for splits in asked.values())
    assert all(splits == {tables.split_of(e.title)} for e in tables.entities() if (splits := asked[e.title]))
    assert not inputs["train"] & (inputs["dev"] | inputs["test"])
    assert not inputs["dev"] & inputs["test"]
    # One wording of a question in dev and test, several in train.
    for split, several in (("train", True), ("dev", False), ("test", False)):
        facts = Counter(
            (example["meta"]["entity"], example["meta"]["attribute"]) for example in files[f"qa-{split}"]
        )
        assert (max(facts.values()) > 1) is several


def test_invented_entities_are_new_and_of_every_kind() -> None:
    made = list(miniwiki.invented_entities(3000, seed=1))
    assert len({entity.title.lower() for entity in made}) == 3000
    assert {type(entity) for entity in made} == {type(entity) for entity in tables.entities()}
    real = {page.title.lower() for page in miniwiki.pages(broken=False)}
    real |= {country.capital.lower() for country in tables.COUNTRIES if country.capital}
    names = {entity.title.lower() for entity in made}
    names |= {entity.capital.lower() for entity in made if isinstance(entity, tables.Country)}
    assert not names & real
    assert made[:50] == list(miniwiki.invented_entities(50, seed=1))
    assert made[:50] != list(miniwiki.invented_entities(50, seed=2))


def test_articles_about_invented_entities_read_like_the_others() -> None:
    leftovers = re.compile(r"\[\[|\]\]|\{\{|\}\}|<[a-z/!]|''|\bNone\b|  |\.\.| 0 places")
    lengths: dict[bool, list[int]] = {True: [], False: []}
    for made_up, rows in ((False, tables.entities()), (True, miniwiki.invented_entities(1500))):
        for entity in rows:
            text = "\n".join(text for _, text in articles.article_of(entity).plain_sections())
            assert not leftovers.search(text), text
            lengths[made_up].append(len(text.split()))
            if made_up:
                assert all(any(v in text or v.replace(",", "") in text for v in values[0])
                           for values in asked_of(entity).values()), entity  # fmt: skip
    real, invented = (sum(found) / len(found) for found in (lengths[False], lengths[True]))
    assert 0.6 < invented / real < 1.4


def test_invented_articles_move_no_page_id(tmp_path: Path) -> None:
    alone, more = miniwiki.page_ids(seed=3), miniwiki.page_ids(seed=3, invented=40)
    assert len(alone) == miniwiki.count_articles()
    assert len(more) == len(alone) + 40
    assert {title: more[title] for title in alone} == alone
    xml = miniwiki.write_dump(tmp_path / "x.xml", form="xml", seed=3, invented=40).path.read_text()
    found = dict(re.findall(r"<title>(.*)</title>\n    <ns>0</ns>\n    <id>(\d+)</id>\n    <rev", xml))
    assert all(found[title] == str(page_id) for title, page_id in more.items() if "&" not in title)


def test_another_process_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    # Hash randomization must not reach the output.
    command = [sys.executable, "-m", "examples.miniwiki", "tasks", str(tmp_path)]
    said = subprocess.run(
        [*command, "--invented", str(INVENTED)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env={"PYTHONHASHSEED": "77"},
    ).stdout
    assert json.loads(said)["qa-train"] == str(tmp_path / "qa-train.jsonl")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_bad_arguments_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", str(tmp_path / "out"), "--invented", "-1"]) == 2
    assert capsys.readouterr().err == "miniwiki: invented is -1, wanted at least 0\n"
    assert list(tmp_path.iterdir()) == []
