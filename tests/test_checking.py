"""Files checked by workers: the findings of one process that reads everything, whatever the units."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.jobs import checking
from pipeline.units import overlap
from storage import components, errors, files, manifest, run_statistics, segments, verify
from storage.folder import CorpusFolder
from storage.name_set import NameSet
from storage.shard_numbers import ShardNumbers
from storage.verify import Verification
from tests import jobs
from tests.golden.make import FOLDER

# A file of each kind, by its pattern, in the golden corpus.
KINDS = (
    "corpus.json",
    "passages/passages.json",
    "passages/*.parquet",
    "passages/quarantine.jsonl",
    "vectors/*/vectors.json",
    "vectors/*/files.parquet",
    "vectors/*/zarr.json",
    "vectors/*/c/0/0",
    "index/*/index.json",
    "index/*/index.faiss",
    "memory/*/memory.json",
    "memory/*/files.parquet",
    "memory/*/values/zarr.json",
    "memory/*/values/c/0/0/0",
    "memory/*/offsets/c/0/0",
    "memory/*/checksums/c/0/0",
    "memory/*/canaries.npy",
    "statistics/build.json",
    "statistics/*.parquet",
)


class Scattered:
    """An engine: jobs travel, units come in no order and some twice; it may stop in the middle."""

    name = "scattered"
    options: tuple[str, ...] = ()

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.dealt: list[int] = []

    def run(self, job: Any, units: Sequence[int], on_poll: Callable[[], None]) -> None:
        for unit in [*reversed(units), *units[:2]]:
            if self.stop_after is not None and len(self.dealt) == self.stop_after:
                raise KeyboardInterrupt
            overlap.run_units(pickle.loads(pickle.dumps(job)), [unit])
            self.dealt.append(unit)
            on_poll()


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "UNIT_FILES", 2)
    monkeypatch.setattr(checking, "_BLOCK", 3)


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER / "format-1", tmp_path / "corpus"))


def plain(root: Path) -> Verification:
    """A verification as it was before there were units: one list of all, one file after the other."""
    corpus, result = CorpusFolder(root), Verification()
    try:
        corpus.refresh()
    except errors.DamagedError as e:
        return Verification(damaged=[str(e)])
    known, hidden = {manifest.NAME}, []
    for home in segments.homes(corpus):
        for component in components.TABLE:
            for name in home.manifest.of(component):
                try:
                    entries = list(home.folder.files_of(component, name))
                except errors.CorpusError as e:
                    said = str(e)
                    result.damaged.append(f"{home.prefix}/{said}" if home.prefix else said)
                    hidden.append(home.path(component.folder(name)) + "/")
                    continue
                for entry in map(home.entry, entries):
                    known.add(entry.path)
                    if wrong := files.damage(root, entry):
                        result.damaged.append(wrong)
                        result.entries.append(entry)
        for name in home.folder.run_names():
            known.add(home.path(run_statistics.path_of(name)))
            try:
                found = home.folder.run(name)
            except errors.CorpusError as e:
                result.damaged.append(str(e))
                continue
            if found is None:
                result.damaged.append(f"{home.path(run_statistics.path_of(name))} is missing")
                continue
            known.add(home.path(found.units.path))
            if wrong := home.folder.damage(found.units):
                result.damaged.append(wrong)
    for generation in corpus.manifest.generations:
        if (listed := generation.removed_entry) is not None:
            known.add(listed.path)
            if wrong := files.damage(root, listed):
                result.damaged.append(wrong)
                result.entries.append(listed)
    every = sorted(path for path in root.rglob("*") if path.is_file())
    names = [path.relative_to(root).as_posix() for path in every]
    result.strays = [n for n in names if n not in known and not n.startswith(tuple(hidden))]
    return result


def findings(found: Verification) -> tuple[Any, ...]:
    return found.damaged, found.unreadable, found.entries, found.strays


def damages(path: Path) -> Iterator[str]:
    """The file changed in three ways, one after the other, and put back."""
    whole = path.read_bytes()
    for how in ("flipped", "cut off", "missing"):
        if how == "flipped" and whole:
            path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        elif how == "cut off" and whole:
            path.write_bytes(whole[:-1])
        else:
            path.unlink()
        yield how
        path.write_bytes(whole)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_workers_find_what_one_process_finds(golden: Path, small_units: None, every: bool) -> None:
    (golden / "memory" / "stray.bin").write_bytes(b"1")
    assert plain(golden).strays == ["memory/stray.bin"]
    tried = 0
    for number, pattern in enumerate(KINDS):
        path = min(golden.glob(pattern))
        for way, how in enumerate(damages(path)):
            if not every and way != number % 3:
                continue
            if not (golden / manifest.NAME).exists():
                for check in (jobs.verify, jobs.verify_job):
                    with pytest.raises(errors.CorpusError, match="holds no corpus"):
                        check(golden, full=True)
                continue
            oracle = plain(golden)
            # Statistics are no part of what the manifest answers for, but are told all the same.
            assert oracle.damaged, (pattern, how)
            one = jobs.verify(golden, full=True)
            many = jobs.verify_job(golden, full=True, engine=Scattered())
            assert findings(one) == findings(oracle), (pattern, how)
            assert many == one, (pattern, how)
            assert not (golden / "work").exists()
            tried += 1
    assert tried == (3 * len(KINDS) - 1 if every else len(KINDS))
    sizes = [jobs.verify(golden, full=False), jobs.verify_job(golden, full=False, engine=Scattered())]
    assert sizes[0] == sizes[1]
    assert sizes[0].damaged == []


def test_damage_beside_a_damaged_list_is_told_too(golden: Path, small_units: None) -> None:
    """What the card itself names is checked, though nobody can say what the list named."""
    for pattern in ("memory/*/files.parquet", "memory/*/checksums/c/0/0"):
        path = min(golden.glob(pattern))
        path.write_bytes(path.read_bytes()[:-1])
    one = jobs.verify(golden, full=True)
    assert [line.split(" ")[0].split("/", 2)[2] for line in one.damaged] == [
        "checksums/c/0/0",
        "files.parquet",
    ]
    assert one.strays == []
    assert jobs.verify_job(golden, full=True, engine=Scattered()) == one


def read_counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files whose bytes are read for their checksum, from now on."""
    read: list[str] = []
    real = files.measure

    def measure(path: Path) -> files.Measured:
        read.append(path.name if "values" not in path.parts else "/".join(path.parts[-6:]))
        return real(path)

    monkeypatch.setattr(files, "measure", measure)
    return read


def is_data(name: str) -> bool:
    """No card and no list, which are read by whoever wants to know their files."""
    return not name.endswith(".json") and name != "files.parquet"


def test_an_interrupted_check_goes_on(
    golden: Path, small_units: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = sorted(golden.glob("memory/*/values/c/0/0/0"))
    whole = [path.read_bytes() for path in shards]
    shards[0].write_bytes(whole[0][:-1])
    engine = Scattered(stop_after=20)
    with pytest.raises(KeyboardInterrupt):
        jobs.verify_job(golden, full=True, engine=engine)
    with pytest.raises(KeyboardInterrupt):
        jobs.verify_job(golden, full=True, engine=Scattered(stop_after=24))
    read = read_counting(monkeypatch)
    # One is put back, another damaged meanwhile, with the time of change it had: both are looked at again.
    shards[0].write_bytes(whole[0])
    shards[-1].write_bytes(bytes([whole[-1][0] ^ 1]) + whole[-1][1:])
    again = jobs.verify_job(golden, full=True, engine=Scattered())
    gone_on = sum(map(is_data, read))
    assert [line.split(" ")[0] for line in again.damaged] == [shards[-1].relative_to(golden).as_posix()]
    assert again == jobs.verify(golden, full=True)
    read.clear()
    jobs.verify_job(golden, full=True, engine=Scattered())
    anew = sum(map(is_data, read))
    assert 0 < gone_on < anew / 2, (gone_on, anew)
    assert jobs.unfinished(golden) is None
    assert not (golden / "work").exists()


def test_what_another_plan_left_is_not_gone_on_with(golden: Path, small_units: None) -> None:
    with pytest.raises(KeyboardInterrupt):
        jobs.verify_job(golden, full=True, engine=Scattered(stop_after=20))
    version = jobs.listed(golden)[1]["version"]
    jobs.use(golden, version)  # another manifest
    assert jobs.verify_job(golden, full=True, engine=Scattered()).ok
    with pytest.raises(KeyboardInterrupt):
        jobs.verify_job(golden, full=True, engine=Scattered(stop_after=20))
    # And whoever comes next clears it away.
    assert len(jobs.garbage(golden)) == 1
    jobs.collect(golden)
    assert not (golden / "work").exists()


def test_shards_by_their_numbers(golden: Path, small_units: None, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_counting(monkeypatch)
    one = jobs.verify(golden, full=True, shards=ShardNumbers.parse(["0"]))
    values = sum(1 for _ in golden.glob("memory/*/values/c/0/0/0"))
    # And the lists of five components, to know their files.
    assert (one.files, one.damaged) == (values + 1, [])
    assert sum("values" in name for name in read) == values
    assert jobs.verify_job(golden, full=True, shards=["0"], engine=Scattered()) == one
    path = min(golden.glob("memory/*/values/c/0/0/0"))
    path.unlink()
    one = jobs.verify(golden, full=True, shards=ShardNumbers.parse(["0"]))
    assert one.damaged == [f"{path.relative_to(golden).as_posix()} is missing"]
    assert jobs.verify_job(golden, full=True, shards=["0"], engine=Scattered()) == one


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "no number and no range"),
        ("5-3", "end before they begin; wanted 3-5"),
        ("7", "has no shard 7: there are 0 to 0"),
        ("2:0", "has no shard 0 of generation 2: there are none"),
        ("-1", "no number"),
    ],
)
def test_shards_that_are_none(golden: Path, command: Any, text: str, said: str) -> None:
    for arguments in (["verify", golden, "--shard", text], ["repair", golden, f"--shard={text}"]):
        status, out, err = command(*arguments)
        assert (status, out) == (2, "")
        assert said in err
        assert err.count("\n") == 1
    assert not (golden / "work").exists()


def test_the_command_says_the_same_by_workers(golden: Path, command: Any) -> None:
    def lines(*arguments: str) -> tuple[int, str]:
        status, out, _ = command("verify", golden, *arguments)
        before, _, rest = out.partition(" checked in ")
        return status, before + rest.partition(" s: ")[2]

    min(golden.glob("memory/*/values/c/0/0/0")).write_bytes(b"")
    for full in ([], ["--full"]):
        alone = lines(*full)
        assert alone[0] == 1
        assert "damaged: memory/" in alone[1]
        assert lines(*full, "--engine", "beam") == alone


def test_a_check_by_workers_waits_for_none(golden: Path) -> None:
    """Where another job is unfinished its receipts stay, and one line says so."""
    corpus = CorpusFolder(golden)
    corpus.work.write_plan({"version": "0123456789abcdef"})
    with pytest.raises(errors.CorpusError, match="version 0123456789abcdef is unfinished"):
        jobs.verify_job(golden, full=True)
    assert corpus.work.has_plan()
    assert jobs.verify(golden, full=True).damaged == []


def test_strangers_among_names() -> None:
    known = NameSet()
    assert list(known.strangers(["a"])) == ["a"]
    names = [f"memory/{i}/0" for i in range(10_000)]
    for name in names[1:]:
        known.add(name)
    assert list(known.strangers([*names, "b"])) == [names[0], "b"]


def test_units_are_of_bounded_size_and_cover_all(golden: Path) -> None:
    made = checking.stretches(CorpusFolder(golden))
    places = [s.bounds(unit) for s in made for unit in range(s.first_unit, s.first_unit + s.units)]
    assert sum(stop - first for first, stop in places) == sum(s.files for s in made)
    assert verify.THREADS > 1
