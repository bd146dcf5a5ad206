"""A client is a corpus: what it gives is the folder's, bit for bit, with the same errors."""

from __future__ import annotations

import functools
import http.server
import json
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memcorpus
from pipeline.service.settings import Limits
from retrieval import open_corpus, service_client, wire
from retrieval.corpus import Corpus
from retrieval.served_corpus import ServedCorpus
from storage import errors
from tests import jobs
from tests.second_version import CODECS, add_version
from tests.serving_http import Served, serving

ROOT = Path(__file__).parents[1]
IDS = [5, 130, 6, 7, 5, 379, 0]


@pytest.fixture(scope="module")
def served(coded: Path) -> Iterator[Served]:
    # Small limits: what is asked for at once is asked in several requests.
    limits = Limits(ids=150, queries=20, answer_bytes=1 << 21)
    with serving(coded, limits=limits) as found:
        yield found


@pytest.fixture(scope="module")
def local(coded: Path) -> Corpus:
    return open_corpus(coded)


@pytest.fixture(scope="module")
def remote(served: Served) -> Corpus:
    return memcorpus.open(served.url)


def same(a: Any, b: Any) -> None:
    assert (a.dtype, a.shape, type(a)) == (b.dtype, b.shape, type(b))
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("codec", [None, *CODECS])
def test_memory_is_the_folders_bit_for_bit(local: Corpus, remote: Corpus, codec: str | None) -> None:
    version = None if codec is None else f"as-{codec}"
    here, there = local.memory(version), remote.memory(version)
    for name in ("version", "fingerprint", "passages", "width", "dtype"):
        assert getattr(here, name) == getattr(there, name)
    assert here.card == there.card
    everything = np.random.default_rng(1).permutation(np.repeat(np.arange(len(local)), 2))
    for ids in (IDS, [], everything, [3]):
        for tokens in (None, slice(2, 9), slice(-3, None), slice(5, 5)):
            for decode in (True, False) if len(ids) < 10 else (tokens is None,):
                a = here.fetch(ids, tokens=tokens, decode=decode)
                b = there.fetch(ids, tokens=tokens, decode=decode)
                same(a.values, b.values)
                same(a.offsets, b.offsets)
                same(a.passage_ids, b.passage_ids)
    same(here.tokens(everything), there.tokens(everything))
    same(here.fetch(IDS).padded(100)[0], there.fetch(IDS).padded(100)[0])
    out = np.zeros((5000, here.width), here.dtype)
    given = there.fetch(IDS, out=out)
    assert np.shares_memory(given.values, out)
    same(given.values, here.fetch(IDS).values)
    same(there.prefetch(IDS).result().values, here.fetch(IDS).values)
    for a, b in zip(here.batches([IDS, [1, 2]]), there.batches([IDS, [1, 2]]), strict=True):
        same(a.values, b.values)


def test_passages_vectors_and_searches_are_the_folders(local: Corpus, remote: Corpus) -> None:
    assert isinstance(remote, ServedCorpus)
    assert len(remote) == len(local)
    assert remote.counts == local.counts
    for ids in (IDS, [], range(len(local))):
        assert remote.passages(ids).equals(local.passages(ids))
    same(remote.vectors().take(np.array(IDS)), local.vectors().take(np.array(IDS)))
    same(remote.vectors().read(3, 90), local.vectors().read(3, 90))
    same(np.concatenate([b for _, b in remote.vectors().batches(100)]), local.vectors().read(0, len(local)))
    assert (remote.vectors_card, remote.index_card) == (local.vectors_card, local.index_card)
    queries = np.random.default_rng(2).normal(size=(19, 24)).astype(np.float32)
    a, b = local.search(queries, 9), remote.search(queries, 9)
    same(a.passage_ids, b.passage_ids)
    same(a.scores, b.scores)
    same(local.search("a river", 5).passage_ids, remote.search("a river", 5).passage_ids)
    same(local.search("a river", 5).scores, remote.search("a river", 5).scores)
    many = [f"river {i}" for i in range(45)]
    np.testing.assert_allclose(local.search(many, 3).scores, remote.search(many, 3).scores, atol=2e-6)
    assert remote.search([], 4).passage_ids.shape == (0, 4)
    documents = [corpus.documents(IDS) for corpus in (local, remote)]
    same(documents[0].firsts, documents[1].firsts)
    same(documents[0].stops, documents[1].stops)
    same(local.continuations(IDS), remote.continuations(IDS))


def test_texts_are_read_here_by_a_retriever_that_is_named(
    served: Served, local: Corpus, models: Path
) -> None:
    opened = memcorpus.open(served.url, retriever=str(models / "gtr"))
    here, there = local.search("a river", 5), opened.search("a river", 5)
    same(here.passage_ids, there.passage_ids)
    np.testing.assert_allclose(here.scores, there.scores, atol=2e-6)
    assert opened.retriever() is opened.retriever()  # loaded once


def message(call: Any) -> tuple[type, str]:
    with pytest.raises(errors.CorpusError) as caught:
        call()
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize(
    "ask",
    [
        lambda corpus: corpus.passages([1, 380, -1]),
        lambda corpus: corpus.passages([1.5]),
        lambda corpus: corpus.search("a", 381),
        lambda corpus: corpus.search("a", 0),
        lambda corpus: corpus.search([[1.0, 2.0]], 3),
        lambda corpus: corpus.search(np.full((1, 24), np.nan), 3),
        lambda corpus: corpus.memory("nope"),
        lambda corpus: corpus.memory(check="sometimes"),
        lambda corpus: corpus.memory().fetch([999]),
        lambda corpus: corpus.memory().fetch([[1]]),
        lambda corpus: corpus.memory().fetch([1], tokens=slice(0, 9, 2)),
        lambda corpus: corpus.memory().fetch([1], out=np.zeros((1, 1))),
        lambda corpus: corpus.memory().require_encoder("0" * 64),
        lambda corpus: corpus.tokens([1]) if not isinstance(corpus, ServedCorpus) else corpus.tokens([999]),
    ],
)
def test_errors_are_the_folders(local: Corpus, remote: Corpus, ask: Any) -> None:
    here, there = message(lambda: ask(local)), message(lambda: ask(remote))
    if "no tokens" not in here[1]:
        assert here == there


def test_what_needs_the_folder_says_so(remote: Corpus) -> None:
    asked: list[Any] = [
        lambda: remote.root,
        lambda: remote.folder.run(),
        lambda: remote.folder.bytes_on_disk(),
        lambda: remote.open_index(),
        lambda: remote.neighbours(),
        lambda: remote.folder.store("x"),
        lambda: remote.folder.alone(),
    ]
    for ask in asked:
        with pytest.raises(errors.CorpusError, match="is a service"):
            ask()


def test_a_reader_of_another_encoder_is_refused(remote: Corpus) -> None:
    """The demo's reader has another memory encoder than the one that wrote this memory."""
    from examples.miniwiki import demo, readers
    from pipeline.readers.answers import QuestionAnswerer

    with pytest.raises(errors.MismatchError, match="re-encode the corpus"):
        QuestionAnswerer(remote, demo.MODELS / readers.GLIMMER_NAME)


def test_it_stays_with_its_version(corpus_copy: Path) -> None:
    with serving(corpus_copy, follow_seconds=0.05) as served:
        opened = memcorpus.open(served.url)
        reader = opened.memory()
        one = np.array(reader.fetch(IDS).values)
        name = add_version(corpus_copy, "int8", alias="small")
        jobs.use(corpus_copy, "small")
        served.service.states.look()
        assert memcorpus.open(served.url).memory().version == name
        assert opened.memory().version == reader.version
        assert np.array_equal(reader.fetch(IDS).values, one)
        # And when it is gone, an error says it.
        served.service.states.take(None).let_go(float("inf"))
        jobs.forget(corpus_copy, "previous")
        jobs.collect(corpus_copy)
        served.service.states.look()
        with pytest.raises(errors.CorpusError, match=r"no memory version|has been removed"):
            reader.fetch(IDS)


def test_a_token_and_other_addresses(corpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = "0123456789abcdef-token"
    monkeypatch.delenv(wire.TOKEN, raising=False)
    with serving(corpus, token=token) as served:
        with pytest.raises(errors.CorpusError, match="wants its token"):
            memcorpus.open(served.url)
        with pytest.raises(errors.CorpusError, match="wants its token"):
            memcorpus.open(served.url, token="another-token-of-20")
        assert memcorpus.open(served.url, token=token).memory().fetch([1]).values.any()
        monkeypatch.setenv(wire.TOKEN, token)
        assert memcorpus.open(served.url + "/").passages([1]).num_rows == 1
    monkeypatch.setattr(service_client, "FIRST_WAIT_SECONDS", 0.01)
    with pytest.raises(errors.UnreadableError, match="cannot be asked: Connection refused"):
        memcorpus.open(served.url)
    for url in ("http://", "http://a:b", "https://[1"):
        with pytest.raises(errors.CorpusError, match="no address of a service"):
            memcorpus.open(url)


class Files(http.server.SimpleHTTPRequestHandler):
    """A plain web server with ranges, as TensorStore reads them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = Path(self.directory) / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data, status = path.read_bytes(), 200
        ranged = self.headers.get("Range", "")
        if ranged.startswith("bytes="):
            first, _, last = ranged.removeprefix("bytes=").partition("-")
            data, status = data[int(first) : int(last) + 1 if last else None], 206
        self.send_response(status)
        if status == 206:
            whole = path.stat().st_size
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(data) - 1}/{whole}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_plain_web_server_still_is_one(corpus: Path, tmp_path: Path) -> None:
    """What lies behind one is opened as files, read by ranges."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Files, directory=str(corpus))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened = memcorpus.open(f"http://127.0.0.1:{server.server_address[1]}", cache=tmp_path)
        assert not isinstance(opened, ServedCorpus)
        expected = open_corpus(corpus).memory().fetch(IDS)
        assert np.array_equal(opened.memory().fetch(IDS).values, expected.values)
        server.shutdown()


class Bad(http.server.BaseHTTPRequestHandler):
    """Passes what a service answers on, and spoils some of it."""

    protocol_version = "HTTP/1.1"
    target = ""
    spoil = "nothing"
    left = 0

    def _pass(self) -> None:
        import urllib3

        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        given = {n: v for n, v in self.headers.items() if n.lower() not in ("host", "content-length")}
        answer = urllib3.request(self.command, self.target + self.path, body=body, headers=given)
        data = answer.data
        cls = type(self)
        spoilt = cls.left > 0 and self.path != wire.DESCRIPTION_PATH
        headers = dict(answer.headers)
        if spoilt:
            cls.left -= 1
            if cls.spoil == "busy":
                self.send_response(429)
                self.send_header("content-length", "0")
                self.end_headers()
                return
            if cls.spoil == "bit":
                data = data[:-3] + bytes([data[-3] ^ 4]) + data[-2:]
            if cls.spoil == "version":
                headers[wire.FINGERPRINT] = "0" * 64
        self.send_response(answer.status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "date", "connection"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if spoilt and cls.spoil == "cut":
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.wfile.write(data)

    do_GET = do_POST = _pass

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("spoil", ["cut", "bit", "busy", "version"])
def test_answers_that_are_spoilt_on_their_way(
    served: Served, local: Corpus, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked for again, a few times; nothing of them is ever returned."""
    monkeypatch.setattr(service_client, "FIRST_WAIT_SECONDS", 0.002)
    Bad.target, Bad.spoil, Bad.left = served.url, spoil, 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bad) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        remote = memcorpus.open(f"http://127.0.0.1:{server.server_address[1]}")
        reader, expected = remote.memory(), local.memory().fetch(IDS)
        Bad.left = 3
        if spoil == "version":
            with pytest.raises(errors.MismatchError, match="answered with memory version"):
                reader.fetch(IDS)
        else:
            same(reader.fetch(IDS).values, expected.values)
            assert Bad.left == 0
            Bad.left = 1000
            asked: list[Any] = [
                lambda: reader.fetch(IDS),
                lambda: remote.passages(IDS),
                lambda: remote.search("a", 3),
            ]
            for ask in asked:
                with pytest.raises(errors.UnreadableError, match="service"):
                    ask()
            assert 1000 - Bad.left == 3 * service_client.TRIES
        Bad.left = 0
        same(reader.fetch(IDS).values, expected.values)
        server.shutdown()


def _read(corpus: Corpus, reader: Any, ids: list[int]) -> bytes:
    return bytes(reader.fetch(ids).values.tobytes() + str(corpus.passages(ids).to_pylist()).encode())


def test_in_threads_and_pickled(remote: Corpus, local: Corpus) -> None:
    reader, expected = remote.memory(), _read(local, local.memory(), IDS)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(_read(remote, reader, IDS))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 16
    again = pickle.loads(pickle.dumps(remote))
    assert _read(again, again.memory(), IDS) == expected
    again_reader = pickle.loads(pickle.dumps(reader))
    same(again_reader.fetch(IDS).values, reader.fetch(IDS).values)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_a_data_loader(served: Served, coded: Path, tmp_path: Path, method: str) -> None:
    """PyTorch's workers, forked while other threads of their parent read, give what the folder gives."""
    command = [sys.executable, "-m", "tests.loading", method, "2", served.url, str(coded), str(tmp_path)]
    done = subprocess.run(
        [*command, "--opened", "--busy", "--vectors"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=300,
    )
    assert done.stdout.strip() == "80 items, 0 wrong", done.stderr[-2000:]


READ = """
import sys

class Refuse:
    names = {'jax', 'jaxlib', 'flax', 'torch', 'apache_beam', 'transformers', 'sentence_transformers',
             'starlette', 'uvicorn', 'prometheus_client', 'mcp', 'click', 'rich', 'pandas', 'safetensors',
             'httptools', 'uvloop'}
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in self.names:
            raise ImportError(f'{name} is not for readers')

sys.meta_path.insert(0, Refuse())
import memcorpus
corpus = memcorpus.open(sys.argv[1])
memory = corpus.memory().fetch([0, len(corpus) - 1, 0])
assert memory.values.any() and len(memory) == 3
assert corpus.search('a river', 3).passage_ids.shape == (1, 3)
assert corpus.passages([1]).num_rows == 1
print('read')
"""


def test_a_client_loads_no_framework(served: Served) -> None:
    """A query given as text needs none either: the service reads it."""
    done = subprocess.run(
        [sys.executable, "-c", READ, served.url], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.strip() == "read", done.stderr


def test_a_description_that_makes_no_sense_is_refused(served: Served) -> None:
    client = service_client.ServiceClient(served.url)
    told = service_client.describe(client)
    assert told is not None
    ServedCorpus(client, told)
    for name in ("state", "passages", "limits", "cards", "aliases", "counts"):
        for wrong in (None, 5 if name != "passages" else "5", []):
            with pytest.raises(errors.CorpusError):
                ServedCorpus(client, {**told, name: wrong})
    assert json.dumps(told)


@pytest.mark.slow
def test_an_update_is_taken_up_and_what_was_opened_stays(models: Path, tmp_path: Path) -> None:
    """Of a corpus that is updated while it is served: each client has the state that it opened."""
    from encoders.memory_spec import MemorySpec
    from pipeline.components.settings import BuildSettings

    def source(name: str, rows: range, text: str) -> str:
        path = tmp_path / f"{name}.jsonl"
        lines = [{"id": i, "title": f"T{i}", "text": text if i % 3 else f"Passage {i} stays."} for i in rows]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return f"jsonl:{path}"

    settings = BuildSettings(
        sources=(source("first", range(60), "The river rises in the hills."),),
        retriever=str(models / "gtr"),
        memory_encoder=str(models / "t5"),
        memory=MemorySpec(compute_dtype="float32"),
        shard_passages=64,
    )
    root = jobs.build(settings, tmp_path / "corpus").corpus.root
    with serving(root, follow_seconds=0.1) as served:
        first = memcorpus.open(served.url)
        before = open_corpus(root)
        old = first.memory()
        jobs.update(root, source("second", range(10, 75), "The lake lies in the valley."), max_vanished=0.95)
        served.service.states.look()
        after, second = open_corpus(root), memcorpus.open(served.url)
        assert after.generation == second.generation == 1
        assert len(after) == len(second) < after.ids_given == second.ids_given
        assert len(after.tombstones) > 20
        for here, there in ((before, first), (after, second)):
            same(here.passage_ids, there.passage_ids)
            ids = here.passage_ids
            assert there.passages(ids).equals(here.passages(ids))
            same(here.memory().fetch(ids).values, there.memory().fetch(ids).values)
            same(here.vectors().take(ids), there.vectors().take(ids))
            queries = np.random.default_rng(3).normal(size=(5, 24)).astype(np.float32)
            a, b = here.search(queries, len(here)), there.search(queries, len(there))
            same(a.passage_ids, b.passage_ids)
            same(a.scores, b.scores)
        same(old.fetch(before.passage_ids).values, before.memory().fetch(before.passage_ids).values)
        gone = [int(i) for i in np.setdiff1d(np.arange(after.ids_given), after.passage_ids)]
        for ask in (
            lambda corpus: corpus.passages(gone[:3]),
            lambda corpus: corpus.memory().fetch(gone[:1]),
            lambda corpus: corpus.passages([after.ids_given]),
            lambda corpus: corpus.documents([int(after.passage_ids[0])]),
            lambda corpus: corpus.search(queries, len(after) + 1),
        ):
            here_said, there_said = (message(functools.partial(ask, one)) for one in (after, second))
            assert here_said[0] is there_said[0]
            assert here_said[1].replace(str(root), "") == there_said[1].replace(served.url, "")
        # The API says the same to who does not know.
        refused = json.loads(served.post("/v1/passages", {"ids": gone[:2]}).data)
        assert refused["type"] == "urn:memcorpus:removed"
        assert refused["ids"] == gone[:2]
        looked = json.loads(served.get(f"/v1/look/{after.passage_ids[-1]}").data)
        assert looked["passage"]["passage_id"] == after.passage_ids[-1]
        with pytest.raises(errors.CorpusError, match="wanted generation 1"):
            memcorpus.open(served.url, generation=1)
