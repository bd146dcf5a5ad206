"""Any jobs in any order, killed anywhere, files damaged in between: readers get what is right, or an error.

Hypothesis draws the jobs; a model in plain Python knows what the corpus must hold after each.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from encoders.memory_encoder import MemoryEncoder
from encoders.memory_spec import MemorySpec
from pipeline.components.settings import BuildSettings
from pipeline.jobs.reencode import ReencodeSettings
from pipeline.units import overlap
from pipeline.units.engines.local import Local
from retrieval import open_corpus
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import codecs, errors
from tests import jobs, small_models
from tests.killing import Killed, killed_at

PASSAGES: Final = 90
# Passages a shard: the fewest that a build may have, and others for what is recoded.
SHARD: Final = 64
RECODED_SHARD: Final = 32
WIDTH: Final = 32
ENCODERS: Final = ("first", "second")
# What the tests' own arithmetic gives to the bit from an encoder's float32, and all to recode to.
FLOATS: Final = ("bfloat16", "float16", "float32")
CODECS: Final = (*FLOATS, "int8", "turbo4")
NAMES: Final = ("alpha", "beta")
NOBODY: Final = "nobody"
MOST_READERS: Final = 4
# A job here makes up to about a hundred changes.
KILLS: Final = st.none() | st.integers(0, 110)
SPEC: Final = MemorySpec(compute_dtype="float32")

# The rows of one version as they are stored, passage by passage.
Rows = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class Recipe:
    """How a version is made: by an encoder, or from another version."""

    codec: str
    encoder: str | None = None
    origin: str | None = None

    @property
    def shard(self) -> int:
        # It decides rounding in what an encoder gives.
        return SHARD if self.origin is None else RECODED_SHARD

    def settings(self, world: World, name: str | None) -> ReencodeSettings:
        model = None if self.encoder is None else str(world.models / self.encoder)
        return ReencodeSettings(
            memory_encoder=model, origin=self.origin, codec=self.codec, name=name, shard_passages=self.shard
        )


@dataclass(frozen=True, kw_only=True)
class World:
    """What all examples share: a corpus as it is built, and what each encoder gives of its passages.

    `names` are those that versions had in any example, and `parameters` what their codecs were trained to:
    the same recipe gives the same ones.
    """

    settings: BuildSettings
    models: Path
    built: Path
    memory: dict[str, Rows]
    names: dict[Recipe, str] = field(default_factory=dict)
    parameters: dict[Recipe, dict[str, bytes]] = field(default_factory=dict)

    def rows(self, recipe: Recipe, coder: codecs.Coder, origin: Version | None) -> Rows:
        """What a version of this recipe must hold; a codec sees a shard at a time."""
        values = self.memory[recipe.encoder] if origin is None else origin.rows
        recoded: Rows = []
        for shard in _shards(values, recipe.shard):
            rows = np.concatenate(shard)
            if origin is not None:
                rows = origin.coder.decoded(rows)
            ends = np.cumsum([len(passage) for passage in shard])
            recoded += np.split(coder.encode(rows), ends[:-1])
        return recoded


def _shards(rows: Rows, size: int) -> Iterator[Rows]:
    return (rows[first : first + size] for first in range(0, len(rows), size))


@dataclass(frozen=True, kw_only=True)
class Version:
    """`coder` has what was trained, if its codec is of those that are."""

    recipe: Recipe
    coder: codecs.Coder
    rows: Rows


@dataclass(kw_only=True)
class Reader:
    """An open corpus and one version of it, with what they said when they were opened.

    `excused`: a file that it reads was damaged since; it may refuse, and must not lie.
    """

    corpus: Corpus
    memory: MemoryReader
    aliases: dict[str, str]
    found: bytes
    excused: bool = False


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    for seed, name in enumerate(ENCODERS):
        small_models.make_t5_folder(folder / name, layers=3, d_model=WIDTH, seed=seed)
    small_models.make_gtr_folder(folder / "gtr", layers=1)
    source = folder / "source.jsonl"
    # Of three lengths, so that few shapes are compiled.
    texts = [" ".join([f"The river {i} rises in the hills."] * (1 + i % 3)) for i in range(PASSAGES)]
    rows = [{"id": i, "title": "River", "text": text} for i, text in enumerate(texts)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build = BuildSettings(
        sources=(f"jsonl:{source}",),
        retriever=str(folder / "gtr"),
        memory_encoder=str(folder / ENCODERS[0]),
        memory=SPEC,
        shard_passages=64,
    )
    with pytest.MonkeyPatch.context() as patch:
        # Beam's part, to deal out units, is not what is tried here, and takes most of a job's time.
        patch.setattr(Local, "run", lambda _, job, units, *__: overlap.run_units(job, units))
        built = jobs.build(build, folder / "built").corpus.root
        memory = {name: _encoded(built, folder / name) for name in ENCODERS}
        assert not np.array_equal(np.concatenate(memory["first"]), np.concatenate(memory["second"]))
        yield World(settings=build, models=folder, built=built, memory=memory)


def _encoded(built: Path, model: Path) -> Rows:
    """What the encoder gives, by a job that nobody disturbs, and within rounding by itself."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(built, Path(folder) / "corpus"))
        add = ReencodeSettings(memory_encoder=str(model), codec="float32", shard_passages=SHARD)
        version = jobs.reencode(root, add)[1]
        corpus = open_corpus(root)
        fetched = corpus.memory(version).fetch(range(PASSAGES))
        rows = [np.array(values) for values in fetched]
        encoder = MemoryEncoder.load(model, SPEC)
        texts = [
            encoder.template.render(title=row["title"], section=row["section"], text=row["text"])
            for row in corpus.passages(range(PASSAGES)).to_pylist()
        ]
        np.testing.assert_allclose(np.concatenate(rows), encoder.encode_texts(texts), atol=1e-4)
    return rows


class Machine(RuleBasedStateMachine):
    """The model: versions with their rows, names of versions, what is unfinished, what is damaged."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.folder = Path(tempfile.mkdtemp(prefix="state-machine-"))
        self.root = self.folder / "corpus"
        self.versions: dict[str, Version] = {}
        self.aliases: dict[str, str] = {}
        self.unfinished: Recipe | None = None
        # Damaged files, with the bytes that they should have.
        self.damaged: dict[str, bytes] = {}
        self.readers: list[Reader] = []

    def teardown(self) -> None:
        self.readers.clear()
        shutil.rmtree(self.folder)

    # --- jobs

    @initialize(kills=st.lists(st.integers(0, 110), max_size=2))
    def build(self, kills: list[int]) -> None:
        for kill in kills:
            try:
                with killed_at(self.root, kill):
                    jobs.build(self.world.settings, self.root)
            except Killed:
                if not (self.root / "corpus.json").exists():
                    with pytest.raises(errors.CorpusError, match=r"not finished|holds no corpus"):
                        open_corpus(self.root)
        if kills:
            jobs.build(self.world.settings, self.root)
            assert _content(self.root) == _content(self.world.built)
        else:
            shutil.copytree(self.world.built, self.root)
        recipe = Recipe(codec="bfloat16", encoder="first")
        (name,) = jobs.manifest(self.root).versions
        self._made(recipe, name)
        self.aliases = {"current": name}

    @rule(kill=KILLS)
    def build_again(self, kill: int | None) -> None:
        """There is nothing to do."""
        before = _content(self.root)
        with killed_at(self.root, kill):
            assert jobs.build(self.world.settings, self.root).already
        assert _content(self.root) == before

    @rule(
        encoder=st.sampled_from(ENCODERS),
        codec=st.sampled_from(FLOATS),
        name=st.none() | st.sampled_from(NAMES),
        use=st.booleans(),
        kill=KILLS,
    )
    def reencode(self, encoder: str, codec: str, name: str | None, use: bool, kill: int | None) -> None:
        self._add(Recipe(codec=codec, encoder=encoder), name, use, kill)

    @rule(
        data=st.data(),
        codec=st.sampled_from(CODECS),
        name=st.none() | st.sampled_from(NAMES),
        use=st.booleans(),
        kill=KILLS,
    )
    def recode(self, data: st.DataObject, codec: str, name: str | None, use: bool, kill: int | None) -> None:
        origin = data.draw(st.sampled_from(sorted(self.versions)), label="origin")
        if self.versions[origin].recipe.codec == codec:
            with pytest.raises(errors.CorpusError, match="already" if not self.damaged else ""):
                self._reencode(Recipe(codec=codec, origin=origin), name, use)
            return
        self._add(Recipe(codec=codec, origin=origin), name, use, kill)

    @precondition(lambda self: self.unfinished is not None)
    @rule(kill=KILLS)
    def finish(self, kill: int | None) -> None:
        assert self.unfinished is not None
        self._add(self.unfinished, None, False, kill)

    def _add(self, recipe: Recipe, name: str | None, use: bool, kill: int | None) -> None:
        known = self.world.names.get(recipe)
        there = known is not None and known in self.versions
        taken = name is not None and self.aliases.get(name, known) != known
        blocked = not there and self.unfinished not in (None, recipe)

        def after(version: str) -> dict[str, str]:
            aliases = self.aliases | ({} if name is None else {name: version})
            return _switched(aliases, version) if use else aliases

        refusal = None
        try:
            with killed_at(self.root, kill):
                version = self._reencode(recipe, name, use)
        except Killed:
            self._follow(recipe, after)
            return
        except errors.CorpusError as e:
            refusal = str(e)
        if refusal is not None:
            expected = (taken and "already" in refusal) or (blocked and "is unfinished" in refusal)
            assert expected or self.damaged, refusal
            self._follow(recipe, after)
            return
        assert not taken
        assert not blocked
        if not there:
            self._made(recipe, version)
            self.unfinished = None
        assert self.world.names[recipe] == version
        self.aliases = after(version)

    def _reencode(self, recipe: Recipe, name: str | None, use: bool) -> str:
        return jobs.reencode(self.root, recipe.settings(self.world, name), use=use)[1]

    def _made(self, recipe: Recipe, version: str) -> None:
        assert self.world.names.setdefault(recipe, version) == version
        coder = open_corpus(self.root).memory(version).coder
        trained = {name: array.tobytes() for name, array in coder.parameters.items()}
        assert self.world.parameters.setdefault(recipe, trained) == trained
        origin = None if recipe.origin is None else self.versions[recipe.origin]
        rows = self.world.rows(recipe, coder, origin)
        self.versions[version] = Version(recipe=recipe, coder=coder, rows=rows)

    def _follow(self, recipe: Recipe, after: Callable[[str], dict[str, str]]) -> None:
        """What a job that came to no end has left: all of what it was to do, or nothing but work."""
        found = jobs.manifest(self.root)
        if new := set(found.versions) - set(self.versions):
            (version,) = new
            self._made(recipe, version)
            self.unfinished = None
            self.aliases = after(version)
        elif (known := self.world.names.get(recipe)) in self.versions:
            assert known is not None
            if found.aliases != self.aliases:
                self.aliases = after(known)
        elif jobs.unfinished(self.root) is not None and self.unfinished is None:
            self.unfinished = recipe

    @rule(data=st.data(), alias=st.sampled_from(("current", *NAMES)), kill=KILLS)
    def use(self, data: st.DataObject, alias: str, kill: int | None) -> None:
        known = [*sorted(self.versions), *sorted(self.aliases), None, NOBODY]
        given = data.draw(st.sampled_from(known), label="version")
        version = self.aliases.get(given or "previous", given)
        before = dict(self.aliases)
        if version is not None and version != NOBODY:
            after = _switched(before, version) if alias == "current" else before | {alias: version}
            self._rename(lambda: jobs.use(self.root, given, alias=alias), after, kill)
            return
        with pytest.raises(errors.CorpusError, match=r"no memory version|no version of"):
            jobs.use(self.root, given, alias=alias)

    @rule(data=st.data(), kill=KILLS)
    def forget(self, data: st.DataObject, kill: int | None) -> None:
        alias = data.draw(st.sampled_from([*sorted(self.aliases), NOBODY]), label="alias")
        if alias in ("current", NOBODY):
            with pytest.raises(errors.CorpusError, match="cannot be taken away"):
                jobs.forget(self.root, alias)
            return
        after = {name: version for name, version in self.aliases.items() if name != alias}
        self._rename(lambda: jobs.forget(self.root, alias), after, kill)

    def _rename(self, job: Callable[[], Any], after: dict[str, str], kill: int | None) -> None:
        try:
            with killed_at(self.root, kill):
                job()
        except Killed:
            if jobs.manifest(self.root).aliases != after:
                return
        self.aliases = after

    @rule(unfinished=st.booleans(), kill=KILLS)
    def gc(self, unfinished: bool, kill: int | None) -> None:
        kept = set(self.aliases.values()) | {reader.memory.version for reader in self.readers}
        if self.unfinished is not None and not unfinished:
            kept |= {self.unfinished.origin or ""}
        going = set(self.versions) - kept
        try:
            with killed_at(self.root, kill):
                gone = jobs.collect(self.root, unfinished=unfinished)
        except Killed:
            assert set(jobs.manifest(self.root).versions) in (set(self.versions), set(self.versions) - going)
            going -= set(jobs.manifest(self.root).versions)
            if self.unfinished is not None and jobs.unfinished(self.root) is None:
                assert unfinished
                self.unfinished = None
        else:
            assert {item.path for item in gone if item.kind == "version"} == {f"memory/{v}" for v in going}
            self.unfinished = None if unfinished else self.unfinished
            folders = {path.name for path in (self.root / "memory").iterdir()}
            assert folders - {jobs.unfinished(self.root)} == set(self.versions) - going
        for version in going:
            del self.versions[version]

    # --- damage

    @rule(data=st.data(), flip=st.integers(1, 255))
    def damage(self, data: st.DataObject, flip: int) -> None:
        paths: list[str] = []
        jobs.verify(self.root, full=False, on_file=lambda entry: paths.append(entry.path))
        sound = [p for p in sorted({*paths} - {*self.damaged}) if (self.root / p).stat().st_size]
        path = data.draw(st.sampled_from(sound), label="path")
        whole = (self.root / path).read_bytes()
        damaged = bytearray(whole)
        damaged[data.draw(st.integers(0, len(whole) - 1), label="at")] ^= flip
        # Not in place: what a reader has checked once it does not check again.
        aside = self.folder / "damaged"
        aside.write_bytes(damaged)
        aside.replace(self.root / path)
        self.damaged[path] = whole
        for reader in self.readers:
            reader.excused |= not path.startswith("memory/") or reader.memory.version in path

    @rule(kill=KILLS)
    def repair(self, kill: int | None) -> None:
        if self.unfinished is not None:
            with pytest.raises(errors.CorpusError, match="is unfinished"):
                jobs.repair(self.root)
            return
        try:
            with killed_at(self.root, kill):
                outcome = jobs.repair(self.root)
        except Killed:
            self._forget_repaired()
            return
        damaged = dict(self.damaged)
        self._forget_repaired()
        assert {*outcome.repaired} == {*damaged} - {*self.damaged}
        if all(map(self._can_be_remade, damaged)):
            assert outcome.left == []
        assert bool(outcome.left) == bool(self.damaged)
        for path, whole in self.damaged.items():  # restored from a copy
            (self.root / path).write_bytes(whole)
        self.damaged.clear()

    def _forget_repaired(self) -> None:
        """What has its bytes again, and what is gone with its version, is damaged no more."""
        for path, whole in list(self.damaged.items()):
            component, name, *_ = path.split("/")
            gone = component == "memory" and name not in self.versions
            if gone or (self.root / path).read_bytes() == whole:
                del self.damaged[path]

    def _can_be_remade(self, path: str) -> bool:
        """By the documents: arrays, their metadata and the index; not cards, lists, canaries and text."""
        component, name, *rest = path.split("/")
        if component == "memory":
            origin = self.versions[name].recipe.origin
            return rest[0] in ("values", "offsets", "checksums") and origin in (None, *self.versions)
        if component == "vectors":
            return rest[0] in ("c", "zarr.json")
        return component == "index" and path.endswith(".faiss")

    # --- readers

    @precondition(lambda self: len(self.readers) < MOST_READERS)
    @rule(data=st.data())
    def open(self, data: st.DataObject) -> None:
        known = [*sorted(self.versions), *sorted(self.aliases), None]
        given = data.draw(st.sampled_from(known), label="version")
        try:
            corpus = open_corpus(self.root)
            memory = corpus.memory(given)
            self._check_rows(memory)
            found = _searched(corpus)
        except errors.DamagedError:
            assert self.damaged
            return
        assert memory.version == self.aliases.get(given or "current", given)
        self.readers.append(Reader(corpus=corpus, memory=memory, aliases=dict(self.aliases), found=found))

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        self.readers.pop(data.draw(st.integers(0, len(self.readers) - 1), label="reader"))

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def open_of_an_open_corpus(self, data: st.DataObject) -> None:
        """Names mean what they meant when the corpus was opened."""
        reader = data.draw(st.sampled_from(self.readers), label="reader")
        name = data.draw(st.sampled_from(sorted(reader.aliases)), label="name")
        version = reader.aliases[name]
        if version not in self.versions:
            with pytest.raises(errors.CorpusError, match="has been removed since"):
                reader.corpus.memory(name)
            return
        try:
            memory = reader.corpus.memory(name)
            assert memory.version == version
            self._check_rows(memory)
        except errors.DamagedError:
            assert self.damaged

    def _check_rows(self, memory: MemoryReader) -> None:
        expected = self.versions[memory.version].rows
        found = memory.fetch(range(PASSAGES), decode=False)
        assert len(found) == len(expected)
        for passage, (row, right) in enumerate(zip(found, expected, strict=True)):
            assert row.tobytes() == right.tobytes(), (memory.version, passage)

    @invariant()
    def readers_go_on(self) -> None:
        for reader in self.readers:
            assert _searched(reader.corpus) == reader.found
            try:
                self._check_rows(reader.memory)
            except errors.DamagedError:
                assert reader.excused

    @invariant()
    def the_corpus_is_what_the_model_says(self) -> None:
        if not self.versions:
            return  # not built
        self._forget_repaired()
        found = jobs.manifest(self.root)
        assert {*found.versions} == {*self.versions}
        assert found.aliases == self.aliases
        assert (jobs.unfinished(self.root) is None) == (self.unfinished is None)
        verified = jobs.verify(self.root, full=True)
        assert verified.ok == (not self.damaged), verified.damaged
        for line in verified.damaged:
            assert any(path in line for path in self.damaged), line


def _switched(aliases: dict[str, str], version: str) -> dict[str, str]:
    before = aliases["current"]
    return aliases if version == before else aliases | {"current": version, "previous": before}


def _searched(corpus: Corpus) -> bytes:
    """What a search gives, of any queries."""
    queries = np.random.default_rng(0).normal(size=(3, corpus.vectors_card.layout.dim))
    found = corpus.search(queries, 5)
    return found.passage_ids.tobytes() + found.scores.tobytes()


def _content(root: Path) -> dict[str, bytes]:
    """All files but times."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "statistics" not in path.parts
    }


def run(world: World, *, examples: int, steps: int, same: bool = False) -> None:
    """Try so many runs of so many steps; the `same` ones each time, or others."""
    run_state_machine_as_test(
        lambda: Machine(world),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=same,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_jobs_in_any_order(world: World) -> None:
    run(world, examples=6, steps=20, same=True)


@pytest.mark.slow
def test_many_more(world: World) -> None:
    run(world, examples=200, steps=50)
