"""The service's API: what it answers is what the folder gives, bit for bit, and what it refuses."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
import safetensors
import safetensors.numpy

from pipeline.service import asking, settings
from pipeline.service.settings import Limits, ServiceSettings
from retrieval import open_corpus, wire
from storage import errors
from tests import jobs
from tests.commands import Command, refused
from tests.second_version import CODECS, add_version
from tests.serving_http import Served, serving

IDS = [5, 130, 6, 7, 5, 379, 0]


@pytest.fixture(scope="module")
def served(coded: Path) -> Iterator[Served]:
    with serving(coded, limits=Limits(ids=300, queries=50, body_bytes=100_000)) as found:
        yield found


def tensors(answer: Any) -> dict[str, Any]:
    """An answer's arrays, by the format's own library but for bfloat16, which NumPy lacks."""
    assert answer.status == 200, answer.data
    assert answer.headers["content-type"] == wire.SAFETENSORS
    found = wire.unpack(answer.data)
    with safetensors.safe_open(io_file(answer.data), "np") as file:
        assert set(file.keys()) == set(found)
        for name, array in found.items():
            if array.dtype != ml_dtypes.bfloat16:
                np.testing.assert_array_equal(file.get_tensor(name), array)
    return found


def io_file(data: bytes) -> str:
    import tempfile

    file = tempfile.NamedTemporaryFile(suffix=".safetensors", delete=False)  # noqa: SIM115
    file.write(data)
    file.close()
    return file.name


def problem(answer: Any, status: int, *words: str) -> dict[str, Any]:
    assert answer.status == status, answer.data
    assert answer.headers["content-type"] == wire.PROBLEM
    assert answer.data.endswith(b"\n")
    assert answer.data.count(b"\n") == 1
    found: dict[str, Any] = json.loads(answer.data)
    assert found["status"] == status
    assert found["title"]
    for word in words:
        assert word in found["detail"], found
    return found


def test_a_search_is_the_folders(served: Served, coded: Path) -> None:
    local = open_corpus(coded)
    vectors = np.asarray(local.vectors().take(np.array([3, 200, 77])), np.float32)
    vectors += np.random.default_rng(0).normal(size=vectors.shape).astype(np.float32) / 10
    expected = local.search(vectors, 7)
    body = b"".join(wire.pack({"queries": vectors}))
    answer = served.post("/v1/search?k=7", body, content_type=wire.SAFETENSORS, accept=wire.SAFETENSORS)
    found = tensors(answer)
    np.testing.assert_array_equal(found["passage_ids"], expected.passage_ids)
    np.testing.assert_array_equal(found["scores"], expected.scores)
    # JSON's numbers are those of float32 too.
    as_json = json.loads(served.post("/v1/search", {"queries": vectors.tolist(), "k": 7}).data)
    scores = np.array([[hit["score"] for hit in one["passages"]] for one in as_json["results"]])
    np.testing.assert_array_equal(scores.astype(np.float32), expected.scores)
    rows = local.passages(expected.passage_ids[1]).to_pylist()
    for hit, row in zip(as_json["results"][1]["passages"], rows, strict=True):
        assert {**row, "score": hit["score"]} == {
            **hit,
            "passage_key": row["passage_key"],
            "words": row["words"],
        }
    # A text, by GET and by POST.
    question = "the river's mouth"
    by_text = local.search([question], 4)
    got = json.loads(
        served.http.request("GET", f"{served.url}/v1/search", fields={"q": question, "k": "4"}).data
    )
    assert [hit["passage_id"] for hit in got["results"][0]["passages"]] == by_text.passage_ids[0].tolist()
    posted = json.loads(served.post("/v1/search", {"queries": [question], "k": 4, "passages": False}).data)
    pairs = zip(by_text.passage_ids[0].tolist(), by_text.scores[0].tolist(), strict=True)
    assert posted["results"] == [{"passages": [{"passage_id": i, "score": score} for i, score in pairs]}]
    assert json.loads(served.post("/v1/search", {"queries": []}).data)["results"] == []


def test_passages_are_the_folders(served: Served, coded: Path) -> None:
    local = open_corpus(coded).passages(IDS)
    answer = served.post("/v1/passages", {"ids": IDS}, accept=wire.ARROW)
    assert pa.ipc.open_stream(answer.data).read_all().equals(local)
    rows = json.loads(served.post("/v1/passages", {"ids": IDS}).data)["passages"]
    assert rows == [{**row, "passage_key": row["passage_key"].hex()} for row in local.to_pylist()]
    assert json.loads(served.post("/v1/passages", {"ids": []}).data)["passages"] == []


@pytest.mark.parametrize("codec", [None, *CODECS])
def test_memory_is_the_folders_bit_for_bit(served: Served, coded: Path, codec: str | None) -> None:
    local = open_corpus(coded)
    version = None if codec is None else f"as-{codec}"
    reader = local.memory(version)
    for tokens in (None, slice(2, 9), slice(-3, None)):
        for decode in (True, False):
            expected = reader.fetch(IDS, tokens=tokens, decode=decode)
            given = {
                "ids": IDS,
                "version": version,
                "decode": decode,
                "tokens": None if tokens is None else [tokens.start, tokens.stop],
            }
            answer = served.post("/v1/memory", given)
            found = tensors(answer)
            for name in ("passage_ids", "offsets"):
                np.testing.assert_array_equal(found[name], getattr(expected, name))
            assert found["values"].dtype == expected.values.dtype
            assert found["values"].tobytes() == expected.values.tobytes()
            assert answer.headers[wire.VERSION] == reader.version
            assert answer.headers[wire.ENCODER] == reader.card.encoder_fingerprint
            assert answer.headers[wire.FINGERPRINT] == reader.fingerprint
            assert answer.headers[wire.CODEC] == reader.card.layout.codec.name
            table = pa.ipc.open_stream(served.post("/v1/memory", given, accept=wire.ARROW).data).read_all()
            assert table.column("passage_id").to_pylist() == IDS
            assert table.schema.metadata[wire.VERSION.encode()] == reader.version.encode()
            flat = table.column("states").chunk(0).flatten().flatten().to_numpy()
            assert flat.tobytes() == expected.values.tobytes()
            assert table.schema.field("states").metadata[b"dtype"].decode() == expected.values.dtype.name
    counted = tensors(served.post("/v1/memory/lengths", {"ids": IDS}, accept=wire.SAFETENSORS))
    np.testing.assert_array_equal(counted["tokens"], local.memory().tokens(IDS))
    parameters = tensors(served.get(f"/v1/memory/{version or 'current'}/parameters"))
    assert parameters.keys() == reader.coder.parameters.keys()
    for name, array in reader.coder.parameters.items():
        np.testing.assert_array_equal(parameters[name], array)
    assert not served.post("/v1/memory", {"ids": []}).headers.get("x")


def test_vectors_are_the_folders(served: Served, coded: Path) -> None:
    expected = open_corpus(coded).vectors().take(np.array(IDS))
    found = tensors(served.post("/v1/vectors", {"ids": IDS}, accept=wire.SAFETENSORS))["vectors"]
    assert (found.dtype, found.tobytes()) == (expected.dtype, expected.tobytes())
    as_json = json.loads(served.post("/v1/vectors", {"ids": IDS}).data)["vectors"]
    np.testing.assert_array_equal(np.array(as_json, expected.dtype), expected)


def test_what_it_says_of_itself(served: Served, coded: Path) -> None:
    local = open_corpus(coded)
    found = json.loads(served.get("/v1/corpus").data)
    assert (found["service"], found["passages"], found["counts"]) == ("memcorpus", len(local), local.counts)
    assert found["aliases"] == dict(local.manifest.aliases)
    assert set(found["cards"]["memory"]) == set(local.manifest.versions)
    assert json.loads(served.get("/healthz").data) == {"status": "ok"}
    assert json.loads(served.get("/readyz").data) == {"status": "ready"}
    assert served.get("/openapi.json").status == 200
    figures = json.loads(served.get("/v1/figures").data)
    assert figures["passages"] == len(local)
    assert sum(figures["bytes"].values()) > 0
    # Nothing of the machine.
    for path in ("/v1/corpus", "/v1/figures", "/v1/look/3", "/openapi.json"):
        for place in (coded, Path.home(), Path(__file__).parents[1]):
            assert str(place) not in served.get(path).data.decode()


def test_what_it_counts(served: Served) -> None:
    served.post("/v1/search", {"queries": ["a", "b"], "k": 1})
    text = served.get("/metrics").data.decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['memcorpus_requests_total{route="/v1/search",status="200"}']) >= 1
    assert float(lines["memcorpus_batch_queries_sum"]) >= 2
    assert float(lines['memcorpus_answer_bytes_total{route="/v1/search"}']) > 100
    assert float(lines['memcorpus_stage_seconds_count{stage="embed"}']) >= 1


REFUSED = [
    ("/v1/passages", {"ids": [1, 380, -1]}, 404, ("unknown passage ids 380, -1", "0 to 379")),
    ("/v1/passages", {"ids": [1 << 70]}, 422, ("whole numbers",)),
    ("/v1/passages", {"ids": [1.5]}, 422, ("whole numbers",)),
    ("/v1/passages", {"ids": [True]}, 422, ("whole numbers",)),
    ("/v1/passages", {"ids": [[1]]}, 422, ("whole numbers",)),
    ("/v1/passages", {"ids": "../../etc/passwd"}, 422, ("list of whole numbers",)),
    ("/v1/passages", {}, 422, ("ids are missing",)),
    ("/v1/passages", {"ids": [1], "path": "/etc"}, 422, ("field 'path' is not known",)),
    ("/v1/passages", {"ids": [0] * 301}, 422, ("301 ids", "up to 300")),
    ("/v1/passages", [1], 400, ("no JSON object",)),
    ("/v1/passages", b"{", 400, ("no JSON",)),
    ("/v1/passages", b"[" * 50_000, 400, ("no JSON",)),
    ("/v1/passages", b'{"ids": [' + b"1" * 9000 + b"]}", 400, ("no JSON",)),
    ("/v1/passages", b"\xff\xfe", 400, ("no JSON",)),
    ("/v1/passages", b" " * 100_001, 413, ("100,000 bytes",)),
    ("/v1/search", {"queries": ["a"], "k": 381}, 422, ("k is 381", "1 to 380")),
    ("/v1/search", {"queries": ["a"], "k": 1001}, 422, ("1,001 passages", "1,000")),
    ("/v1/search", {"queries": ["a"], "k": 0}, 422, ("k is 0",)),
    ("/v1/search", {"queries": ["a"], "k": 2.5}, 422, ("k is 2.5", "whole number")),
    ("/v1/search", {"queries": ["a"], "k": True}, 422, ("k is true",)),
    ("/v1/search", {"queries": ["a", 1]}, 422, ("others are texts",)),
    ("/v1/search", {"queries": [[1.0, 2.0]]}, 422, ("shape (1, 2)",)),
    ("/v1/search", {"queries": [[1.0], [1.0, 2.0]]}, 422, ("queries",)),
    ("/v1/search", b'{"queries": [[NaN' + b", 0" * 23 + b"]]}", 422, ("finite",)),
    ("/v1/search", {"queries": ["x" * 40_000]}, 422, ("40,000 bytes of a query",)),
    ("/v1/search", {"queries": ["x"] * 51}, 422, ("51 queries", "up to 50")),
    ("/v1/search", {"queries": {}}, 422, ("wanted a list",)),
    ("/v1/memory", {"ids": [0], "version": "nope"}, 422, ("no memory version 'nope'", "as-int8")),
    ("/v1/memory", {"ids": [0], "version": 3}, 422, ("version is 3",)),
    ("/v1/memory", {"ids": [0], "tokens": [1]}, 422, ("two whole numbers",)),
    ("/v1/memory", {"ids": [0], "decode": 1}, 422, ("decode is 1",)),
    ("/v1/answer", {"questions": ["a"]}, 404, ("no reader",)),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "words"), REFUSED)
def test_what_is_refused(served: Served, path: str, body: Any, status: int, words: tuple[str, ...]) -> None:
    found = problem(served.post(path, body), status, *words)
    if found["type"] == "urn:memcorpus:unknown-passage":
        assert found["ids"] == [380, -1]


def test_other_refusals(served: Served, coded: Path) -> None:
    problem(served.get("/v1/nothing"), 404, "nothing at this path")
    problem(served.get("/../../etc/passwd"), 404)
    problem(served.get("/page/%2e%2e/settings.py"), 404)
    problem(served.get("/v1/passages"), 405)
    problem(served.get("/v1/search"), 422, "q is missing")
    problem(served.get("/v1/search?q=a&k=x"), 422, "k is 'x'")
    problem(served.post("/v1/passages", {"ids": [1]}, content_type="text/plain"), 415, "text/plain")
    problem(served.post("/v1/passages", {"ids": [1]}, accept="image/png"), 406)
    problem(served.get("/v1/look/99999"), 404, "unknown passage id 99999")
    problem(served.get("/v1/look/1?version=x"), 422, "no memory version")
    problem(served.get("/v1/corpus", memcorpus_state="0" * 16), 410, "open it again")
    problem(served.post("/v1/search?k=3", b"\0" * 30, content_type=wire.SAFETENSORS), 422, "no safetensors")
    wrong = b"".join(wire.pack({"queries": np.zeros((1, 3), np.float32)}))
    problem(served.post("/v1/search?k=3", wrong, content_type=wire.SAFETENSORS), 422, "(1, 3)")
    # A host name that was made to point here, as a page of another host would have it.
    problem(served.get("/v1/corpus", host="evil.example"), 403, "localhost")
    assert served.get("/v1/corpus", host="localhost:1234").status == 200


def test_what_was_sent_wrong_ends_the_connection_and_no_other(served: Served) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    for sent, status in (
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 70_000, b"431"),
        (b"GET /" + b"y" * 70_000, b"431"),
    ):
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(sent)
            assert client.recv(100).split()[1] == status
    assert served.get("/healthz").status == 200


def test_damage_is_told_as_such_and_not_where(corpus_copy: Path) -> None:
    with serving(corpus_copy) as served:
        path = next((corpus_copy / "memory").glob("*/values/c/0/0/0"))
        data = bytearray(path.read_bytes())
        data[1] ^= 8
        path.write_bytes(data)
        found = problem(served.post("/v1/memory", {"ids": [0]}), 500)
        assert found["type"] == "urn:memcorpus:damaged"
        assert str(corpus_copy) not in json.dumps(found)
        assert served.post("/v1/memory", {"ids": [300]}).status == 200


def test_a_token_is_asked_for(corpus: Path) -> None:
    token = "0123456789abcdef-token"
    with serving(corpus, token=token) as served:
        for given in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": token},
            {"authorization": "Bearer \xff"},
        ):
            for path in ("/v1/corpus", "/metrics", "/v1/look/1"):
                found = served.get(path, **given)
                assert problem(found, 401)["type"] == "urn:memcorpus:token"
                assert token not in found.data.decode()
        assert served.get("/v1/corpus", authorization=f"Bearer {token}").status == 200
        assert served.get("/v1/corpus", authorization=f"Bearer {token}", host="evil.example").status == 200
        for path in ("/", "/page.js", "/healthz", "/openapi.json"):
            assert served.get(path).status == 200


def test_settings_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(wire.TOKEN, raising=False)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(errors.CorpusError, match="no token"):
            ServiceSettings(corpus="c", host=host)
        ServiceSettings(corpus="c", host=host, without_token=True)
        ServiceSettings(corpus="c", host=host, token="x" * 20)
    for host in ("127.0.0.1", "::1", "localhost", "127.3.4.5"):
        assert ServiceSettings(corpus="c", host=host).local
    for given in (
        {"port": 70_000},
        {"workers": 0},
        {"token": "short"},
        {"token": "with a blank in it"},
        {"batch": 0},
    ):
        with pytest.raises(errors.CorpusError, match="wanted"):
            ServiceSettings(corpus="c", **given)  # type: ignore[arg-type]
    with pytest.raises(errors.CorpusError, match="limit k is 0"):
        Limits(k=0)
    assert settings.read_token(None) is None
    (tmp_path / "token").write_text("abcdefghijklmnop\n")
    assert settings.read_token(tmp_path / "token") == "abcdefghijklmnop"
    monkeypatch.setenv(wire.TOKEN, "of-the-environment")
    assert settings.read_token(None) == "of-the-environment"
    for name, data in (("gone", None), ("empty", b""), ("binary", b"\xff" * 20)):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(errors.CorpusError, match="token file"):
            settings.read_token(tmp_path / name)


def test_the_command_refuses(command: Command, corpus: Path, tmp_path: Path) -> None:
    refused(command, ["serve", tmp_path / "nowhere"], "holds no corpus")
    refused(command, ["serve", corpus, "--host", "0.0.0.0"], "no token", "--token-file", "--without-token")
    refused(command, ["serve", corpus, "--memory", "nope", "--port", "0"], "no memory version 'nope'")
    refused(command, ["serve", corpus, "--port", "99999"], "0 to 65535")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(command, ["serve", corpus, "--port", str(port)], f"port {port} cannot be listened at")


def test_a_switch_is_followed_and_what_was_opened_stays(corpus_copy: Path) -> None:
    with serving(corpus_copy, follow_seconds=0.05) as served:
        first = open_corpus(corpus_copy).memory()
        state = served.get("/v1/corpus").headers[wire.STATE]
        name = add_version(corpus_copy, "int8", alias="small")
        jobs.use(corpus_copy, "small")
        until = np.array([served.post("/v1/memory", {"ids": [3]}).headers[wire.VERSION] for _ in range(1)])
        import time

        limit = time.monotonic() + 10
        while until[-1] != name and time.monotonic() < limit:
            time.sleep(0.02)
            until = np.append(until, served.post("/v1/memory", {"ids": [3]}).headers[wire.VERSION])
        assert until[-1] == name
        # The passages are the same, so the state has the same name, and the old version is served by its own.
        assert served.get("/v1/corpus").headers[wire.STATE] == state
        old = served.post("/v1/memory", {"ids": [3], "version": first.version})
        assert wire.unpack(old.data)["values"].tobytes() == first.fetch([3]).values.tobytes()
        assert "memcorpus_switches_total" in served.get("/metrics").data.decode()


@pytest.mark.parametrize(
    ("header", "known", "best"),
    [
        ("*/*", ("a/b", "c/d"), "a/b"),
        ("c/d", ("a/b", "c/d"), "c/d"),
        ("a/b;q=0.1, c/d", ("a/b", "c/d"), "c/d"),
        ("a/*;q=0.5, c/d;q=0.4", ("a/b", "c/d"), "a/b"),
        ("*/*;q=0.9, c/d;q=0", ("c/d", "a/b"), "a/b"),
        ("c/d;q=x, */*;q=0.1", ("c/d", "a/b"), "a/b"),
    ],
)
def test_what_a_client_accepts(header: str, known: tuple[str, ...], best: str) -> None:
    from starlette.requests import Request

    request = Request({"type": "http", "headers": [(b"accept", header.encode())]})
    assert asking.accepted(request, *known) == best


def test_safetensors_are_those_of_the_library() -> None:
    arrays = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4),
        "b": np.zeros((0, 5), np.int64),
        "c": np.arange(5, dtype=np.uint8),
        "d": np.float16([1.5]),
    }
    data = b"".join(wire.pack(arrays, {"k": "v"}))
    theirs = safetensors.numpy.load(data)
    ours = wire.unpack(safetensors.numpy.save(arrays))
    for name, array in arrays.items():
        for found in (theirs[name], ours[name], wire.unpack(data)[name]):
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(found, array)
    for wrong in (data[:-1], data + b"x", data[:20], b"", b"\xff" * 40, data.replace(b"F32", b"F99")):
        with pytest.raises(errors.CorpusError, match="no safetensors"):
            wire.unpack(wrong)
    head = json.dumps({"a": {"dtype": "U8", "shape": [1 << 40], "data_offsets": [0, 1 << 40]}}).encode()
    with pytest.raises(errors.CorpusError, match="no safetensors"):
        wire.unpack(len(head).to_bytes(8, "little") + head)
    assert io.BytesIO(data).read() == data
