"""Every command and every Python block of README and docs is run, or says above itself why not.

A block that is not run stands below `<!-- not run: REASON -->`. Its `memcorpus` commands are parsed all the
same: an option that is gone is found. Names that readers put their own in place of are put in place here.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from examples.miniwiki.export import write_dump
from examples.miniwiki.shipped import GLIMMER_NAME, GTR_NAME
from examples.miniwiki.tasks import write_tasks
from pipeline.cli import main as cli
from tests import small_encoders
from tests.commands import Command

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAINED = ROOT / "examples" / "miniwiki" / "trained"
BLOCK = re.compile(r"(?:<!-- not run: (.+?) -->\n)?^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Commands that are parsed, and not run, wherever they stand.
PARSED_ALONE = {"train": "hours", "serve": "until it is stopped", "doctor": "a test of its own runs it"}
# Where one is left out on purpose.
ELLIPSIS = "..."


@dataclass(frozen=True)
class Block:
    document: Path
    language: str
    text: str
    not_run: str | None

    @property
    def lines(self) -> list[str]:
        """The commands of a shell block, continued lines joined."""
        joined = re.sub(r"\\\n\s*", " ", self.text)
        return [line for line in joined.splitlines() if line.strip()]


def blocks(path: Path) -> Iterator[Block]:
    for reason, language, text in BLOCK.findall(path.read_text("utf-8")):
        yield Block(path, language, text, reason or None)


def parsed(line: str) -> str | None:
    """The name of a `memcorpus` command, after click has parsed the line; None for anything else.

    Raises:
        click.ClickException: there is no such command or option, or an argument is missing.
    """
    words = shlex.split(line, comments=True)
    program = Path(words[0]).name if words else ""
    if program != "memcorpus" or ELLIPSIS in words or "$(" in line:
        return None
    context: click.Context = click.Context(cli.cli, info_name="memcorpus")
    command: click.Command = cli.cli
    arguments = words[1:]
    while isinstance(command, click.Group):
        name, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command = found
        context = click.Context(found, parent=context, info_name=name)
    with context:
        command.parse_args(context, list(arguments))
    return words[1]


def test_the_reader_of_blocks_sees_what_it_must(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_text(
        "a\n\n```sh\nmemcorpus info corpus \\\n    --json  # what\nls\n```\n\n<!-- not run: why -->\n"
        "```python\nx\n```\n\n```\nno\n```\n"
    )
    first, second = blocks(path)
    assert [parsed(line) for line in first.lines] == ["info", None]
    assert (second.language, second.text, second.not_run) == ("python", "x\n", "why")
    for wrong in ("memcorpus inform corpus", "memcorpus info corpus --jsn", "memcorpus info"):
        with pytest.raises(click.ClickException):
            parsed(wrong)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_ours_has_the_options_it_is_shown_with(path: Path) -> None:
    for block in blocks(path):
        for line in block.lines if block.language == "sh" else ():
            parsed(line)


def test_what_is_not_run_says_why_and_is_little() -> None:
    found = [block for path in DOCUMENTS for block in blocks(path)]
    left = [block for block in found if block.not_run is not None]
    print(f"{len(found)} blocks, {len(found) - len(left)} are run")
    assert all(len(block.not_run or "") > 5 for block in left)
    assert len(found) - len(left) >= 25
    assert len(left) <= 26
    for block in left:
        assert "not run" not in block.text


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what documents name: a dump, models, a corpus, a reader, tasks, hidden states."""
    folder = tmp_path_factory.mktemp("workshop")
    write_dump(folder, articles=160, pages_per_stream=20)
    (folder / "later").mkdir()
    write_dump(folder / "later", articles=170, pages_per_stream=20)
    (folder / "run").mkdir()
    shutil.copytree(TRAINED / GLIMMER_NAME, folder / "run" / "reader")
    shutil.copytree(TRAINED / GLIMMER_NAME, folder / "run-pq" / "reader")
    shutil.copytree(TRAINED / GLIMMER_NAME, folder / "step-2000")
    weights = folder / "step-2000" / "model.safetensors"
    moved = {name: value * np.float32(1.01) for name, value in load_file(weights).items()}
    save_file(moved, weights, metadata={"format": "pt"})
    write_tasks(folder / "all")
    tasks = (folder / "all" / "qa-dev.jsonl").read_text().splitlines()[:6]
    for name in ("nq-dev-kilt.jsonl", "TASKS/nq-dev-kilt.jsonl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("\n".join(tasks) + "\n")
    (folder / "PREDICTIONS").mkdir()
    small_encoders.make_encoder(folder / "encoder", "modernbert")
    small_encoders.make_multi_vector(folder / "colbert", kind="modernbert")
    hidden = folder / "hidden_states"
    hidden.mkdir()
    for i in range(40):
        values = np.random.default_rng(i).normal(size=(9, 2, 8)).astype(np.float32)
        save_file({"hidden_states": values, "token_ids": np.arange(9)}, hidden / f"hs_{i}.safetensors")
    return folder


def replaced(text: str, folder: Path) -> str:
    """With what is there in place of what a user has."""
    dump = next(folder.glob("*.xml.bz2"))
    later = next((folder / "later").glob("*.xml.bz2"))
    for before, after in (
        (r"mediawiki:(\.\.\.|enwiki-20270101-pages-articles-multistream\.xml\.bz2)", f"mediawiki:{later}"),
        (r"enwiki-latest-pages-articles-multistream\.xml\.bz2|\bDUMP\b", str(dump)),
        (r"sentence-transformers/gtr-t5-base|\bGTR\b", str(TRAINED / GTR_NAME)),
        (r"google/t5-v1_1-base|\bMODEL\b", str(folder / "run" / "reader")),
        (r"answerdotai/ModernBERT-base", str(folder / "encoder")),
        (r"lightonai/GTE-ModernColBERT-v1", str(folder / "colbert")),
        (r"(live-proportion |live_proportion=\")1/3", r"\g<1>1/2"),
    ):
        text = re.sub(before, after, text)
    # The default α wants a model of 12 layers; the demo's has four.
    return re.sub(r"^(memcorpus plan --source .*)$", r"\1 --live-proportion 1/2", text, flags=re.MULTILINE)


PRELUDE = """
import numpy as np, ml_dtypes, memcorpus
i, ids, next_ids, batches_of_ids, predictions = 3, [1, 2], [3], [[1, 2], [3]], []
buffer = np.empty((1000, 64), ml_dtypes.bfloat16)
if __name__ == "__main__":
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_it_runs(path: Path, workshop: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands first, in order, then the Python of the document, as one program."""
    monkeypatch.chdir(workshop)
    run = [block for block in blocks(path) if block.not_run is None]
    if not run:
        pytest.skip("it has no blocks that are run")
    # Each document finds the corpus as it was built: commands of another one change it.
    shutil.rmtree(workshop / "corpus", ignore_errors=True)
    if not (workshop / "built").exists():
        build = next(
            line
            for block in blocks(ROOT / "docs" / "operations.md")
            for line in block.lines
            if parsed(line) == "build"
        )
        status, _, err = command(*shlex.split(replaced(build, workshop))[1:])
        assert status == 0, err
        # As the README does after training: the reader has limits and a template of its own.
        status, _, err = command("reencode", "corpus", "--memory-encoder", "run/reader", "--use")
        assert status == 0, err
        shutil.copytree(workshop / "corpus", workshop / "built")
    else:
        shutil.copytree(workshop / "built", workshop / "corpus")
    for block in run:
        for line in block.lines if block.language == "sh" else ():
            assert line.startswith("memcorpus "), f"{path.name}: how is this run? {line}"
            if parsed(line) not in PARSED_ALONE:
                status, _, err = command(*shlex.split(replaced(line, workshop), comments=True)[1:])
                assert status == 0, (line, err)
                predictions = workshop / "predictions.jsonl"
                if predictions.exists():
                    shutil.copy(predictions, workshop / "PREDICTIONS" / "nq-dev-kilt.jsonl")
    source = "\n".join(block.text for block in run if block.language == "python")
    if source:
        version = next(iter((workshop / "corpus" / "memory").iterdir())).name
        program = replaced(PRELUDE + source, workshop).replace("/VERSION/", f"/{version}/")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            cwd=workshop,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
