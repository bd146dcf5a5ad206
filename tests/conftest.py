"""A small dump, small models and a built corpus, made once a session; tests must not change them."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from encoders.memory_spec import MemorySpec
from examples.miniwiki.export import DumpTruth, write_dump
from storage import native
from storage.native import building
from tests import editions

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def no_handler_of_a_stream_that_ends() -> Iterator[None]:
    """A library that logs while it is imported, Beam's for one, leaves the root logger a handler on the
    stream of the test at hand, which is closed with it."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler and handler not in before:
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real dumps, where the developers' folder of them is there."""
    if not SHARED.is_dir():
        pytest.skip(f"real data are not in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def native_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of native code, compiled anew."""
    folder = tmp_path_factory.mktemp("native")
    try:
        building.compiler()
    except building.BuildError as e:
        pytest.skip(str(e))
    return building.build(folder)


@pytest.fixture(params=native.INSTRUCTIONS, scope="session")
def decoders(request: pytest.FixtureRequest, native_library: Path) -> native.Library:
    """Its kernels, for each set of instructions."""
    found = native.Library(native_library, request.param)
    if found.instructions != request.param:
        pytest.skip(f"this processor has no {request.param}")
    return found


@pytest.fixture(scope="session")
def dump(tmp_path_factory: pytest.TempPathFactory) -> DumpTruth:
    return write_dump(tmp_path_factory.mktemp("dump"), articles=120, pages_per_stream=20)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `t5` (6 layers) and `gtr`, tiny and random."""
    from tests import small_models

    folder = tmp_path_factory.mktemp("models")
    small_models.make_t5_folder(folder / "t5", layers=6, seed=1)
    small_models.make_gtr_folder(folder / "gtr", seed=2)
    return folder


@pytest.fixture(scope="session")
def even_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JSON lines of three shards of 64 passages that are all as long: a build of it compiles few programs."""
    path = tmp_path_factory.mktemp("even") / "even.jsonl"
    text = "The river rises in the hills and flows into the sea."
    rows = ({"id": i, "title": f"T{i:03d}", "text": text} for i in range(192))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def settings(dump: DumpTruth, models: Path) -> Any:
    """What the shared corpus is built with; several splits and shards."""
    from pipeline.components.settings import BuildSettings

    return BuildSettings(
        sources=(f"mediawiki:{dump.path}",),
        retriever=str(models / "gtr"),
        memory_encoder=str(models / "t5"),
        memory=MemorySpec(compute_dtype="float32"),
        shard_passages=64,
        split_bytes=20_000,
    )


@pytest.fixture(scope="session")
def corpus(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built corpus, for reading."""
    from tests.jobs import build

    return build(settings, tmp_path_factory.mktemp("built") / "corpus").corpus.root


@pytest.fixture(scope="session")
def coded(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built corpus with a version in each of `CODECS`, under the name `as-CODEC`; for reading."""
    from tests.second_version import CODECS, add_version

    root = Path(shutil.copytree(corpus, tmp_path_factory.mktemp("coded") / "corpus"))
    for codec in CODECS:
        add_version(root, codec, alias=f"as-{codec}")
    return root


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary of its own: not the memory encoder's, nor the retriever's."""
    from tests import small_models

    folder = tmp_path_factory.mktemp("tokenizer")
    small_models.make_tokenizer(folder, vocab=160, extra_ids=3)
    return folder


@pytest.fixture
def corpus_copy(corpus: Path, tmp_path: Path) -> Path:
    """A built corpus that the test may damage."""
    return Path(shutil.copytree(corpus, tmp_path / "corpus"))


@pytest.fixture(scope="session")
def first_edition() -> editions.Edition:
    return editions.first(1, 60)


@pytest.fixture(scope="session")
def live_settings(models: Path, first_edition: editions.Edition, tmp_path_factory: Any) -> Any:
    from pipeline.components.settings import BuildSettings

    source = editions.write(first_edition, tmp_path_factory.mktemp("editions") / "first.jsonl")
    return BuildSettings(
        sources=(source,),
        retriever=str(models / "gtr"),
        memory_encoder=str(models / "t5"),
        memory=MemorySpec(compute_dtype="float32"),
        shard_passages=64,
        split_bytes=4000,
    )


@pytest.fixture(scope="session")
def _live(live_settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests import jobs

    return jobs.build(live_settings, tmp_path_factory.mktemp("live") / "corpus").corpus.root


@pytest.fixture
def live(_live: Path, tmp_path: Path) -> Path:
    """A corpus of the first edition."""
    return Path(shutil.copytree(_live, tmp_path / "corpus"))


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs `memcorpus ARGUMENTS` in this process: (status, stdout, stderr)."""
    from pipeline.cli import main as cli

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["memcorpus", *map(str, arguments)])
        capfd.readouterr()
        status = cli.run()
        out, err = capfd.readouterr()
        return status, out, err

    return run
