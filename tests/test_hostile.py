"""Corpora by somebody who means harm: refused with a plain error, in bounded memory, and nothing is run.

The hostile author knows the format, so every checksum up to the manifest is right. What is asked is
not that the content is true, but that reading it never does more than raise a CorpusError.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval import open_corpus
from storage import checked_json, errors, file_list, files, manifest
from tests import jobs
from tests.jobs import verify as verification

# Of address space: what is allocated beyond it raises MemoryError, which no read may.
ALLOWED_BYTES: Final = 3 << 30
# Of memory that is really used.
ALLOWED_RESIDENT_BYTES: Final = 512 << 20


class Forger:
    """Rewrites parts of a corpus, and every checksum that depends on them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # What was forged so that it cannot be read, and need not be signed any more.
        self.unreadable: set[Path] = set()

    @property
    def manifest(self) -> Path:
        return self.root / manifest.NAME

    def card(self, component: str) -> Path:
        """Of passages, vectors, index or memory."""
        if component == "passages":
            return self.root / "passages/passages.json"
        name = {"vectors": "vectors.json", "index": "index.json", "memory": "memory.json"}[component]
        (path,) = self.root.glob(f"{component}/*/{name}")
        return path

    def rewrite(self, path: Path, change: Callable[[Any], None]) -> None:
        """Change the JSON of the manifest or a card, and sign it."""
        value = checked_json.read(path)
        change(value)
        checked_json.write(path, value)
        self.sign(path)

    def rewrite_text(self, path: Path, change: Callable[[str], str]) -> None:
        """Change JSON as text, where no program would write such, and sign it."""
        text = change(path.read_text()[: -len('"crc32c": "00000000"\n}\n')])
        self.replace(path, self_checked(text))

    def replace(self, path: Path, data: bytes) -> None:
        """Put anything in a file's place, and sign it."""
        path.write_bytes(data)
        self.unreadable.add(path)
        self.sign(path)

    def rewrite_list(self, component: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
        """Change a component's list of files, and sign it."""
        path = self.card(component).parent / file_list.NAME
        schema = pq.read_schema(path)
        rows = pq.read_table(path).to_pylist()
        change(rows)
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
        self.sign(path)

    def sign(self, path: Path) -> None:
        """Write a changed file's size and checksum wherever they stand, up to the manifest."""
        name = path.relative_to(self.root).as_posix()
        if path == self.manifest:
            return
        measured = files.entry_of(self.root, path).to_json()
        for listed in self.root.glob("*/*/" + file_list.NAME):
            if listed == path or listed in self.unreadable:
                continue
            schema, rows = pq.read_schema(listed), pq.read_table(listed).to_pylist()
            mine = [row for row in rows if row["path"] == name]
            for row in mine:
                row.update(bytes=measured["bytes"], crc32=int(measured["crc32"], 16))
            if mine:
                pq.write_table(pa.Table.from_pylist(rows, schema=schema), listed)
                self.sign(listed)
        cards = [self.card(component) for component in ("passages", "vectors", "index", "memory")]
        for holder in (*cards, self.manifest):
            if holder == path or holder in self.unreadable:
                continue
            value = checked_json.read(holder)
            if put_entry(value, name, measured):
                checked_json.write(holder, value)
                self.sign(holder)


def put_entry(value: Any, name: str, measured: dict[str, Any]) -> bool:
    """Renew every entry of the file in a JSON value. Was there one?"""
    found = False
    if isinstance(value, dict):
        if value.get("path") == name and "crc32" in value and value | measured != value:
            value.update(measured)
            found = True
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            found |= put_entry(item, name, measured)
    return found


def self_checked(text: str) -> bytes:
    """JSON text that lacks its checksum and its end, with both."""
    body = text.encode(errors="surrogatepass") + b'"crc32c": "00000000"\n}\n'
    return body.replace(b'"crc32c": "00000000"\n}\n', b'"crc32c": "%08x"\n}\n' % files.crc32c(body))


@contextmanager
def bounded() -> Iterator[None]:
    """Limits address space, and fails where much memory was used; ends what hangs."""
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    resident = status("VmRSS")

    def hangs(*_: object) -> None:
        raise TimeoutError("a read of a hostile corpus hangs")

    handler = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(60)
    resource.setrlimit(resource.RLIMIT_AS, (used + ALLOWED_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    assert status("VmHWM") - resident < ALLOWED_RESIDENT_BYTES


def status(field: str) -> int:
    """Bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def read_passages(root: Path) -> None:
    opened = open_corpus(root)
    opened.passages([0, len(opened) - 1])


def read_memory(root: Path) -> None:
    opened = open_corpus(root)
    opened.memory().fetch([0, len(opened) - 1, 1])


def read_vectors(root: Path) -> None:
    opened = open_corpus(root)
    opened.vectors().read(0, min(10, len(opened)))
    opened.vectors().take(np.array([0, len(opened) - 1]))


def search(root: Path) -> None:
    opened = open_corpus(root)
    dim = min(opened.vectors_card.layout.dim, 1000)
    opened.search(np.ones((2, dim), np.float32), 3)


def verify(root: Path) -> None:
    result = verification(root, full=True)
    assert all(isinstance(line, str) for line in result.damaged)
    if not result.ok:
        raise errors.DamagedError(result.damaged[0])


USES: Final[dict[str, Callable[[Path], None]]] = {
    "passages": read_passages,
    "memory": read_memory,
    "vectors": read_vectors,
    "search": search,
    "verify": verify,
}


def use(root: Path) -> dict[str, errors.CorpusError]:
    """Read everything, within bounds; what was refused, and how. Any other error comes through."""
    refused = {}
    for name, read in USES.items():
        with bounded():
            try:
                read(root)
            except errors.CorpusError as e:
                refused[name] = e
    # With words, but not with all of what was wrong.
    assert all(0 < len(str(error)) < 4000 for error in refused.values())
    return refused


@pytest.fixture
def forger(corpus_copy: Path) -> Forger:
    return Forger(corpus_copy)


def set_in(path: str, value: Any) -> Callable[[Any], None]:
    """Sets a value of nested JSON, by keys with dots between; `*` stands for the only key there is."""

    def change(document: Any) -> None:
        *way, last = path.split(".")
        for key in way:
            document = document[only(document) if key == "*" else int(key) if key.isdigit() else key]
        document[only(document) if last == "*" else last] = value

    return change


def only(value: dict[str, Any]) -> str:
    (key,) = value
    return key


def test_signing_again_leaves_a_corpus_that_is_read(forger: Forger) -> None:
    """So that what is refused below is refused for what was forged."""
    assert use(forger.root) == {}
    for component in ("passages", "vectors", "index", "memory"):
        forger.rewrite(forger.card(component), lambda value: value.update(extra="harmless"))
        forger.rewrite_text(forger.card(component), lambda text: text.replace(": ", ":  "))
        forger.unreadable.clear()
    for component in ("vectors", "memory"):
        forger.rewrite_list(component, lambda rows: rows.reverse())
    forger.rewrite(forger.manifest, lambda value: value.update(extra="harmless"))
    assert use(forger.root) == {}


PATHS = (
    "../outside",
    "passages/../../outside",
    "/etc/passwd",
    "a\\..\\..\\outside",
    "",
    ".",
    "a\0b",
    "a" * 5000,
    "\ud800",
)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize(
    ("where", "key", "refusing"),
    [
        ("manifest", "passages.path", {"passages", "memory", "vectors", "search", "verify"}),
        ("manifest", "memory.*.path", {"memory", "verify"}),
        ("manifest", "vectors.*.path", {"vectors", "search", "verify"}),
        ("manifest", "indexes.*.path", {"search", "verify"}),
        ("passages", "parts.0.path", {"passages", "verify"}),
        ("passages", "quarantine.path", {"verify"}),
        ("vectors", "files.path", {"verify"}),
        ("memory", "files.path", {"verify"}),
        ("index", "file.path", {"search", "verify"}),
    ],
)
def test_paths_out_of_the_corpus(forger: Forger, where: str, key: str, path: str, refusing: set[str]) -> None:
    # What a name that leads outside would find there is what the corpus itself holds.
    shutil.copytree(forger.root, forger.root.parent / "outside")
    target = forger.manifest if where == "manifest" else forger.card(where)
    if path == "\ud800":  # a half of a character; JSON can say it, no file can be called so
        forger.rewrite(target, set_in(key, "@@"))
        forger.rewrite_text(target, lambda text: text.replace("@@", "\\ud800"))
    else:
        forger.rewrite(target, set_in(key, path))
    assert refusing <= set(use(forger.root))


@pytest.mark.parametrize("path", PATHS[:-1], ids=repr)
@pytest.mark.parametrize("component", ["memory", "vectors"])
def test_paths_out_of_the_corpus_in_a_list_of_files(forger: Forger, component: str, path: str) -> None:
    forger.rewrite_list(component, lambda rows: rows[0].update(path=path))
    assert "verify" in use(forger.root)


@pytest.mark.parametrize("name", ["..", "../..", "/etc", "../../outside", "a\0b", ""])
@pytest.mark.parametrize("component", ["memory", "vectors"])
def test_names_of_components_are_no_paths(forger: Forger, component: str, name: str) -> None:
    shutil.copytree(forger.root, forger.root.parent / "outside")

    def rename(value: dict[str, Any]) -> None:
        value[component][name] = value[component].pop(only(value[component]))
        value["aliases"]["current"] = name

    forger.rewrite(forger.manifest, rename)
    if component == "vectors":
        forger.rewrite(forger.card("vectors"), set_in("fingerprint", name))
    assert component in use(forger.root)


@pytest.mark.parametrize("name", ["../../precious", "..", "", ".", "x/../../../precious"])
def test_gc_removes_nothing_outside(forger: Forger, name: str) -> None:
    """A version that no alias names is what `gc` removes."""
    precious = forger.root.parent / "precious"
    precious.mkdir()
    forger.rewrite(
        forger.manifest, lambda value: value["memory"].update({name: next(iter(value["memory"].values()))})
    )
    with pytest.raises(errors.CorpusError, match="no plain name"):
        jobs.collect(forger.root)
    assert precious.is_dir()
    assert any(forger.root.glob("memory/*/memory.json"))


LINKED = (
    "passages/passages.json",
    "passages/part-00000.parquet",
    "vectors/*/vectors.json",
    "vectors/*/files.parquet",
    "vectors/*",
    "vectors/*/zarr.json",
    "vectors/*/c",
    "vectors/*/c/0/0",
    "index/*/index.faiss",
    "memory/*",
    "memory/*/memory.json",
    "memory/*/offsets",
    "memory/*/offsets/c/0/0",
    "memory/*/checksums",
    "memory/*/values/c/0/0/0",
    "memory/*/values/c",
    "statistics/build.json",
)


@pytest.mark.parametrize("pattern", LINKED)
def test_links_out_of_the_corpus(forger: Forger, pattern: str) -> None:
    """To the very same bytes, so that nothing but the link is wrong."""
    (path,) = forger.root.glob(pattern)
    elsewhere = forger.root.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    refused = use(forger.root)
    assert "verify" in refused
    component = pattern.split("/")[0]
    if component == "vectors" and not pattern.endswith("files.parquet"):
        assert "vectors" in refused
    if component == "memory" and not pattern.endswith("files.parquet"):
        assert "memory" in refused
    if component == "index":
        assert "search" in refused
    if component == "passages":
        assert "passages" in refused


@pytest.mark.parametrize("pattern", LINKED)
@pytest.mark.parametrize("what", ["loop", "folder", "pipe", "device"])
def test_things_that_are_no_files(forger: Forger, pattern: str, what: str) -> None:
    (path,) = forger.root.glob(pattern)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    match what:
        case "loop":
            path.symlink_to(path.name)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
    assert "verify" in use(forger.root)


HUGE = 10**12
ABSURD: Final[dict[str, tuple[str, str, Any, set[str]]]] = {
    "passages of the corpus": ("passages", "passages", HUGE, {"passages"}),
    "rows of a part": ("passages", "parts.0.rows", HUGE, {"passages"}),
    "negative rows": ("passages", "parts.0.rows", -1, {"passages"}),
    "first id": ("passages", "parts.0.first_passage_id", -1, {"passages"}),
    "parts that are no list": ("passages", "parts", "all", {"passages"}),
    "passages of the memory": ("memory", "layout.passages", HUGE, {"memory"}),
    "negative passages": ("memory", "layout.passages", -1, {"memory"}),
    "no passages a shard": ("memory", "layout.shard_passages", 0, {"memory"}),
    "one passage a shard": ("memory", "layout.shard_passages", 1, {"memory"}),
    "all passages a shard": ("memory", "layout.shard_passages", 1 << 22, {"memory"}),
    "passages beyond 32 bits": ("memory", "layout.shard_passages", HUGE, {"memory"}),
    "width": ("memory", "layout.width", HUGE, {"memory"}),
    "another width": ("memory", "layout.width", 64, {"memory"}),
    "no width": ("memory", "layout.width", 0, {"memory"}),
    "negative width": ("memory", "layout.width", -32, {"memory"}),
    "tokens of a passage": ("memory", "layout.max_tokens", 1 << 25, {"memory"}),
    "tokens beyond 32 bits": ("memory", "layout.max_tokens", HUGE, {"memory"}),
    "rows of a chunk": ("memory", "layout.chunk_rows", HUGE, {"memory"}),
    "one row a chunk": ("memory", "layout.chunk_rows", 1, {"memory"}),
    "unknown codec": ("memory", "layout.codec.name", "../../codec", {"memory"}),
    "codec that is code": ("memory", "layout.codec.name", "os.system", {"memory"}),
    "codec of no name": ("memory", "layout.codec", ["bfloat16"], {"memory"}),
    "configured codec": ("memory", "layout.codec.configuration", {"dims": HUGE}, {"memory"}),
    "codes for values": (
        *("memory", "layout.codec", {"name": "pq8x8", "configuration": {"dims": 8, "bits": 8}}, {"memory"}),
    ),
    "codebooks": ("memory", "codec_parameters", {"../../codebooks": "0" * 64}, {"memory"}),
    "dim": ("vectors", "layout.dim", HUGE, {"vectors"}),
    "negative dim": ("vectors", "layout.dim", -24, {"vectors", "search"}),
    "type of vectors": ("vectors", "layout.dtype", "object", {"vectors", "search"}),
    "passages of the vectors": ("vectors", "layout.passages", HUGE, {"vectors"}),
    "vectors a shard": ("vectors", "layout.shard_passages", -64, {"vectors", "search"}),
    "vectors of the index": ("index", "dim", HUGE, {"search"}),
    "fingerprint": ("vectors", "fingerprint", "../../../outside", {"vectors", "search"}),
    "text for a number": ("memory", "layout.width", "wide", {"memory"}),
    "list for a number": ("memory", "layout.width", [32], {"memory"}),
    "nothing for a number": ("memory", "layout.width", None, {"memory"}),
    "digits without end": ("memory", "layout.width", "9" * 5000, {"memory"}),
    "counts that are no numbers": ("memory", "counts", {"tokens": "many"}, {"memory"}),
    "bytes": ("memory", "files.bytes", HUGE, {"verify"}),
    "negative bytes": ("memory", "files.bytes", -1, {"verify"}),
    "checksum": ("memory", "files.crc32", "no", {"memory"}),
    "checksum of many digits": ("memory", "files.crc32", "f" * 5000, {"verify"}),
}


@pytest.mark.parametrize("case", ABSURD)
def test_absurd_claims(forger: Forger, case: str) -> None:
    where, key, value, refusing = ABSURD[case]
    forger.rewrite(forger.card(where), set_in(key, value))
    assert refusing <= set(use(forger.root))


def test_ten_to_the_twelve_passages_agreed_upon(forger: Forger) -> None:
    """Every card says so, and the array's metadata too."""
    card = checked_json.read(forger.card("passages"))
    rows = card["parts"][-1]["rows"] + HUGE - card["passages"]

    def passages(value: dict[str, Any]) -> None:
        value["passages"] = HUGE
        value["parts"][-1]["rows"] = rows

    for shard_passages in (64, 1 << 23):
        forger.rewrite(forger.card("passages"), passages)
        forger.rewrite(forger.card("memory"), set_in("layout.passages", HUGE))
        forger.rewrite(forger.card("memory"), set_in("layout.shard_passages", shard_passages))
        forger.rewrite(forger.card("vectors"), set_in("layout.passages", HUGE))
        forger.rewrite(forger.card("index"), set_in("passages", HUGE))
        (metadata,) = forger.root.glob("vectors/*/zarr.json")
        value = json.loads(metadata.read_text())
        value["shape"][0] = HUGE
        metadata.write_text(json.dumps(value))
        forger.sign(metadata)
        assert set(use(forger.root)) == {"passages", "memory", "vectors", "search"}


MANIFESTS: Final[dict[str, Callable[[Any], None]]] = {
    "no format": lambda value: value.pop("format"),
    "a format to come": set_in("format", 2),
    "text for a format": set_in("format", "1"),
    "no memory": lambda value: value.pop("memory"),
    "list for memory": set_in("memory", []),
    "list for aliases": set_in("aliases", ["current"]),
    "alias of nothing": set_in("aliases.current", "another"),
    "alias of a list": set_in("aliases.current", ["x"]),
    "number for sources": set_in("sources", 1),
    "nothing for vectors": set_in("vectors", None),
    "no vectors": set_in("vectors", {}),
    "no index": set_in("indexes", {}),
    "text for an entry": set_in("passages", "passages/passages.json"),
    "no checksum": lambda value: value["passages"].pop("crc32"),
    "number for a checksum": set_in("passages.crc32", 5),
    "bytes that are no number": set_in("passages.bytes", {}),
    "number for a path": set_in("passages.path", 5),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests_of_another_shape(forger: Forger, case: str) -> None:
    forger.rewrite(forger.manifest, MANIFESTS[case])
    assert use(forger.root)


TEXTS: Final[dict[str, Callable[[str], str]]] = {
    "deep lists": lambda text: text + '"x": ' + "[" * 100_000 + "]" * 100_000 + ",\n",
    "deep objects": lambda text: text + '"x": ' + '{"x":' * 100_000 + "1" + "}" * 100_000 + ",\n",
    "NaN": lambda text: text + '"x": NaN,\n',
    "Infinity": lambda text: text + '"x": -Infinity,\n',
    "a key twice": lambda text: text + '"x": 1, "x": 2,\n',
    "a key twice, inside": lambda text: text + '"x": [{"y": 1, "y": 1}],\n',
    "digits without end": lambda text: text + '"x": ' + "9" * 5000 + ",\n",
    "two checksums": lambda text: text + '"crc32c": "00000001",\n',
    "no JSON": lambda text: text + "x\n",
    "a list": lambda text: "[\n" + text[1:],
    "no UTF-8": lambda text: text + '"\ud800": 1,\n',
}


@pytest.mark.parametrize("component", ["manifest", "passages", "vectors", "index", "memory"])
@pytest.mark.parametrize("case", TEXTS)
def test_json_that_no_program_writes(forger: Forger, case: str, component: str) -> None:
    path = forger.manifest if component == "manifest" else forger.card(component)
    forger.rewrite_text(path, TEXTS[case])
    refused = set(use(forger.root))
    assert "verify" in refused
    assert {"manifest": "memory", "index": "search"}.get(component, component) in refused


@pytest.mark.parametrize("number", ["1e999", "-1e999", "0.5", "1e30", "true", "null", '"1"', "-0.0", "[]"])
def test_numbers_that_are_none(forger: Forger, number: str) -> None:
    for component, key in (("memory", "layout.width"), ("passages", "passages"), ("index", "recall_at_10")):
        forger.rewrite(forger.card(component), set_in(key, "@@"))
        forger.rewrite_text(forger.card(component), lambda text: text.replace('"@@"', number))
    assert use(forger.root)


def test_a_manifest_without_end(forger: Forger) -> None:
    with forger.manifest.open("r+b") as file:
        file.truncate(1 << 40)  # takes no space
    assert set(use(forger.root)) == set(USES)


def test_a_card_without_end(forger: Forger) -> None:
    """Its size stands in the manifest as it is, so only its content could tell."""
    card = forger.card("memory")
    text = card.read_bytes()
    with card.open("r+b") as file:
        file.truncate(1 << 31)
        file.seek(-len(text), os.SEEK_END)
        file.write(text)
    name = card.relative_to(forger.root).as_posix()
    forger.rewrite(forger.manifest, set_in("memory.*", {"path": name, "bytes": 1 << 31, "crc32": "0"}))
    assert {"memory", "verify"} <= set(use(forger.root))


class Payload:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_payloads_are_not_run(forger: Forger) -> None:
    """Pickles wherever a file of numbers is wanted, each with the right checksums."""
    mark = forger.root.parent / "was-run"
    payload = pickle.dumps(Payload(mark))
    array = forger.root.parent / "array.npy"
    np.save(array, np.array([Payload(mark)], object), allow_pickle=True)
    patterns = (
        *("memory/*/values/c/0/0/0", "memory/*/offsets/c/0/0", "memory/*/checksums/c/0/0", "memory/*/*.npy"),
        *(
            "vectors/*/c/0/0",
            "index/*/index.faiss",
            "passages/part-00000.parquet",
            "memory/*/values/zarr.json",
        ),
        *("vectors/*/zarr.json", "memory/*/files.parquet", "vectors/*/files.parquet"),
    )
    untouched = forger.root.parent / "untouched"
    shutil.copytree(forger.root, untouched)
    for pattern in patterns:
        for content in (payload, array.read_bytes()):
            (path,) = forger.root.glob(pattern)
            forger.replace(path, content)
            refused = use(forger.root)
            if not pattern.endswith(("values/zarr.json", ".npy")):  # which no reader opens
                assert refused, pattern
            assert not mark.exists(), pattern
            shutil.rmtree(forger.root)
            shutil.copytree(untouched, forger.root)
            forger.unreadable.clear()


@pytest.mark.parametrize("extension", ["arrow.py_extension_type", "arrow.extension"])
def test_pickles_in_parquet_are_not_run(forger: Forger, extension: str) -> None:
    """Old pyarrow unpickled an extension type that a file named."""
    mark = forger.root.parent / "was-run"
    pattern = forger.root / "passages/part-00000.parquet"
    for path in (pattern, *forger.root.glob("*/*/" + file_list.NAME)):
        table = pq.read_table(path)
        metadata = {
            b"ARROW:extension:name": extension.encode(),
            b"ARROW:extension:metadata": pickle.dumps(Payload(mark)),
        }
        fields = [field.with_metadata(metadata) for field in table.schema]
        pandas = {b"pandas": pickle.dumps(Payload(mark))}
        pq.write_table(table.cast(pa.schema(fields, metadata=pandas)), path)
        forger.sign(path)
    use(forger.root)
    assert not mark.exists()


def test_codecs_of_zarr_that_are_code(forger: Forger) -> None:
    (path,) = forger.root.glob("vectors/*/zarr.json")
    whole = path.read_text()
    for name in ("numcodecs.pickle", "pickle", "python", "https://example.org/codec.py"):
        value = json.loads(whole)
        value["codecs"].append({"name": name, "configuration": {"protocol": 5}})
        path.write_text(json.dumps(value))
        forger.sign(path)
        assert "vectors" in use(forger.root)


@pytest.mark.parametrize("shape", [[HUGE, 24], [431, HUGE], [-1, 24], [431], [], "431", [1e3, 24], None])
def test_shapes_of_zarr(forger: Forger, shape: Any) -> None:
    (path,) = forger.root.glob("vectors/*/zarr.json")
    value = json.loads(path.read_text())
    value["shape"] = shape
    path.write_text(json.dumps(value))
    forger.sign(path)
    assert "vectors" in use(forger.root)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 100, b"\0" * 1000, b"IxFI" + b"\xff" * 200])
@pytest.mark.parametrize(
    "pattern", ["passages/part-00000.parquet", "memory/*/files.parquet", "index/*/index.faiss"]
)
def test_files_that_are_something_else(forger: Forger, pattern: str, data: bytes) -> None:
    (path,) = forger.root.glob(pattern)
    forger.replace(path, data)
    assert use(forger.root)


def test_an_index_that_claims_more_than_it_holds(forger: Forger) -> None:
    (path,) = forger.root.glob("index/*/index.faiss")
    whole = path.read_bytes()
    assert whole[:4] in (b"IxFI", b"IxF2")
    for count in (HUGE, 2**40 - 1, 2**63 - 1, 3 << 30):
        for position in (8, 37):  # vectors in the header; length of the array of their bytes
            path.write_bytes(whole[:position] + struct.pack("<q", count) + whole[position + 8 :])
            forger.sign(path)
            assert "search" in use(forger.root)


def test_an_index_that_reads_other_files(forger: Forger) -> None:
    """FAISS knows inverted lists that lie in a file of any name."""
    import faiss

    opened = open_corpus(forger.root)
    vectors = opened.vectors().read(0, len(opened))
    secret = forger.root.parent / "secret"
    index = faiss.index_factory(vectors.shape[1], "IVF4,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    lists = faiss.OnDiskInvertedLists(4, index.code_size, str(secret))
    lists.merge_from(index.invlists, 4)
    index.replace_invlists(lists)
    (path,) = forger.root.glob("index/*/index.faiss")
    faiss.write_index(index, str(path))
    forger.sign(path)
    assert "search" in use(forger.root)


def test_row_groups_that_unfold(forger: Forger) -> None:
    """A few bytes of Parquet can stand for any number of equal rows."""
    path = forger.root / "passages/part-00000.parquet"
    row = pq.read_table(path).slice(0, 1)
    count = 100_000
    columns = [pa.repeat(row.column(name)[0], count) for name in row.column_names]
    table = pa.table(columns, names=row.column_names).cast(row.schema)
    pq.write_table(table, path, row_group_size=count, compression="zstd")
    forger.sign(path)

    def passages(value: dict[str, Any]) -> None:
        more = count - value["parts"][0]["rows"]
        value["parts"][0]["rows"] += more
        value["passages"] += more
        for part in value["parts"][1:]:
            part["first_passage_id"] += more

    forger.rewrite(forger.card("passages"), passages)
    assert "passages" in use(forger.root)


VALUES: Final = (
    *(None, True, -1, 0, 10**30, 1e308, 0.5, "", "x", "1", [], [[]], {}, {"a": {}}, "../x", "/etc/passwd"),
    *("a\0b", "9" * 5000),
)


def leaves(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a JSON value, containers too."""
    if way:
        yield way
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        # Descriptions of models and settings are only shown.
        if key not in ("settings", "encoder", "sources", "splitter"):
            yield from leaves(item, (*way, key))


def replace_values(forger: Forger, count: int, seed: int) -> int:
    """Replace values of the manifest and the cards, one at a time; how many replacements were refused."""
    targets = [forger.manifest, *(forger.card(c) for c in ("passages", "vectors", "index", "memory"))]
    whole = {path: path.read_bytes() for path in targets}
    places = [(path, way) for path in targets for way in leaves(checked_json.read(path))]
    rng = random.Random(seed)
    refused = 0
    for _ in range(count):
        (path, way), value = rng.choice(places), rng.choice(VALUES)

        def change(document: Any, way: tuple[Any, ...] = way, value: Any = value) -> None:
            for key in way[:-1]:
                document = document[key]
            if way[-1] == "crc32c":
                return
            document[way[-1]] = value

        forger.rewrite(path, change)
        try:
            refused += bool(use(forger.root))
        except Exception as e:
            raise AssertionError(f"{'.'.join(map(str, way))} of {path.name} as {value!r:.40}") from e
        for changed, data in whole.items():
            changed.write_bytes(data)
    return refused


def test_any_value_anywhere(forger: Forger) -> None:
    assert replace_values(forger, 100, seed=0) > 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_any_value_anywhere_many_times(forger: Forger, seed: int) -> None:
    assert replace_values(forger, 500, seed) > 250
