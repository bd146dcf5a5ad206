"""Builds with codecs that code: the memory near to that of bfloat16, the same bytes however it was built."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pipeline.components.memory import train_codec
from pipeline.components.memory import version as memory_version
from pipeline.components.settings import BuildSettings
from pipeline.jobs import build as build_module
from pipeline.units import engines
from pipeline.units.meter import Meter
from retrieval import open_corpus
from storage import codec_parameters, codecs, components, errors, manifest
from tests.jobs import build
from tests.jobs import verify as verification
from tests.test_build import content


def built(settings: BuildSettings, folder: Path, codec: str) -> Path:
    return build(dataclasses.replace(settings, codec=codec), folder).corpus.root


@pytest.fixture(scope="module")
def float32(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(settings, tmp_path_factory.mktemp("float32") / "corpus", "float32")


@pytest.fixture(scope="module")
def pq(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(settings, tmp_path_factory.mktemp("pq") / "corpus", "pq8x8")


# Largest relative mean square error on states of a random T5; pq's rate is one bit a dimension.
@pytest.mark.parametrize(("name", "worst"), [("pq8x8", 0.35), ("int8", 2e-4), ("turbo4", 0.012)])
def test_memory_is_near_to_what_was_computed(
    settings: Any, float32: Path, pq: Path, tmp_path: Path, name: str, worst: float
) -> None:
    root = pq if name == "pq8x8" else built(settings, tmp_path / "corpus", name)
    corpus = open_corpus(root)
    reader = corpus.memory()
    everything = np.arange(len(corpus))
    fetched = reader.fetch(everything)
    exact = open_corpus(float32).memory().fetch(everything)
    np.testing.assert_array_equal(fetched.offsets, exact.offsets)
    assert fetched.values.dtype == codecs.bfloat16
    error = np.linalg.norm(fetched.values.astype(np.float64) - exact.values, axis=1)
    assert (error <= reader.coder.error_bound(np.asarray(exact.values))).all()
    assert (error**2).sum() / np.square(exact.values.astype(np.float64)).sum() < worst
    stored = reader.fetch([3, 1], decode=False)
    np.testing.assert_array_equal(reader.coder.decoded(stored.values), reader.fetch([3, 1]).values)
    assert stored.values.shape[1] == reader.card.layout.stored_width
    # The parameters are files of the version like any other.
    assert verification(root, full=True).ok
    for key, digest in reader.card.codec_parameters.items():
        folder = root / components.MEMORY.folder(reader.version)
        array: Any = zarr.open_array(folder / "codec" / key, mode="r")[:]
        assert codec_parameters.digests({key: array}) == {key: digest}


def test_two_builds_and_two_processes_give_the_same_bytes(settings: Any, pq: Path, tmp_path: Path) -> None:
    engine = engines.chosen(beam_options=["--direct_running_mode=multi_processing", "--direct_num_workers=2"])
    build(dataclasses.replace(settings, codec="pq8x8"), tmp_path / "two", engine=engine)
    assert content(tmp_path / "two") == content(pq)


class Stop(Exception):
    """An interruption that a test makes."""


def test_interrupted_it_trains_once_and_ends_with_the_same_bytes(
    settings: Any, pq: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "corpus"

    def stop(*_: object, **__: object) -> None:
        raise Stop

    trained = []
    original = train_codec.TrainCodec.run

    def run(self: Any, unit: int, meter: Meter) -> Any:
        trained.append(unit)
        return original(self, unit, meter)

    monkeypatch.setattr(train_codec.TrainCodec, "run", run)
    for module, name in (
        (codec_parameters, "write"),
        (memory_version.CommitMemory, "finish"),
        (build_module.commit, "commit"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, stop)
            with pytest.raises((Stop, RuntimeError)):
                built(settings, out, "pq8x8")
    assert len(trained) == 2  # stopped before it was written, and once more
    # What was trained is damaged: it is made again.
    (path,) = out.glob("memory/*/codec/codebooks/c/0/0/0")
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert content(built(settings, out, "pq8x8")) == content(pq)
    assert len(trained) == 3


def test_shards_go_with_the_parameters_they_were_coded_with(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same training again, with another outcome, as on another kind of machine."""
    original = codecs.by_name("pq8x8").train

    def other(self: Any, sample: Any, seed: int = 0) -> Any:
        return original(sample, 1)

    out = tmp_path / "corpus"
    with monkeypatch.context() as patch:
        patch.setattr(type(codecs.by_name("pq8x8")), "train", other)
        with patch.context() as inner:
            inner.setattr(build_module.commit, "commit", lambda *_, **__: (_ for _ in ()).throw(Stop))
            with pytest.raises(Stop):
                built(settings, out, "pq8x8")
    (receipt,) = (out / "work/codec").glob("*.json")
    receipt.unlink()
    with pytest.raises(errors.DamagedError, match="coded with other parameters"):
        built(settings, out, "pq8x8")
    assert not (out / manifest.NAME).exists()


def test_what_cannot_be_built_is_refused_before_anything_is_written(settings: Any, tmp_path: Path) -> None:
    with pytest.raises(errors.CorpusError, match="do not divide the memory's width 32"):
        built(settings, tmp_path / "corpus", "pq24x8")
    assert not (tmp_path / "corpus").exists()
    with pytest.raises(errors.CorpusError, match="tokens are too small a sample, wanted 262,144"):
        built(settings, tmp_path / "corpus", "pq16x16")


@pytest.mark.parametrize(("count", "total"), [(3, 10), (10, 3), (0, 5), (5, 0), (7, 7), (512, 10**9)])
def test_spaced(count: int, total: int) -> None:
    places = train_codec.spaced(count, total)
    assert len(places) == min(count, total)
    assert len(np.unique(places)) == len(places)
    if len(places):
        assert places[0] == 0
        assert places[-1] < total
        assert np.diff(places).max(initial=1) - np.diff(places).min(initial=total) <= 1
