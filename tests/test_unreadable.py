"""Bytes that cannot be read are not told as damaged, not repaired away, and nothing is done over them."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from encoders import fingerprint, model_folder
from pipeline.text.sources import blocks, kinds, mediawiki, streams, wikipedia_parquet
from pipeline.text.sources.base import SourceError
from pipeline.units import failures, work
from retrieval import index, open_corpus
from storage import canaries, components, descriptors, errors, file_list, files, passage_table, receipts
from storage.folder import CorpusFolder
from storage.verify import verify_corpus
from tests.test_memory_store import layout_of, reader, write

NOBODY = 65534
# It opens, and there is no byte at its first addresses: EIO, as of a bad sector.
BAD_SECTOR = Path("/proc/self/mem")


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything: be somebody else meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_copy(corpus: Path) -> Iterator[Path]:
    """A copy of the corpus that everybody may read; pytest's own folders are for their owner alone."""
    folder = Path(tempfile.mkdtemp(prefix="memcorpus-test-"))
    folder.chmod(0o755)
    try:
        yield Path(shutil.copytree(corpus, folder / "corpus"))
    finally:
        shutil.rmtree(folder)


@contextmanager
def closed(path: Path) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(before)


def everything_of(corpus: Path) -> list[Any]:
    """What all ways to read give."""
    opened = open_corpus(corpus)
    everything = np.arange(len(opened))
    query = np.ones((1, opened.vectors_card.layout.dim), np.float32)
    card = opened.memory().card
    folder = CorpusFolder(corpus)
    return [
        opened.passages(everything).num_rows,
        float(opened.memory().fetch(everything).values.astype(np.float32).sum()),
        opened.search(query, 3).passage_ids.tolist(),
        float(opened.vectors().read(0, len(opened)).sum()),
        float(canaries.read(corpus, card.canaries, width=card.layout.width).astype(np.float32).sum()),
        [
            sum(1 for _ in folder.files_of(component, name))
            for component in components.TABLE
            for name in folder.manifest.of(component)
        ],
    ]


def test_every_file_and_folder_that_may_not_be_read(public_copy: Path) -> None:
    right = everything_of(public_copy)
    refused = 0
    for path in [public_copy, *sorted(public_copy.rglob("*"))]:
        name = path.relative_to(public_copy).as_posix()
        with closed(path), unprivileged():
            refusal: Exception | None = None
            try:
                assert everything_of(public_copy) == right
            except errors.UnreadableError as e:
                refusal = e
                refused += 1
            if refusal is not None:
                assert "permission_denied" in str(refusal).lower().replace(" ", "_"), name
                assert "\n" not in str(refusal)
                assert failures.kind(refusal) == failures.FAILED
            # And verify tells the two apart.
            try:
                found = verify_corpus(CorpusFolder(public_copy), full=True)
            except errors.UnreadableError:
                assert path == public_copy or path.name == "corpus.json"
                continue
        assert found.damaged == [], name
        assert found.entries == []
        if path.is_file() and path.name != "quarantine.jsonl":
            assert any(path.name in line for line in found.unreadable), name
            assert not found.ok
    # Statistics, the quarantine and the metadata of arrays that are read without it are not read by readers.
    assert refused > 20


def test_damage_beside_it_is_told_as_damage(public_copy: Path) -> None:
    first, second = sorted(public_copy.glob("memory/*/values/c/*/0/0"))[:2]
    first.write_bytes(first.read_bytes()[:-1])
    with closed(second), unprivileged():
        found = verify_corpus(CorpusFolder(public_copy), full=True)
    assert [entry.path for entry in found.entries] == [first.relative_to(public_copy).as_posix()]
    assert len(found.damaged) == len(found.unreadable) == 1
    assert str(second) in found.unreadable[0]


def test_commands_say_so_in_a_line_and_touch_nothing(
    command: Callable[..., Any], corpus_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(corpus_copy.glob("memory/*/values/c/0/0/0"))
    before = path.stat()
    real = files.measure

    def failing(file: Path) -> files.Measured:
        if file == path:
            raise OSError(errno.EIO, "Input/output error", str(file))
        return real(file)

    monkeypatch.setattr(files, "measure", failing)
    status, out, _ = command("verify", corpus_copy, "--full")
    assert status == 1
    assert f"unreadable: {path} cannot be read: Input/output error; it may be whole" in out
    assert "damaged" not in out
    status, out, _ = command("repair", corpus_copy)
    assert status == 1
    assert out == (
        f"not repaired: {path} cannot be read: Input/output error; it may be whole: look after the disk or "
        "the network, and try again\n"
    )
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not (corpus_copy / "work").exists()
    card = next(corpus_copy.glob("memory/*/memory.json"))
    path = card
    status, _, err = command("get", corpus_copy, "1", "--memory")
    assert status == 1
    assert err.startswith(f"memcorpus: {card} cannot be read: Input/output error")
    assert err.count("\n") == 1


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_memory_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    layout = layout_of(64)
    truth = write(tmp_path, layout, np.full(64, 3))
    opened = reader(tmp_path, layout)

    def failing(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    for name in ("preadv", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            for fetch in (opened.fetch, lambda ids: opened.prefetch(ids).result()):
                with pytest.raises(errors.UnreadableError, match=os.strerror(number)) as raised:
                    fetch([5, 60])
                assert raised.value.errno == number
    np.testing.assert_array_equal(opened.fetch([5])[0], truth[5])
    # What is not there is lost, whatever the system calls that.
    shutil.rmtree(tmp_path / "values")
    with pytest.raises(errors.DamagedError, match="is missing"):
        opened.fetch([60])


def test_a_unit_is_not_done_over_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = CorpusFolder(tmp_path)
    corpus.work.open_stage("encode")
    data = tmp_path / "data"
    data.write_bytes(b"paid for")
    receipt = receipts.Receipt(
        unit=0, files=(files.entry_of(tmp_path, data),), counts=receipts.Counts(), seconds={}, worker="w"
    )
    path = corpus.work.receipt_path("encode", 0)
    receipt.write(path)
    job: Any = SimpleNamespace(corpus=corpus, stage=SimpleNamespace(name="encode", counts=receipts.Counts))
    assert work.begin(job, 0) is None
    with monkeypatch.context() as patch:
        patch.setattr(files, "measure", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
        with pytest.raises(errors.UnreadableError, match="broken"):
            work.begin(job, 0)
        # The process that started the job is told.
        left = work.first_error(corpus.work, "encode")
        assert isinstance(left, failures.UnitFailed)
        assert "data cannot be read: broken" in str(left)
    assert path.exists()
    assert work.begin(job, 0) is None
    data.write_bytes(b"paid FOR")
    assert work.begin(job, 0) is not None
    assert not path.exists()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, errors.DamagedError),
        (errno.EISDIR, errors.DamagedError),
        (errno.EIO, errors.UnreadableError),
        (errno.EACCES, errors.UnreadableError),
        (errno.EMFILE, errors.UnreadableError),
        (errno.ETIMEDOUT, errors.UnreadableError),
    ],
)
def test_what_the_system_says(number: int, kind: type[Exception]) -> None:
    found = errors.from_os("x", OSError(number, os.strerror(number)))
    assert type(found) is kind
    assert str(found).startswith("x ")
    assert os.strerror(number) in str(found)
    assert errors.from_os("y", errors.UnreadableError("x", number)).args == ("x",)


READS: dict[str, Callable[[Path], object]] = {
    "a small file": files.read_bytes,
    "a file that was just written": lambda path: files.entry_of(path.parent, path),
    "an index": lambda path: index._read(path, 100),
    "a source's first bytes": kinds.head_of,
    "a plain source": lambda path: list(blocks.PlainBlocks(path, 0, 100)),
    "a bzip2 source": lambda path: list(blocks.Bz2Blocks(path, 0, 100)),
    "a gzip source": lambda path: list(blocks.GzipBlocks(path)),
    "a source's last bytes": streams.require_end,
    "the end of an export": mediawiki._require_end,
    "a Parquet source": wikipedia_parquet._open,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_bad_sector_is_one_class(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.symlink_to(BAD_SECTOR)
    with pytest.raises(errors.UnreadableError, match=r"cannot be read: Input/output error") as raised:
        read(path)
    assert raised.value.errno == errno.EIO
    assert str(path) in str(raised.value) or path.name in str(raised.value)


def _list_of(path: Path) -> object:
    return list(file_list.read(path, files.FileEntry(path=path.name, bytes=1, crc32=0)))


def _numbered(path: Path) -> object:
    return passage_table.number_part(path, path.with_name("new"), 0)


@pytest.mark.parametrize("read", [_list_of, _numbered])
def test_parquet_that_may_not_be_read(read: Callable[[Path], object]) -> None:
    """Arrow has OSErrors of its own for what makes no sense; those of the system have a number."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        path = Path(folder, "file")
        path.touch()
        with closed(path), unprivileged(), pytest.raises(errors.UnreadableError, match="ermission denied"):
            read(path)
        assert [other.name for other in Path(folder).iterdir()] == ["file"]


def test_a_source_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file or directory; check the path"):
        kinds.head_of(tmp_path / "nowhere")


MODEL_READS: dict[str, Callable[[Path], object]] = {
    "its settings": model_folder.read_json,
    "a digest": fingerprint.digest_file,
    "a tensor": lambda path: list(
        model_folder.Tensor(name="t", dtype="F32", shape=(2,), path=path, begin=0, end=8).chunks()
    ),
}


@pytest.mark.parametrize("read", MODEL_READS.values(), ids=MODEL_READS)
def test_a_model_that_cannot_be_read_is_no_bad_input(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.symlink_to(BAD_SECTOR)
    with pytest.raises(OSError, match="Input/output error") as raised:
        read(path)
    assert failures.kind(raised.value) == failures.FAILED
    assert failures.message(raised.value) == (
        f"{path}: Input/output error; look after the disk or the network, and run the same again"
    )


def test_a_write_that_fails_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    # As Arrow does; `os.write` on a descriptor has the system's words alone.
    text = "Error writing bytes to file. Detail: [errno 5] Input/output error"
    with pytest.raises(OSError, match="Error writing") as raised, files.aside(path):
        raise OSError(errno.EIO, text)
    assert failures.message(raised.value).startswith(f"{path}: Input/output error; look after the disk")
    assert list(tmp_path.iterdir()) == []


def test_a_unit_that_cannot_be_begun_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised before the unit's own work is told like any other error, not in the runner's words."""
    corpus = CorpusFolder(tmp_path)
    corpus.work.open_stage("encode")
    path = corpus.work.receipt_path("encode", 0)
    path.write_text("of another plan")
    job: Any = SimpleNamespace(corpus=corpus, stage=SimpleNamespace(name="encode", counts=receipts.Counts))

    def failing(self: Path, *, missing_ok: bool = False) -> None:
        raise OSError(errno.EIO, "Input/output error", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", failing)
        with pytest.raises(OSError, match="Input/output error"):
            work.begin(job, 0)
    left = work.first_error(corpus.work, "encode")
    assert isinstance(left, failures.UnitFailed)
    assert str(left).startswith(f"encode 0: {path}: Input/output error; look after the disk")


def test_a_close_that_fails_says_nothing(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = os.close

    def failing(descriptor: int) -> None:
        real(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    opened = descriptors.OpenFile(str(corpus / "corpus.json"), str(corpus))
    monkeypatch.setattr(os, "close", failing)
    del opened
    gc.collect()
    monkeypatch.undo()
    assert capfd.readouterr().err == ""
