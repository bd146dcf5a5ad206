"""An index built by many: the same bytes whatever the order, the workers, the kills; FAISS's own bytes."""

from __future__ import annotations

import io
import itertools
import os
import random
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.accounts.plan import indexing
from pipeline.components.index import build as component
from pipeline.components.index.build import IndexPlan
from pipeline.units import engines, overlap
from pipeline.units.stages import Stages
from retrieval import index, index_building, index_files, index_shape, refining
from retrieval.exact import Nearest
from storage import components, errors, files, row_array, vector_array
from storage.folder import CorpusFolder
from storage.joined import JoinedVectors
from storage.shards import ShardGrid
from storage.stored_folder import open_for_writing
from storage.vector_array import VectorArray, VectorLayout
from tests import object_store
from tests.object_store import BUCKET

PASSAGES, DIM, UNIT = 3000, 16, 512
NAME = "f" * 64
LAYOUT = VectorLayout(grid=ShardGrid(passages=PASSAGES, shard_passages=192), dim=DIM, dtype="float32")


def vectors_of(count: int = PASSAGES, dim: int = DIM) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(60, dim))
    return (centres[rng.integers(0, 60, count)] + 0.5 * rng.normal(size=(count, dim))).astype(np.float32)


VECTORS = vectors_of()


def begun(corpus: CorpusFolder) -> CorpusFolder:
    """A corpus of which all but the index is there."""
    folder = components.VECTORS.folder(NAME)
    corpus.publish([vector_array.create(corpus.path(folder), LAYOUT)])
    for shard in LAYOUT.grid:
        first, stop = LAYOUT.grid.bounds(shard)
        path, measured = vector_array.write_shard(corpus.path(folder), LAYOUT, shard, VECTORS[first:stop])
        corpus.placed(path, measured)
    corpus.work.write_plan({"sources": []})
    return corpus


def planned(corpus: CorpusFolder, **changed: Any) -> IndexPlan:
    return IndexPlan(
        corpus=corpus,
        fingerprint=NAME,
        vectors=LAYOUT,
        **({"similarity": "dot", "exact_limit": 100, "unit_passages": UNIT} | changed),
    )


class Shuffled:
    """Does units in some order, some of them twice."""

    name, options = "shuffled", ()

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def run(self, job: Any, units: Sequence[int], on_poll: Callable[[], None]) -> None:
        order = [*units, *units[:2]]
        self._random.shuffle(order)
        overlap.run_units(job, order)


def made(corpus: CorpusFolder, engine: Any = None, **changed: Any) -> tuple[bytes, Any]:
    """The index's bytes, and the counts of its receipt."""
    plan = planned(corpus, **changed)
    component.make(Stages(corpus, engine or Shuffled()), plan)
    (receipt,) = corpus.work.receipts(component.STAGE.name, range(1), component.STAGE.counts)
    (entry,) = receipt.files
    found = corpus.objects.get(entry.path).data if hasattr(corpus, "objects") else None  # of a bucket
    return found or corpus.path(entry.path).read_bytes(), receipt.counts


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any, Path]:
    root = tmp_path_factory.mktemp("whole")
    return *made(begun(CorpusFolder(root)), engines.chosen()), root


def test_the_bytes_are_those_that_faiss_alone_writes(whole: Any) -> None:
    found, counts, _ = whole
    shape = index.choose(PASSAGES, DIM, exact_limit=100)
    assert (shape.kind, counts.lists) == ("IVF256,SQ8", 256)
    own = faiss.index_factory(DIM, shape.kind, faiss.METRIC_INNER_PRODUCT)
    points = np.linspace(0, PASSAGES - 1, min(PASSAGES, 256 * 64)).astype(np.int64)
    own.train(VECTORS[points])
    for first in range(0, PASSAGES, 700):
        own.add(VECTORS[first : first + 700])
    own.nprobe = counts.probes
    assert found == index_files.serialized(own)


def test_any_order_and_what_was_killed_give_the_same_bytes(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, counts, _ = whole
    corpus = begun(CorpusFolder(tmp_path))
    trained: list[int] = []
    real = index_building.train
    monkeypatch.setattr(index_building, "train", lambda *a: trained.append(1) or real(*a))
    added: list[Path] = []
    adding = index_building.add

    def dying(*given: Any, **named: Any) -> Any:
        if len(added) == 3:
            raise KeyboardInterrupt
        added.append(given[2])
        return adding(*given, **named)

    monkeypatch.setattr(index_building, "add", dying)
    with pytest.raises(KeyboardInterrupt):
        made(corpus, Shuffled(1))
    # The launcher dies in the middle of the parts' putting together.
    monkeypatch.setattr(index_building, "add", lambda *a, **n: added.append(a[2]) or adding(*a, **n))
    assembling = index_files.write_lists

    def half(file: Any, *given: Any) -> int:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(index_files, "write_lists", half)
    with pytest.raises(KeyboardInterrupt):
        made(corpus, Shuffled(2))
    assert not list(tmp_path.glob("index/*/index.faiss"))
    monkeypatch.setattr(index_files, "write_lists", assembling)
    found, again = made(corpus, Shuffled(3))
    assert (found, again) == (expected, counts)
    # Trained once, and every range once.
    assert trained == [1]
    assert len(added) == len(set(added)) == planned(corpus).units == 6


def test_parts_of_another_training_are_not_believed(whole: Any, tmp_path: Path) -> None:
    expected, counts, _ = whole
    corpus = begun(CorpusFolder(tmp_path))
    made(corpus)
    work = corpus.work
    work.remove_receipt(component.STAGE.name, 0)
    # As if a training that was damaged had come out different when it was done again.
    for unit in range(6):
        receipt = work.read_receipt(component.ADD.name, unit, component.ADD.counts)
        work.write_receipt(
            component.ADD.name, replace(receipt, counts=replace(receipt.counts, trained_crc32=1))
        )
        path = work.side_file(component.ADD.name, unit, ".part")
        path.write_bytes(path.read_bytes()[:-16] + bytes(16))
    assert made(corpus) == (expected, counts)


def test_a_part_that_was_damaged_since_is_not_believed(tmp_path: Path) -> None:
    corpus = begun(CorpusFolder(tmp_path))
    made(corpus)
    work = corpus.work
    job = component.JoinIndex(
        adding=component.AddVectors(
            plan=planned(corpus),
            trained=work.read_receipt(component.TRAIN.name, 0, component.TRAIN.counts).files[0],
            queries=work.read_receipt(component.TRAIN.name, 0, component.TRAIN.counts).files[1],
        )
    )
    path = work.side_file(component.ADD.name, 2, ".part")
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)
    work.remove_receipt(component.STAGE.name, 0)
    with pytest.raises(errors.DamagedError, match=r"000002\.part has CRC-32"):
        overlap.run_units(job, [0])


def test_built_in_a_bucket_it_is_the_same(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, counts, _ = whole
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with object_store.serving():
        corpus = begun(open_for_writing(f"s3://{BUCKET}/corpus"))
        with corpus.alone():
            assert made(corpus, Shuffled(4)) == (expected, counts)
            # Vectors are here as long as they are read: nothing of them is left.
            assert not list(corpus.root.glob("vectors/*/c/*/*"))
            assert not list(corpus.root.glob("borrowed/*"))


@pytest.mark.slow
def test_two_workers_write_what_one_does(whole: Any, tmp_path: Path) -> None:
    expected, counts, _ = whole
    corpus = begun(CorpusFolder(tmp_path))
    engine = engines.chosen(None, ("--direct_running_mode=multi_processing", "--direct_num_workers=2"))
    component.make(Stages(corpus, engine), planned(corpus))
    (receipt,) = corpus.work.receipts(component.STAGE.name, range(1), component.STAGE.counts)
    assert corpus.path(receipt.files[0].path).read_bytes() == expected
    assert receipt.counts == counts
    workers = {r.worker for r in corpus.work.receipts(component.ADD.name, range(6), component.ADD.counts)}
    assert f"{os.getpid()}" not in str(workers)


def test_what_lies_in_work_is_foretold(whole: Any) -> None:
    root: Path = whole[2]
    found = [*root.glob("work/train/*"), *root.glob("work/add/*")]
    taken = sum(path.stat().st_size for path in found if path.suffix != ".json")
    shape = index.choose(PASSAGES, DIM, exact_limit=100)
    foretold = indexing.parts_bytes(shape, PASSAGES, DIM, unit_passages=UNIT)
    assert foretold == pytest.approx(taken, rel=0.01)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_decide_nothing(whole: Any, tmp_path: Path, threads: int) -> None:
    expected, counts, root = whole
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        array = VectorArray(root / components.VECTORS.folder(NAME), LAYOUT)
        shape = index.choose(PASSAGES, DIM, exact_limit=100)
        path = tmp_path / "index.faiss"
        measured = index_building.build(array, shape, path)
    finally:
        faiss.omp_set_num_threads(before)
    assert path.read_bytes() == expected
    assert (measured.probes, round(measured.recall * 1e6)) == (counts.probes, counts.recall_millionths)


@given(
    numbers=st.lists(st.integers(0, 11), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    gaps=st.integers(1, 5),
    block=st.sampled_from([1, 40, 1 << 20]),
    metric=st.sampled_from([faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2]),
)
@settings(max_examples=60, deadline=None)
def test_parts_put_together_are_faisss_index(
    tmp_path_factory: pytest.TempPathFactory,
    numbers: list[int],
    cuts: list[int],
    gaps: int,
    block: int,
    metric: int,
) -> None:
    """Any rows in any lists, cut into any parts, put together by blocks of any size."""
    trained = TRAINED[metric]
    code = int(trained.code_size)
    ids = gaps * np.arange(len(numbers), dtype=np.int64) + 7
    codes = np.random.default_rng(len(numbers)).integers(0, 256, (len(numbers), code)).astype(np.uint8)
    lists = np.array(numbers, np.int64)
    own = faiss.clone_index(trained)
    for number, one, row in zip(numbers, ids.tolist(), codes, strict=True):
        own.invlists.add_entry(number, one, faiss.swig_ptr(row))
    own.ntotal = len(numbers)
    folder = tmp_path_factory.mktemp("parts")
    bounds = sorted({0, len(numbers), *(cut for cut in cuts if cut < len(numbers))})
    paths = []
    for first, stop in itertools.pairwise(bounds):
        paths.append(folder / str(first))
        part = slice(first, stop)
        index_files.write_partial(paths[-1], 12, ids[part], lists[part], codes[part])
    file = io.BytesIO()
    assert index_files.write_lists(file, trained, paths, block_bytes=block) == len(numbers)
    assert file.getvalue() == index_files.serialized(own)


def _small(metric: int) -> Any:
    trained = faiss.index_factory(4, "IVF12,SQ8", metric)
    trained.train(vectors_of(600, 4))
    return trained


TRAINED = {metric: _small(metric) for metric in (faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2)}


@pytest.mark.parametrize("kind", ["IVF16,SQ8", "PCA8,IVF16,PQ4", "OPQ4,IVF16,PQ4np", "OPQ4_8,IVF300,PQ4np"])
@pytest.mark.parametrize("similarity", ["dot", "euclidean"])
def test_codes_of_parts_are_those_of_faiss(tmp_path: Path, kind: str, similarity: str) -> None:
    """With lists whose numbers take a byte and two, and vectors that are turned first."""
    if kind.startswith("OPQ4_8") and similarity == "dot":
        pytest.skip("takes as long, and tells no more")
    metric = faiss.METRIC_L2 if similarity == "euclidean" else faiss.METRIC_INNER_PRODUCT
    trained = faiss.index_factory(DIM, kind, metric)
    ivf = faiss.downcast_index(faiss.extract_index_ivf(trained))
    ivf.cp.niter = 2
    if isinstance(ivf, faiss.IndexIVFPQ):
        ivf.pq.cp.niter, ivf.do_polysemous_training = 2, False
    if isinstance(trained, faiss.IndexPreTransform):
        turn = faiss.downcast_VectorTransform(trained.chain.at(0))
        if isinstance(turn, faiss.OPQMatrix):
            turn.niter = turn.niter_pq = turn.niter_pq_0 = 1
    trained.train(VECTORS)
    own = faiss.clone_index(trained)
    own.add(VECTORS)
    paths = []
    for first in range(0, PASSAGES, 1000):
        paths.append(tmp_path / str(first))
        batches = iter(
            [(first, VECTORS[first : first + 600]), (first + 600, VECTORS[first + 600 : first + 1000])]
        )
        count, _ = index_building.add(trained, batches, paths[-1], similarity=similarity)
        assert count == 1000
    file = io.BytesIO()
    index_files.write_lists(file, trained, paths, block_bytes=5000)
    assert file.getvalue() == index_files.serialized(own)


def test_parts_out_of_place_are_refused(tmp_path: Path) -> None:
    trained = TRAINED[faiss.METRIC_L2]
    for first in (0, 5):
        codes = np.zeros((5, trained.code_size), np.uint8)
        index_files.write_partial(
            tmp_path / str(first), 12, np.arange(first, first + 5), np.zeros(5, np.int64), codes
        )
    with pytest.raises(errors.DamagedError, match="not in its place"):
        index_files.write_lists(io.BytesIO(), trained, [tmp_path / "5", tmp_path / "0"])
    cut = (tmp_path / "5").read_bytes()[:-1]
    (tmp_path / "5").write_bytes(cut)
    with pytest.raises(errors.DamagedError, match="ends before its end"):
        index_files.write_lists(io.BytesIO(), trained, [tmp_path / "0", tmp_path / "5"])
    (tmp_path / "5").write_bytes(b"")
    with pytest.raises(errors.DamagedError, match="no part of an index"):
        index_files.Partial.open(tmp_path / "5")


def test_a_gather_holds_few_chunks_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read of all ids would hold the chunk of each: of a training sample ten times the sample."""
    vector_array.create(tmp_path, LAYOUT)
    for shard in LAYOUT.grid:
        first, stop = LAYOUT.grid.bounds(shard)
        vector_array.write_shard(tmp_path, LAYOUT, shard, VECTORS[first:stop])
    array = VectorArray(tmp_path, LAYOUT)
    ids = np.random.default_rng(1).permutation(PASSAGES)[:2000].astype(np.int64)
    asked: list[int] = []
    real = array._rows._array.read

    def read(region: Any) -> Any:
        asked.append(len(region[0]))
        return real(region)

    monkeypatch.setattr(array._rows._array, "read", read)
    monkeypatch.setattr(row_array, "GATHERED_BYTES", 100 * 64 * DIM * 4)
    np.testing.assert_array_equal(array.take(ids), VECTORS[ids])
    assert (max(asked), sum(asked)) == (100, 2000)


def test_picked_rows_are_the_rows(tmp_path: Path) -> None:
    """By plain reads; what does not match its checksum is an error, and in whatever order chunks lie."""
    vector_array.create(tmp_path, LAYOUT)
    for shard in LAYOUT.grid:
        first, stop = LAYOUT.grid.bounds(shard)
        vector_array.write_shard(tmp_path, LAYOUT, shard, VECTORS[first:stop])
    array = VectorArray(tmp_path, LAYOUT)
    rng = np.random.default_rng(4)
    for ids in (rng.integers(0, PASSAGES, 500), np.array([2999, 0, 2999, 191, 192]), np.zeros(0, np.int64)):
        np.testing.assert_array_equal(array.pick(ids), VECTORS[ids])
    grid = replace(LAYOUT.grid, passages=2 * PASSAGES)
    both = JoinedVectors([(0, array), (PASSAGES, array)], replace(LAYOUT, grid=grid))
    ids = rng.integers(0, 2 * PASSAGES, 300)
    np.testing.assert_array_equal(both.pick(ids), VECTORS[ids % PASSAGES])
    # Two chunks and their entries of the index change places, each under its checksum.
    path = tmp_path / "c/2/0"
    data = bytearray(path.read_bytes())
    size, entries = 64 * DIM * 4 + 4, len(data) - 3 * 16 - 4
    data[:size], data[size : 2 * size] = data[size : 2 * size], data[:size]
    data[entries : entries + 8], data[entries + 16 : entries + 24] = (
        data[entries + 16 : entries + 24],
        data[entries : entries + 8],
    )
    data[-4:] = files.crc32c(bytes(data[entries:-4])).to_bytes(4, "little")
    path.write_bytes(data)
    swapped = VectorArray(tmp_path, LAYOUT)
    ids = np.arange(380, 520)
    np.testing.assert_array_equal(swapped.pick(ids), VECTORS[ids])
    path = tmp_path / "c/1/0"
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    damaged = VectorArray(tmp_path, LAYOUT)
    np.testing.assert_array_equal(damaged.pick(np.array([5, 400])), VECTORS[[5, 400]])
    with pytest.raises(errors.DamagedError):
        damaged.pick(np.array([193]))


# Where another test has used obstore, that says in any forked process that it cannot be used there.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_forked_process_refines(whole: Any, written: Path) -> None:
    array = VectorArray(whole[2] / components.VECTORS.folder(NAME), LAYOUT)
    found = opened(written)
    expected = refining.search(found, array, VECTORS[:2], 5, 2)
    child = os.fork()
    if not child:
        ids, _ = refining.search(found, array, VECTORS[:2], 5, 2)
        os._exit(0 if (ids == expected[0]).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_sample_is_gathered_into_its_own_size() -> None:
    ids = np.arange(0, 100_000, 2, dtype=np.int64)
    tracemalloc.start()
    points = index_building.gather(lambda some: np.ones((len(some), 32), np.float32), ids, 32)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert points.shape == (50_000, 32)
    assert peak < points.nbytes + 3 * index_building.BATCH * 32 * 4


def opened(path: Path, *, mapped: bool = True) -> index.Index:
    entry = files.entry_of(path.parent, path)
    return index.Index.read(path.parent, entry, passages=PASSAGES, dim=DIM, mapped=mapped)


@pytest.fixture
def written(whole: Any, tmp_path: Path) -> Path:
    path = tmp_path / "index.faiss"
    path.write_bytes(whole[0])
    return path


def test_what_is_refined_is_what_the_vectors_say(whole: Any, written: Path) -> None:
    array = VectorArray(whole[2] / components.VECTORS.folder(NAME), LAYOUT)
    found = opened(written)
    rng = np.random.default_rng(3)
    queries = VECTORS[rng.choice(PASSAGES, 300)] + 0.2 * rng.normal(size=(300, DIM)).astype(np.float32)
    exact = queries.astype(np.float64) @ VECTORS.T.astype(np.float64)
    order = np.argsort(-exact, axis=1)[:, :10]
    recall = {}
    for factor in (1, 2, 4):
        ids, scores = refining.search(found, array, queries, 10, factor)
        candidates = found.candidates(queries, 10, 10 * factor)
        for row, (own, some) in enumerate(zip(ids, candidates, strict=True)):
            some = some[some >= 0]
            best = some[np.argsort(-exact[row, some], kind="stable")][:10]
            np.testing.assert_array_equal(np.sort(own), np.sort(best))
        np.testing.assert_allclose(scores, np.take_along_axis(exact, ids, 1), rtol=1e-5)
        assert (np.diff(scores, axis=1) <= 0).all()
        recall[factor] = np.mean([len(np.intersect1d(a, b)) for a, b in zip(ids, order, strict=True)]) / 10
    codes, _ = found.search(queries, 10)
    alone = np.mean([len(np.intersect1d(a, b)) for a, b in zip(codes, order, strict=True)]) / 10
    assert alone == recall[1] < recall[2] <= recall[4]


def test_mapped_and_read_find_the_same(written: Path) -> None:
    both = [opened(written, mapped=mapped) for mapped in (True, False)]
    (ids, scores), (own_ids, own_scores) = (one.search(VECTORS[::7], 12) for one in both)
    np.testing.assert_array_equal(ids, own_ids)
    np.testing.assert_array_equal(scores, own_scores)


def test_a_file_that_is_cut_off_while_it_is_mapped_is_an_error_and_no_killed_process(written: Path) -> None:
    found = opened(written)
    found.search(VECTORS[:2], 5)
    with written.open("r+b") as file:
        file.truncate(5000)
    for search in (
        lambda: found.search(VECTORS[:2], 5),
        lambda: found.candidates(VECTORS[:2], 5, 10),
        lambda: found.search_outside(VECTORS[:2], 5, first=0, stop=3),
        lambda: found.faiss,
    ):
        with pytest.raises(errors.DamagedError, match=r"has 5,000 bytes, and had [\d,]+ when it was opened"):
            search()


def test_any_cut_off_or_changed_file_is_an_error_when_it_is_opened(whole: Any, tmp_path: Path) -> None:
    """As somebody else's corpus may have it, whose card goes with the file."""
    data = whole[0]
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(150):
        changed = bytearray(data)
        if number % 3 == 0:
            changed = changed[: int(rng.integers(0, len(data)))]
        elif number % 3 == 1:
            # Where FAISS's numbers stand: in front, and before the lists.
            at = (
                int(rng.integers(0, 200)) if number % 2 else data.rindex(b"ilar") + int(rng.integers(0, 2100))
            )
            changed[at] ^= 1 << int(rng.integers(0, 8))
        else:
            at = data.rindex(b"ilar") + 24 + 8 * int(rng.integers(0, 258))
            changed[at : at + 8] = int(rng.integers(0, 1 << 62)).to_bytes(8, "little")
        path = tmp_path / "index.faiss"
        path.write_bytes(changed)
        try:
            opened(path).search(VECTORS[:3], 5)
        except errors.CorpusError:
            refused += 1
        path.unlink()
    assert refused > 75


def test_an_exact_index_is_assembled(tmp_path: Path) -> None:
    corpus = begun(CorpusFolder(tmp_path))
    found, counts = made(corpus, exact_limit=PASSAGES)
    own = faiss.IndexFlatIP(DIM)
    own.add(VECTORS)
    assert found == index_files.serialized(own)
    assert (counts.recall_millionths, counts.refined, counts.target_millionths) == (1_000_000, 0, 0)
    assert not (corpus.work.path / component.TRAIN.name).exists()


def test_a_target_decides_how_many_lists_are_looked_into(whole: Any, tmp_path: Path) -> None:
    corpus = begun(CorpusFolder(tmp_path))
    probes = []
    for target in (0.5, 0.9, 0.97, 1.0):
        corpus.work.forget_stage(component.STAGE.name)
        _, counts = made(corpus, target=target)
        probes.append(counts.probes)
        assert counts.target_millionths == round(1e6 * target)
        assert counts.recall_millionths >= 1e6 * target or counts.probes == 16
        assert counts.codes_millionths <= counts.recall_millionths
    assert probes == sorted(probes)
    assert probes[0] < probes[-1]


def test_training_bytes_of_the_full_corpus() -> None:
    shape = index_shape.choose(36_000_000, 768)
    assert shape.kind == "OPQ64,IVF32768,PQ64np"
    assert shape.training_points(36_000_000) == 32_768 * 64
    assert shape.refined == 4
    assert index_shape.choose(100_000, 768).refined == 0


def batches_of(vectors: npt.NDArray[np.float32], size: int) -> Iterator[tuple[int, Any]]:
    return ((first, vectors[first : first + size]) for first in range(0, len(vectors), size))


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
def test_the_nearest_of_parts_are_those_of_the_whole(similarity: str) -> None:
    queries = VECTORS[::200]
    whole = Nearest.among(batches_of(VECTORS, 512), queries, similarity)
    parts = Nearest.none(len(queries))
    for first in range(0, PASSAGES, 700):
        own = Nearest.among([(first, VECTORS[first : first + 700])], queries, similarity)
        parts = parts.joined(Nearest.from_bytes(own.to_bytes()))
    np.testing.assert_array_equal(parts.ids, whole.ids)
    # None found counts as none, however many are missing.
    found = np.full((len(queries), 30), -1, np.int64)
    assert parts.share(found, 10) == 0
    found[:, :10] = parts.ids[:, :10]
    assert parts.share(found, 10) == 1
    found[:, 5:10] = -1
    assert parts.share(found, 10) == 0.5
