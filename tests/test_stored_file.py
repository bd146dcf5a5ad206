"""Sources and models in an object store: what is read there is what is read from the disk, and by ranges."""

from __future__ import annotations

import bz2
import dataclasses
import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders import fingerprint, model_folder, retriever_folder
from encoders.reader import folder as reader_folder
from examples.miniwiki.export import DumpTruth
from pipeline.components import stored_models
from pipeline.text import sources
from pipeline.text.sources import SourceError
from storage import errors, stored_file
from storage.stored_file import StoredFile
from storage.traffic import TRAFFIC
from tests.object_store import BUCKET, serving

URL = f"s3://{BUCKET}/in"


@pytest.fixture(scope="module")
def bucket(
    dump: DumpTruth, models: Path, even_source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Path]]:
    """A client, and the folder that was uploaded below `in/`."""
    folder = tmp_path_factory.mktemp("sources")
    for path in dump.path.parent.iterdir():
        if path.is_file():
            (folder / "wiki").mkdir(exist_ok=True)
            shutil.copy(path, folder / "wiki" / path.name)
    (folder / "lines").mkdir()
    shutil.copy(even_source, folder / "lines/a.jsonl")
    (folder / "lines/b.jsonl.bz2").write_bytes(bz2.compress(even_source.read_bytes().replace(b'"T', b'"U')))
    rows = [{"id": str(i), "url": f"u{i}", "title": f"T{i}", "text": f"text {i} " * 50} for i in range(400)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet", row_group_size=50)
    tsv = "id\ttext\ttitle\n" + "".join(f'{i}\t"words of {i}"\tT{i}\n' for i in range(300))
    (folder / "psgs.tsv").write_text(tsv)
    shutil.copytree(models, folder / "models")
    with serving() as client:
        for path in folder.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), BUCKET, f"in/{path.relative_to(folder).as_posix()}")
        yield client, folder


@pytest.mark.parametrize(
    ("form", "where", "split_bytes"),
    [
        ("mediawiki", "wiki", 20_000),
        ("jsonl", "lines", 5_000),
        ("jsonl", "*/[ab].jsonl*", 5_000),
        ("wikipedia", "rows.parquet", 2_000),
        ("dpr", "psgs.tsv", 3_000),
    ],
)
def test_sources_are_read_there_as_here(
    bucket: tuple[Any, Path], form: str, where: str, split_bytes: int
) -> None:
    _, folder = bucket
    here = sources.open_source(f"{form}:{folder}/{where}")
    there = sources.open_source(f"{form}:{URL}/{where}")
    assert [file.name for file in there.files] == [file.name for file in here.files]
    for one, other in zip(there.files, here.files, strict=True):
        assert fingerprint.digest_file(one) == fingerprint.digest_file(other)
    splits, wanted = there.splits(split_bytes), here.splits(split_bytes)
    assert len(wanted) > 1
    for split, local in zip(splits, wanted, strict=True):
        assert split.path.startswith("s3://")
        assert dataclasses.replace(split, path=local.path) == local
        pages = [repr(page) for page in sources.read_split(split)]
        assert pages == [repr(page) for page in sources.read_split(local)]


def test_a_part_of_a_file_takes_about_a_part_of_its_bytes(bucket: tuple[Any, Path], tmp_path: Path) -> None:
    client, _ = bucket
    data = random.Random(1).randbytes(40 << 20)
    client.put_object(Bucket=BUCKET, Key="in/large", Body=data)
    file = stored_file.at(f"{URL}/large")
    before = TRAFFIC.counts()
    with file.open("rb") as stream:
        assert stream.read(512) == data[:512]
        stream.seek(20 << 20)
        assert stream.read(1 << 20) == data[20 << 20 : 21 << 20]
        stream.seek(-7, 2)
        assert stream.read() == data[-7:]
    after = TRAFFIC.counts()
    assert after["bytes_got"] - before["bytes_got"] < 3 << 20
    with file.open("rb") as stream:
        assert hashlib.file_digest(stream, "md5").digest() == hashlib.md5(data).digest()
    assert TRAFFIC.counts()["gets"] - after["gets"] < 20


def test_a_file_is_what_its_name_says(bucket: tuple[Any, Path]) -> None:
    file = StoredFile.of(f"{URL}/lines/a.jsonl")
    assert (str(file), file.name, file.is_file()) == (f"{URL}/lines/a.jsonl", "a.jsonl", True)
    assert file.with_name("c.jsonl") == StoredFile.of(f"{URL}/lines/c.jsonl")
    assert not file.with_name("c.jsonl").is_file()
    assert StoredFile.of(f"{URL}/lines").is_dir()
    assert not StoredFile.of(f"{URL}/line").is_dir()
    with pytest.raises(TypeError):  # never taken for a file of this machine
        open(file, "rb")  # noqa: SIM115


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (f"jsonl:{URL}/none.jsonl", "no such file"),
        (f"jsonl:{URL}/models", "is a folder without"),
        (f"wikipedia:{URL}/lines/a.jsonl", "not Parquet"),
        ("jsonl:s3://", "names no bucket"),
        ("jsonl:s3://no-such-bucket/x", "no such bucket"),
    ],
)
def test_what_is_no_source_there_is_told(bucket: tuple[Any, Path], spec: str, told: str) -> None:
    with pytest.raises(errors.CorpusError, match=told) as caught:
        sources.open_source(spec)
    assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match="given twice"):
        sources.open_sources([f"jsonl:{URL}/lines/a.jsonl", f"jsonl:{URL}/lines"])


def test_models_there_have_the_same_fingerprint(
    bucket: tuple[Any, Path], models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    client, _ = bucket
    found = retriever_folder.open_folder(f"{URL}/models/gtr")
    assert found.fingerprint == retriever_folder.open_folder(models / "gtr").fingerprint
    first = model_folder.resolve(f"{URL}/models/t5")
    assert {path.name for path in first.iterdir()} <= {path.name for path in (models / "t5").iterdir()}
    before = TRAFFIC.counts()["bytes_got"]
    assert model_folder.resolve(f"{URL}/models/t5") == first
    assert TRAFFIC.counts()["bytes_got"] == before
    # Changed there: copied anew, into a folder of its own.
    config = json.loads((models / "t5/config.json").read_text()) | {"changed": True}
    client.put_object(Bucket=BUCKET, Key="in/models/t5/config.json", Body=json.dumps(config).encode())
    again = model_folder.resolve(f"{URL}/models/t5")
    assert again != first
    assert json.loads((again / "config.json").read_text())["changed"]
    # A reader's folder is known as one there too: its memory has settings of its own.
    assert not reader_folder.is_reader(f"{URL}/models/t5")
    client.put_object(Bucket=BUCKET, Key=f"in/models/t5/{reader_folder.SETTINGS}", Body=b"{}")
    assert reader_folder.is_reader(f"{URL}/models/t5")
    client.delete_object(Bucket=BUCKET, Key=f"in/models/t5/{reader_folder.SETTINGS}")
    again = model_folder.resolve(f"{URL}/models/t5")
    assert stored_models.copied(f"{URL}/models/t5", ("config.json",)) == again
    with pytest.raises(model_folder.ModelFolderError, match="holds no model"):
        model_folder.resolve(f"{URL}/models/none")
