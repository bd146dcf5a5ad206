"""The public writer: what is given comes back, killed or not, by one process or two."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import memcorpus
from pipeline.jobs.reencode import ReencodeSettings
from retrieval import open_corpus
from storage import codecs
from storage.folder import CorpusFolder
from storage.verify import verify_corpus
from storage.writer import MemoryWriter, open_writer
from tests import jobs
from tests.commands import Command, refused
from tests.killing import Killed, killed_at

ROOT = Path(__file__).parents[1]
WIDTH, MOST, PASSAGES = 24, 9, 200


def states_of(passage: int, dtype: Any = np.float32) -> np.ndarray:
    """Of any process the same: 1 to 9 tokens."""
    random = np.random.default_rng(passage)
    return random.normal(size=(1 + passage % MOST, WIDTH)).astype(dtype)


SAMPLE = np.concatenate([states_of(i) for i in range(400)])


def opened(folder: Path, **changes: Any) -> MemoryWriter:
    arguments: dict[str, Any] = {
        "width": WIDTH,
        "max_tokens": MOST,
        "encoder": {"model": "m", "layers": [3, 7]},
        "passages": PASSAGES,
        "shard_passages": 32,
    }
    return open_writer(folder, **(arguments | changes))


def write_all(writer: MemoryWriter, part: int = 0, parts: int = 1) -> None:
    for shard in writer.missing(part, parts):
        writer.write(shard, map(states_of, shard.ids))


def files_of(root: Path) -> dict[str, bytes]:
    """All but times, which differ from run to run."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.parent.name != "statistics"
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "corpus"
    with opened(folder) as writer:
        write_all(writer)
        writer.publish()
    return folder


@pytest.mark.parametrize("codec", [*(c for c in codecs.NAMES if not c.startswith("pq")), "pq8x4"])
def test_what_is_given_comes_back_within_the_codecs_bound(tmp_path: Path, codec: str) -> None:
    trained = codecs.by_name(codec).trained
    with opened(tmp_path / "c", codec=codec, sample=SAMPLE if trained else None) as writer:
        assert [len(shard) for shard in writer.missing()] == [32] * 6 + [8]
        write_all(writer)
        assert list(writer.missing()) == []
        version = writer.publish()
    corpus = open_corpus(tmp_path / "c")
    memory = corpus.memory()
    assert (memory.version, len(corpus)) == (version, PASSAGES)
    ids = [199, 0, 63, 64, 0]
    fetched = memory.fetch(ids)
    given = np.concatenate([states_of(i) for i in ids])
    assert fetched.values.shape == given.shape
    off = np.linalg.norm(np.asarray(fetched.values, np.float32) - given, axis=1)
    assert (off <= memory.coder.error_bound(given) * (1 + 1e-6)).all()
    if codec == "float32":
        np.testing.assert_array_equal(fetched.values, given)
    assert memory.card.counts.tokens == sum(1 + i % MOST for i in range(PASSAGES))
    assert (memory.card.counts.tokens_min, memory.card.counts.tokens_max) == (1, MOST)
    assert memory.card.encoder["encoder"] == {"model": "m", "layers": [3, 7]}
    quality = memory.card.quality["relative_error"]
    assert quality == 0 if codec in ("float32", "bfloat16", "float16") else 0 < quality < 0.9
    verified = verify_corpus(CorpusFolder(tmp_path / "c"), full=True)
    assert (verified.damaged, verified.strays) == ([], [])


def test_a_kill_at_any_change_of_the_folder_and_then_the_same_bytes(plain: Path, tmp_path: Path) -> None:
    """From the first file to the last removal: wherever it dies, the same program makes the same corpus."""
    wanted = files_of(plain)

    def program(folder: Path) -> None:
        with opened(folder) as writer:
            write_all(writer)
            writer.publish()

    change, killed = 0, True
    while killed:
        folder = tmp_path / str(change)
        killed = False
        try:
            with killed_at(folder, change):
                program(folder)
        except Killed:
            killed = True
        there = (folder / "corpus.json").exists()
        if there:  # visible only when it is whole
            assert len(open_corpus(folder).memory().fetch(range(PASSAGES))) == PASSAGES
        program(folder)
        assert files_of(folder) == wanted, change
        shutil.rmtree(folder)
        change += 1 if change < 12 else 5
    assert change > 40


PROGRAM = """
import os, signal, sys
import memcorpus
from tests import test_writer as t

folder, part, parts, dies = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
writer = t.opened(folder)
for number, shard in enumerate(writer.missing(part, parts)):
    if number == dies:
        print("dies", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    writer.write(shard, map(t.states_of, shard.ids))
print("done", flush=True)
sys.stdin.read()
writer.close()
"""


def start(folder: Path, part: int, parts: int, dies: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(part), str(parts), str(dies)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_one_of_which_is_killed(plain: Path, tmp_path: Path) -> None:
    """They open the same new corpus at once; the living one holds it, and nobody publishes half of it."""
    folder = tmp_path / "c"
    with start(folder, 0, 2, -1) as first, start(folder, 1, 2, 1) as second:
        for process, said in ((first, "done\n"), (second, "dies\n")):
            assert process.stdout is not None
            assert process.stdout.readline() == said
        assert second.wait() == -signal.SIGKILL
        _go_on(folder)
        first.communicate("")
    with open_writer(folder) as writer:
        writer.publish()
    assert files_of(folder) == files_of(plain)


def _go_on(folder: Path) -> None:
    with open_writer(folder) as writer:  # nothing said: it goes on with what is there
        assert [shard.number for shard in writer.missing()] == [3, 5]
        with pytest.raises(memcorpus.CorpusError, match="2 of 7 shards are not written, shard 3 the first"):
            writer.publish()
        write_all(writer)
        with pytest.raises(memcorpus.CorpusError, match="another job is at work"):
            writer.publish()
    assert not (folder / "corpus.json").exists()


def test_passages_one_by_one_in_any_order(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    order = np.random.default_rng(1).permutation(PASSAGES)
    with opened(folder) as writer:
        for i in order[:150]:
            assert writer.add(int(i), states_of(int(i)))
        with pytest.raises(memcorpus.CorpusError, match=f"passage {order[0]} was given before"):
            writer.add(int(order[0]), states_of(int(order[0])))
        with pytest.raises(memcorpus.CorpusError, match="wait for the rest of their shards; not given were"):
            writer.publish()
    # What waited is lost, and the same program goes on.
    with opened(folder) as writer:
        done = [i for shard in range(7) for i in writer.shard(shard).ids if not _lacks(writer, shard)]
        for i in order:
            assert writer.add(i, states_of(int(i))) == (i not in done)
        writer.publish()
    assert files_of(folder) == files_of(plain)


def _lacks(writer: MemoryWriter, shard: int) -> bool:
    return shard in {missing.number for missing in writer.missing()}


def test_more_waits_than_memory_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage.writer import memory_writer

    monkeypatch.setattr(memory_writer, "WAITING_BYTES", 300)
    with opened(tmp_path / "c") as writer:
        writer.add(0, states_of(0))
        writer.add(32, states_of(32)[:2])
        with pytest.raises(memcorpus.CorpusError, match="2 shards of 32 passages are begun"):
            writer.add(65, states_of(65))


BAD: list[tuple[str, Callable[[int], Any], str]] = [
    (
        "nan",
        lambda i: np.full((2, WIDTH), np.nan, np.float32),
        "passage 35 has a value that is not finite, in token 0",
    ),
    ("inf", lambda i: np.float32([[0] * WIDTH, [np.inf] * WIDTH]), "not finite, in token 1"),
    ("width", lambda i: np.ones((2, WIDTH + 1), np.float32), r"shape \[2, 25\], wanted \[tokens, 24\]"),
    ("flat", lambda i: np.ones(WIDTH, np.float32), r"shape \[24\]"),
    ("empty", lambda i: np.ones((0, WIDTH), np.float32), "passage 35 has 0 tokens, wanted 1 or more"),
    (
        "long",
        lambda i: np.ones((MOST + 1, WIDTH), np.float32),
        "passage 35 has 10 tokens, wanted up to 9; cut them",
    ),
    ("double", lambda i: np.ones((2, WIDTH)), "type float64, wanted float32, bfloat16 or float16"),
    ("whole", lambda i: np.ones((2, WIDTH), np.int32), "type int32"),
    ("ragged", lambda i: [[1.0], [1.0, 2.0]], "passage 35 has states of type list"),
    ("none", lambda i: None, "passage 35 has states of type"),
    ("masked", lambda i: np.ma.masked_array(np.ones((2, WIDTH), np.float32), mask=True), "masked places"),
]


@pytest.mark.parametrize(("make", "message"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_bad_states_are_refused_and_leave_nothing(
    tmp_path: Path, make: Callable[[int], Any], message: str
) -> None:
    with opened(tmp_path / "c") as writer:
        before = files_of(tmp_path / "c")
        with pytest.raises(memcorpus.CorpusError, match=message) as caught:
            writer.write(1, (make(i) if i == 35 else states_of(i) for i in writer.shard(1).ids))
        assert "\n" not in str(caught.value)
        given = (make(i) if i == 35 else states_of(i) for i in writer.shard(1).ids)
        with pytest.raises(memcorpus.CorpusError, match=message):
            # It looks at shape and type at once, at the values when the shard is whole.
            deque(map(writer.add, writer.shard(1).ids, given), maxlen=0)
        assert files_of(tmp_path / "c") == before


def test_too_few_and_too_many_passages(tmp_path: Path) -> None:
    with opened(tmp_path / "c") as writer:
        with pytest.raises(
            memcorpus.CorpusError, match="states for 31 passages, wanted all of its 32, 32 to 63"
        ):
            writer.write(1, map(states_of, range(32, 63)))
        with pytest.raises(memcorpus.CorpusError, match="more than its 32 passages, 32 to 63"):
            writer.write(1, map(states_of, range(32, 65)))
        for wrong in (7, -1, True, "1", 1.0):
            with pytest.raises(memcorpus.CorpusError, match="does not exist; there are 7"):
                writer.write(wrong, [])  # type: ignore[arg-type]
        for wrong in (True, "1", 1.0, None):
            with pytest.raises(memcorpus.CorpusError, match="wanted a whole number"):
                writer.add(wrong, states_of(0))  # type: ignore[arg-type]
        for wrong in (-1, PASSAGES, 2**70):
            with pytest.raises(memcorpus.UnknownPassageError):
                writer.add(wrong, states_of(0))
        for part in ((2, 2), (-1, 2), (0, 0)):
            with pytest.raises(memcorpus.CorpusError, match="wanted 0 to parts - 1"):
                next(writer.missing(*part))
    with pytest.raises(memcorpus.CorpusError, match="closed; open it again"):
        writer.write(0, [])


def test_values_beyond_a_codec(tmp_path: Path) -> None:
    with opened(tmp_path / "c", codec="float16") as writer:
        large = np.full((1, WIDTH), 7e4, np.float32)
        with pytest.raises(
            memcorpus.CorpusError, match="passage 0 has a value of magnitude 70000, codec float16"
        ):
            writer.write(0, [large, *map(states_of, range(1, 32))])


OPENING: list[tuple[dict[str, Any], str]] = [
    ({"width": None, "encoder": None}, "width and encoder must be given"),
    ({"width": 0}, "width is 0, wanted a whole number"),
    ({"max_tokens": 1.5}, "max_tokens is 1.5"),
    ({"shard_passages": True}, "shard_passages is True"),
    ({"codec": "int9"}, "unknown memory codec 'int9'"),
    ({"codec": "int8"}, r"codec int8 is trained: give `sample`, states \[n, 24\]"),
    ({"codec": "pq8x8", "width": 20}, "do not divide the memory's width 20"),
    ({"codec": "int8", "sample": np.zeros((0, WIDTH), np.float32)}, "the sample has 0 tokens"),
    ({"codec": "int8", "parameters": {"channel_scale": np.ones(3, np.float32)}}, "channel_scale"),
    ({"parameters": {"x": np.ones(3)}}, "codec bfloat16 has no parameters"),
    ({"passages": None}, "give keys, texts, or how many passages there are"),
    ({"passages": 0}, "passages is 0"),
    ({"keys": ["a", "b"]}, "not both"),
    ({"passages": None, "keys": []}, "there are no passages"),
    ({"passages": None, "keys": "abc"}, "got a single text"),
    ({"passages": None, "keys": ["a", ""]}, "key 1 is empty"),
    ({"passages": None, "keys": ["a", 3]}, "key 1 is 3, wanted a text"),
    ({"passages": None, "keys": ["a", "\ud800"]}, "key 1 holds half a pair"),
    ({"passages": None, "keys": ["a", "b"], "texts": ["x"]}, "1 texts for more keys"),
    ({"passages": None, "keys": ["a"], "texts": ["x", "y"]}, "1 keys for more texts"),
    ({"passages": None, "keys": [*map(str, range(1500)), "7"]}, "key '7' stands for passages 7 and 1500"),
    ({"encoder": {"x": object()}}, "what JSON cannot hold"),
    ({"encoder": {"x": float("nan")}}, "what JSON cannot hold"),
    ({"encoder": ""}, "wanted what decides the states"),
]


@pytest.mark.parametrize(("changes", "message"), OPENING)
def test_a_bad_beginning_leaves_nothing_behind(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    for folder, made in ((tmp_path / "new", False), (tmp_path / "empty", True)):
        if made:
            folder.mkdir()
        with pytest.raises(memcorpus.CorpusError, match=message) as caught:
            opened(folder, **changes)
        assert "\n" not in str(caught.value)
        assert folder.exists() == made
        assert not made or list(folder.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "mine").write_text("mine")
    with pytest.raises(memcorpus.CorpusError, match="holds 'memory', wanted a new or empty folder"):
        opened(tmp_path)
    assert files_of(tmp_path) == {"memory/mine": b"mine"}
    with pytest.raises(memcorpus.CorpusError, match="is a file"):
        opened(tmp_path / "memory" / "mine")
    with pytest.raises(memcorpus.CorpusError, match="a writer wants a local folder"):
        opened("s3://bucket/x")  # type: ignore[arg-type]


def test_going_on_with_other_arguments_is_refused(tmp_path: Path) -> None:
    opened(tmp_path / "c").close()
    for changes, message in (
        ({"width": 8}, "width is 8; version .* was begun with 24"),
        ({"codec": "turbo4"}, "codec is 'turbo4'"),
        ({"encoder": "other"}, "encoder is 'other'"),
        ({"passages": 201}, "not those that"),
    ):
        with pytest.raises(memcorpus.MismatchError, match=message):
            opened(tmp_path / "c", **changes)
    with pytest.raises(memcorpus.CorpusError, match=r"not finished; .* or the same writer"):
        memcorpus.open(tmp_path / "c")


def test_keys_texts_and_what_looks_them_up(tmp_path: Path) -> None:
    keys = [f"kéy {i}" for i in range(2500)]
    with opened(
        tmp_path / "c",
        passages=None,
        keys=iter(keys),
        texts=(f"text {i}" for i in range(2500)),
        shard_passages=1024,
    ) as writer:
        for shard in writer.missing():
            assert shard.keys == [keys[i] for i in shard.ids]
            assert shard.texts == [f"text {i}" for i in shard.ids]
            writer.write(shard, [states_of(int(key.split()[1])) for key in shard.keys])
        writer.publish()
    corpus = memcorpus.open(tmp_path / "c")
    assert corpus.ids(["kéy 2400", "kéy 3", "kéy 2400"]).tolist() == [2400, 3, 2400]
    assert corpus.ids([]).tolist() == []
    with pytest.raises(memcorpus.CorpusError, match="1 keys are not in the corpus: 'none'"):
        corpus.ids(["kéy 3", "none"])
    with pytest.raises(memcorpus.CorpusError, match="wanted texts"):
        corpus.ids([3])  # type: ignore[list-item]
    assert corpus.passages([2400])["text"].to_pylist() == ["text 2400"]
    assert corpus.counts["words"] == corpus.counts["article_words"] == 5000
    # The same program once more finds it published; other keys are refused.
    with opened(
        tmp_path / "c",
        passages=None,
        keys=keys,
        texts=[f"text {i}" for i in range(2500)],
        shard_passages=1024,
    ) as again:
        assert again.published
        assert list(again.missing()) == []
        again.publish()
    with pytest.raises(memcorpus.MismatchError, match="not those of"):
        opened(tmp_path / "c", passages=None, keys=keys[::-1])


def test_arrays_of_other_libraries_and_layers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import jax.numpy as jnp

    value = states_of(8)
    forms = [
        value,
        value.astype(ml_dtypes.bfloat16),
        torch.from_numpy(value).bfloat16(),
        torch.from_numpy(value).half().requires_grad_(),
        jnp.asarray(value),
        jnp.asarray(value, jnp.bfloat16),
        value.reshape(MOST, 2, WIDTH // 2),
        np.asfortranarray(value),
        value[::-1],
    ]
    with opened(tmp_path / "c", passages=len(forms), codec="float32") as writer:
        writer.write(0, forms)
        writer.publish()
    fetched = memcorpus.open(tmp_path / "c").memory().fetch(range(len(forms)))
    rounded = value.astype(ml_dtypes.bfloat16).astype(np.float32)
    half = value.astype(np.float16).astype(np.float32)
    for j, wanted in enumerate([value, rounded, rounded, half, value, rounded, value, value, value[::-1]]):
        np.testing.assert_array_equal(fetched[j], wanted, err_msg=str(j))


def test_a_new_version_of_a_built_corpus(corpus_copy: Path) -> None:
    corpus = memcorpus.open(corpus_copy)
    before = corpus.manifest.version(None)
    with pytest.raises(memcorpus.CorpusError, match="has passages of its own"):
        opened(corpus_copy)
    with opened(corpus_copy, passages=None) as writer:
        assert len(writer) == len(corpus)
        with pytest.raises(memcorpus.CorpusError, match="another job is at work"):
            jobs.use(corpus_copy, before)
        shard = writer.shard(0)
        assert shard.texts == corpus.passages(shard.ids)["text"].to_pylist()
        write_all(writer)
        version = writer.publish()
    assert jobs.verify(corpus_copy, full=True).damaged == []
    again = memcorpus.open(corpus_copy)
    assert again.manifest.version(None) == before
    assert set(again.manifest.versions) == {before, version}
    np.testing.assert_array_equal(again.memory(version).fetch([5])[0], states_of(5, ml_dtypes.bfloat16))
    with opened(corpus_copy, passages=None) as writer:
        writer.publish(use=True)
    assert memcorpus.open(corpus_copy).manifest.version(None) == version
    _, recoded = jobs.reencode(corpus_copy, ReencodeSettings(origin=version, codec="turbo4"))
    values = memcorpus.open(corpus_copy).memory(recoded).fetch([5])[0].astype(np.float32)
    assert 0 < np.abs(values - states_of(5)).max() < 0.6


def test_what_another_job_has_begun_is_left_alone(corpus_copy: Path) -> None:
    opened(corpus_copy, passages=None).close()
    with pytest.raises(memcorpus.CorpusError, match="unfinished"):
        jobs.reencode(corpus_copy, ReencodeSettings(origin="current", codec="turbo4"))
    assert [item.kind for item in jobs.collect(corpus_copy, unfinished=True)] == ["unfinished", "unfinished"]
    CorpusFolder(corpus_copy).work.write_plan({"version": "0" * 16, "settings": {}})
    with pytest.raises(memcorpus.CorpusError, match="another job is unfinished"):
        opened(corpus_copy, passages=None)


def test_a_damaged_shard_is_repaired_by_the_states_it_was_made_of(plain: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(plain, tmp_path / "c"))
    values = sorted(folder.glob("memory/*/values/c/*/0/0"))
    data = bytearray(values[3].read_bytes())
    data[50] ^= 1
    values[3].write_bytes(data)
    values[5].unlink()
    assert len(jobs.verify(folder, full=True).damaged) == 2
    left = jobs.repair(folder).left
    assert len(left) == 2
    assert all("`missing` of `memcorpus.open_writer`" in line for line in left)
    with opened(folder) as writer:
        found = list(writer.missing())
        assert [shard.number for shard in found] == [3, 5]
        with pytest.raises(memcorpus.DamagedError, match="not the states that were written"):
            writer.write(found[0], [states_of(i) + 1 for i in found[0].ids])
        write_all(writer)
        assert list(writer.missing()) == []
    assert files_of(folder) == files_of(plain)


def test_commands_on_a_corpus_of_keys(plain: Path, command: Command) -> None:
    for arguments in (
        ("info", plain),
        ("versions", plain),
        ("verify", plain, "--full"),
        ("get", plain, "3", "--memory"),
    ):
        status, out, err = command(*arguments)
        assert (status, err) == (0, ""), arguments
    assert "4 tokens x 24 bfloat16" in out
    refused(command, ["search", plain, "x"], "has no vectors")
    refused(command, ["report", plain], "a writer's", "--live-proportion")


def test_the_example_runs_and_loads_no_framework(tmp_path: Path) -> None:
    source = (ROOT / "examples" / "any_states.py").read_text()
    check = "\nassert not {'torch', 'jax', 'apache_beam'} & set(sys.modules)"
    for _ in range(2):  # the second run finds it written
        done = subprocess.run(
            [sys.executable, "-c", source + check, str(tmp_path / "c")],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert done.stderr == ""
        assert done.stdout == "300 passages; of two: (10, 64) and (15, 64) bfloat16\n"
    assert (
        15
        <= len(
            [line for line in source.splitlines() if line.strip() and not line.startswith(("import", '"'))]
        )
        <= 24
    )


def test_large_states_make_small_shards(tmp_path: Path) -> None:
    """Four layers of 4,096 dimensions, 4,096 tokens: 128 MiB a passage in bfloat16, four a shard."""
    with opened(tmp_path / "c", width=4 * 4096, max_tokens=4096, passages=10, shard_passages=None) as writer:
        assert writer.layout.grid.shard_passages == 4
        value = np.random.default_rng(0).normal(size=(3, 4, 4096)).astype(np.float32)
        for shard in writer.missing():
            writer.write(shard, [value] * len(shard))
        writer.publish()
    fetched = memcorpus.open(tmp_path / "c").memory().fetch([9])
    np.testing.assert_array_equal(fetched[0], value.reshape(3, -1).astype(ml_dtypes.bfloat16))
