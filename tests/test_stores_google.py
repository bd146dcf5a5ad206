"""Corpora in Google's object store, by its protocol: puts on a generation, reads by its JSON API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.jobs import build as build_module
from retrieval import open_corpus
from storage import errors, object_store
from storage.object_store import ObjectStore, TakenError
from storage.stored_folder import StoredFolder, open_for_writing
from tests import gcs_server
from tests.gcs_server import BUCKET, Server
from tests.object_store import files, without_times

Run = Callable[..., tuple[int, str, str]]
NAME = "built/wiki"
URL = f"gs://{BUCKET}/{NAME}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with gcs_server.serving() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield server


def content(server: Server, prefix: str) -> dict[str, bytes]:
    return {
        name.removeprefix(prefix): one.data for name, one in server.objects.items() if name.startswith(prefix)
    }


def test_a_put_on_a_state_is_a_put_on_a_generation(server: Server) -> None:
    store = ObjectStore(f"gs://{BUCKET}/states")
    first = store.put_if("corpus.json", b"first", None)
    assert server.objects["states/corpus.json"].metadata == {"memcorpus-writer": first.writer}
    with pytest.raises(TakenError):
        store.put_if("corpus.json", b"other", None)
    read = store.get("corpus.json")
    assert read is not None
    assert (read.data, read.writer) == (b"first", first.writer)
    second = store.put_if("corpus.json", b"first", read.state)
    # The same bytes have the same e-tag: the generation alone tells that another has put them since.
    with pytest.raises(TakenError):
        store.put_if("corpus.json", b"third", read.state)
    assert store.put_if("corpus.json", b"third", second.state).data == b"third"
    assert content(server, "states/") == {"corpus.json": b"third"}


def test_listings_ranges_copies_and_parts(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore(f"gs://{BUCKET}/odd names/a+b")
    names = [f"rows/{number:02}.bin" for number in range(3 * gcs_server.PAGE)]
    for number, name in enumerate(names):
        store.put(name, bytes(range(number)))
    assert [(found.name, found.bytes) for found in store.listed("rows/")] == [
        (name, number) for number, name in enumerate(names)
    ]
    assert store.children("") == ["rows"]
    assert store.range(names[9], 3, 4) == bytes(range(3, 7))
    store.copy(names[5], "elsewhere/5")
    store.delete([names[0], "none", *names[2:]])
    assert {found.name for found in store.listed("")} == {names[1], "elsewhere/5"}
    with pytest.raises(errors.DamagedError, match="none is missing"):
        store.copy("none", "there")
    monkeypatch.setattr(object_store, "BLOCK_BYTES", 5 << 20)
    monkeypatch.setattr(object_store, "WHOLE_BYTES", 6 << 20)
    large = np.random.default_rng(0).bytes((11 << 20) + 3)
    (tmp_path / "large").write_bytes(large)
    store.put_file("large", tmp_path / "large")
    assert server.objects["odd names/a+b/large"].data == large
    assert store.get_file("large", tmp_path / "back", len(large))
    assert (tmp_path / "back").read_bytes() == large


@pytest.mark.slow
def test_a_corpus_there_is_the_corpus_here(
    server: Server, settings: Any, corpus: Path, corpus_copy: Path, command: Run
) -> None:
    """Built, verified, recoded, used, collected and searched: the same content after each step.

    A second job is refused.
    """
    assert not build_module.build(settings, open_for_writing(URL)).already
    assert without_times(content(server, f"{NAME}/")) == without_times(files(corpus))
    assert command("verify", URL, "--full")[0] == 0
    for arguments in (
        ("reencode", "--from", "current", "--codec", "int8", "--as", "small", "--use"),
        ("use", "--forget", "--alias", "previous"),
        ("gc", "--yes"),
    ):
        for where in (URL, corpus_copy):
            status, out, err = command(arguments[0], where, *arguments[1:])
            assert status == 0, (out, err)
        assert without_times(content(server, f"{NAME}/")) == without_times(files(corpus_copy)), arguments
    there, here = open_corpus(URL), open_corpus(corpus_copy)
    ids = [3, 70, 3]
    np.testing.assert_array_equal(there.memory().fetch(ids).values, here.memory().fetch(ids).values)
    assert there.passages(ids) == here.passages(ids)
    vectors = np.random.default_rng(0).normal(size=(3, here.vectors_card.layout.dim)).astype(np.float32)
    np.testing.assert_array_equal(there.search(vectors, 4).passage_ids, here.search(vectors, 4).passage_ids)
    with StoredFolder(URL).alone():
        status, _, err = command("gc", URL, "--yes")
    assert (status, err.count("\n")) == (2, 1)
    assert "another job is at work in gs://" in err
