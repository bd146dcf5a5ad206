"""The face: `import memcorpus` is light, its names are those of the docs, and it says what hides it."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, get_type_hints

import click
import numpy as np
import pytest

import memcorpus
from encoders import memory_spec
from encoders.reader import folder
from examples.miniwiki.export import DumpTruth
from memcorpus import keywords, packages
from pipeline.accounts.plan import asking
from pipeline.cli import costs
from pipeline.components.settings import BuildSettings
from tests import small_models, small_readers
from tests.commands import Command

ROOT = Path(__file__).parents[1]
HEAVY = ("numpy", "pyarrow", "faiss", "tensorstore", "jax", "torch", "apache_beam", "transformers", "click")
# Imports the face and does the least with it, and tells what came of it as a user would see it.
OPEN = "import memcorpus; print('imported', flush=True); memcorpus.open('nowhere')"


def python(*arguments: str, cwd: Path, path: Path = ROOT) -> tuple[int, str, str]:
    """`python ARGUMENTS` where memcorpus is on the path behind what Python itself puts there."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )
    return done.returncode, done.stdout, done.stderr


def package(folder: Path, text: str = "") -> Path:
    """A package of somebody else's."""
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(text)
    return folder


def distribution(site: Path, name: str, *files: str) -> None:
    """What an installer notes down of a distribution with these files."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def refused(done: tuple[int, str, str], *words: str) -> str:
    """The import itself went well; the first use raised, and its last line has these words."""
    status, out, err = done
    assert (status, out) == (1, "imported\n"), (status, out, err)
    line = err.splitlines()[-1]
    for word in ("memcorpus.packages.HiddenPackageError: ", *words):
        assert word in line, line
    return line


def test_the_import_loads_nothing_heavy_and_is_quick(tmp_path: Path) -> None:
    source = (
        "import json, sys, time\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "before, started = resident(), time.perf_counter()\n"
        "import memcorpus\n"
        "taken = time.perf_counter() - started\n"
        f"loaded = [name for name in {(*HEAVY, *packages.EVERYTHING)} if name in sys.modules]\n"
        "print(json.dumps([loaded, taken, resident() - before]))"
    )
    found = []
    for _ in range(3):
        status, out, err = python("-c", source, cwd=tmp_path)
        assert status == 0, err
        found.append(json.loads(out))
    assert all(loaded == [] for loaded, _, _ in found)
    # 0.05 s and 2.5 MB, of which all but a few thousand bytes are the standard library's; the bounds leave
    # room for a machine that is at work on something else.
    assert min(seconds for _, seconds, _ in found) < 0.5
    assert min(size for _, _, size in found) < 10_000_000


def test_the_version_is_the_distributions_and_the_commands(command: Command) -> None:
    assert memcorpus.__version__ == importlib.metadata.version("memcorpus")
    status, out, _ = command("--version")
    assert status == 0
    assert out.split()[-1] == memcorpus.__version__


def test_the_names_are_those_of_the_docs() -> None:
    documented = re.findall(r"^\| `([A-Za-z_]+)", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(set(documented))
    assert set(documented) == set(memcorpus.__all__)
    assert dir(memcorpus) == sorted(memcorpus.__all__)


def test_every_name_is_there_and_is_what_type_checkers_think() -> None:
    """Each `from x import y as y` for type checkers is what the name gives when Python asks for it."""
    told = {
        alias.name: node.module
        for node in ast.walk(ast.parse(inspect.getsource(memcorpus)))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert {"Corpus", "Answered", "EncoderError", "HiddenPackageError"} <= set(told)
    for name, module in told.items():
        assert getattr(memcorpus, name) is getattr(sys.modules[str(module)], name)
    functions = {"open", "open_reader", "open_writer", "answer", "build", "plan"}
    assert set(memcorpus.__all__) == set(told) | functions | {"__version__"}
    assert all(inspect.isfunction(getattr(memcorpus, name)) for name in functions)
    with pytest.raises(AttributeError, match="no attribute 'fetch_everything'"):
        _ = memcorpus.fetch_everything  # type: ignore[attr-defined]


def test_a_star_import_brings_every_name() -> None:
    found: dict[str, Any] = {}
    exec("from memcorpus import *", found)
    assert set(memcorpus.__all__) <= set(found)


def test_an_unfinished_thing_is_refused_as_everywhere(tmp_path: Path) -> None:
    with pytest.raises(memcorpus.CorpusError, match="holds no corpus"):
        memcorpus.open(tmp_path)


@pytest.mark.parametrize("name", packages.EVERYTHING)
def test_a_package_in_the_current_folder_that_hides_one_of_ours_is_named(tmp_path: Path, name: str) -> None:
    theirs = package(tmp_path / name)
    use = OPEN.replace("open('nowhere')", "plan(passages=1, tokens_per_passage=1)")
    line = refused(python("-c", use, cwd=tmp_path), str(theirs), repr(name), str(ROOT / name), "rename it")
    assert "python -P" in line
    assert len(line) < 400
    # And what the line recommends helps.
    status, _, err = python("-P", "-c", use, cwd=tmp_path)
    assert status == 1
    assert "no model given" in err


def test_a_module_hides_a_package_too(tmp_path: Path) -> None:
    (tmp_path / "storage.py").write_text("x = 1\n")
    refused(python("-c", OPEN, cwd=tmp_path), str(tmp_path / "storage.py"), "rename it")


def test_a_folder_that_is_no_package_hides_nothing(tmp_path: Path) -> None:
    """Python takes a folder without `__init__.py` only where no package of the name is found anywhere."""
    (tmp_path / "storage").mkdir()
    status, out, err = python("-c", OPEN, cwd=tmp_path)
    assert (status, out) == (1, "imported\n")
    assert "CorpusError: nowhere holds no corpus" in err


def test_reading_does_not_need_the_pipeline(tmp_path: Path) -> None:
    package(tmp_path / "pipeline")
    status, _, err = python("-c", OPEN, cwd=tmp_path)
    assert status == 1
    assert "CorpusError: nowhere holds no corpus" in err


def test_a_package_that_was_imported_before_is_seen(tmp_path: Path) -> None:
    package(tmp_path / "storage")
    before = "import sys, storage; sys.path.remove('')\n"
    refused(python("-c", before + OPEN, cwd=tmp_path), str(tmp_path / "storage"))
    by_hand = "import sys, types; sys.modules['storage'] = types.ModuleType('storage')\n"
    refused(python("-c", by_hand + OPEN, cwd=tmp_path.parent), "'storage' without a file")


def test_another_distribution_before_ours_on_the_path_is_seen(tmp_path: Path) -> None:
    site = tmp_path / "lib/site-packages"
    package(site / "encoders")
    done = python("-c", OPEN, cwd=tmp_path, path=Path(f"{site}{os.pathsep}{ROOT}"))
    refused(done, str(site / "encoders"), "an environment of its own")


@pytest.fixture
def installed(tmp_path: Path) -> Callable[..., Path]:
    """Our packages in a folder of their own, as installed, but for some."""

    def copy(*names: str) -> Path:
        site = tmp_path / "lib/site-packages"
        site.mkdir(parents=True)
        for name in names:
            (site / name).mkdir()
            for path in sorted((ROOT / name).rglob("*.py")):
                target = site / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        return site

    return copy


def test_a_distribution_that_was_installed_over_ours_is_named(
    installed: Callable[..., Path], tmp_path: Path
) -> None:
    site = installed("memcorpus", *packages.READING)
    (site / "storage/errors.py").write_text("class Quota(Exception): ...\n")
    distribution(site, "cloudstore", "storage/__init__.py", "storage/errors.py")
    refused(
        python("-c", OPEN, cwd=tmp_path, path=site), "'cloudstore'", "'storage'", "an environment of its own"
    )


def test_an_installation_that_is_not_whole_says_so(installed: Callable[..., Path], tmp_path: Path) -> None:
    site = installed("memcorpus", "retrieval", "storage")
    for _ in range(2):
        # -S: this environment's libraries would bring the missing package with this checkout.
        done = python("-S", "-c", OPEN, cwd=tmp_path, path=site)
        refused(done, "'encoders'", str(site), "install memcorpus again")
        # A folder without `__init__.py` is taken then, and is no package of anybody's.
        (tmp_path / "encoders").mkdir(exist_ok=True)


def test_a_fault_of_ours_is_shown_as_it_is(installed: Callable[..., Path], tmp_path: Path) -> None:
    site = installed("memcorpus", *packages.READING)
    (site / "storage/errors.py").write_text("")
    status, _, err = python("-c", OPEN, cwd=tmp_path, path=site)
    assert status == 1
    assert err.splitlines()[-1].startswith("ImportError: cannot import name 'CorpusError'"), err


REFUSE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == {library!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.parametrize(
    ("library", "use", "extra"),
    [
        ("apache_beam", "memcorpus.build('out')", "memcorpus[build]"),
        ("jax", "memcorpus.answer('corpus', 'Who?', reader='reader')", "memcorpus[build]"),
        ("click", "from memcorpus.__main__ import main; main()", "memcorpus[build]"),
    ],
)
def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, library: str, use: str, extra: str
) -> None:
    status, _, err = python("-c", REFUSE.format(library=library) + f"import memcorpus; {use}", cwd=tmp_path)
    assert status == (2 if library == "click" else 1)
    line = err.splitlines()[-1]
    assert f"{library} is not installed" in line
    assert extra in line


def console_script(folder: Path) -> Path:
    """The command as an installer writes it, from the entry point in pyproject.toml."""
    import tomllib

    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["memcorpus"]
    module, _, function = entry.partition(":")
    script = folder / "bin" / "memcorpus"
    script.parent.mkdir()
    script.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    return script


def test_the_command_in_a_folder_with_a_package_of_its_own(tmp_path: Path) -> None:
    """A console script has its own folder on the path and not the current one, unlike `python -m`."""
    package(tmp_path / "storage")
    script = console_script(tmp_path)
    status, out, err = python(str(script), "--version", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert out.split()[-1] == memcorpus.__version__
    # Where the folder is on the path all the same, one line tells, and the status is that of bad input.
    hidden = python(str(script), "--version", cwd=tmp_path, path=Path(f"{tmp_path}{os.pathsep}{ROOT}"))
    as_module = [python("-m", name, "--version", cwd=tmp_path) for name in ("memcorpus", "pipeline")]
    for status, out, err in (hidden, *as_module):
        assert (status, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert err.startswith(f"memcorpus: {tmp_path / 'storage'} hides memcorpus's own package 'storage'")


def test_another_memcorpus_in_the_current_folder(tmp_path: Path) -> None:
    theirs = package(tmp_path / "memcorpus")
    status, out, err = python("-m", "pipeline", "--version", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err.startswith(f"memcorpus: {theirs}")
    assert len(err.splitlines()) == 1


def test_the_keywords_are_those_of_the_settings() -> None:
    """What is asked for is at least what the settings hold; the face takes more forms of some."""
    kinds = {"str": str, "int": int, "float": float, "bool": bool, "None": type(None), "Path": Path}
    for typed, settings, memory in (
        (keywords.BuildKeywords, BuildSettings, memory_spec.SETTINGS),
        (keywords.PlanKeywords, asking.PlanSettings, {}),
    ):
        hints = get_type_hints(typed)
        accepted = {name: set(getattr(hint, "__args__", ())) or {hint} for name, hint in hints.items()}
        fields = {field.name: str(field.type) for field in dataclasses.fields(settings)}
        # A build's memory is one field, whose settings are keywords of their own.
        assert (fields.pop("memory", None) is not None) == bool(memory)
        assert set(hints) == set(fields) | set(memory)
        for name, kind in fields.items():
            for part in kind.replace("tuple[str, ...]", "str").split(" | "):
                assert kinds[part] in accepted[name], (name, kind, hints[name])
        for name, (_, types) in memory.items():
            assert set(types) & accepted[name], (name, types, hints[name])


def test_the_commands_defaults_are_those_of_a_plan() -> None:
    """The command shows them in its help, the settings hold them: they must be the same."""
    defaults = {field.name: field.default for field in dataclasses.fields(asking.PlanSettings)}
    shown = {
        option.name: option.default
        for option in costs.plan.params
        if isinstance(option, click.Option) and option.show_default
    }
    assert len(shown) >= 8
    assert shown == {name: defaults[str(name)] for name in shown}


def test_build_search_fetch_answer_by_the_face(
    dump: DumpTruth, models: Path, corpus: Path, tmp_path: Path
) -> None:
    """The same corpus as the command's, and the same answers as the classes behind the face."""
    built = memcorpus.build(
        tmp_path / "corpus",
        sources=f"mediawiki:{dump.path}",
        retriever=str(models / "gtr"),
        memory_encoder=str(models / "t5"),
        live_proportion=Fraction(1, 3),
        compute_dtype="float32",
        shard_passages=64,
        split_bytes=20_000,
    )
    other = memcorpus.open(corpus)
    assert isinstance(built, memcorpus.Corpus)
    # The manifest answers for every byte.
    assert (tmp_path / "corpus/corpus.json").read_bytes() == (corpus / "corpus.json").read_bytes()
    assert len(built) == len(other) > 64

    found = built.search(["a river", "a mountain"], 3)
    assert isinstance(found, memcorpus.SearchResult)
    np.testing.assert_array_equal(found.passage_ids, other.search(["a river", "a mountain"], 3).passage_ids)
    memory = built.memory().fetch(found.passage_ids[0])
    assert isinstance(memory, memcorpus.RaggedMemory)
    np.testing.assert_array_equal(memory.values, other.memory().fetch(found.passage_ids[0]).values)
    with pytest.raises(memcorpus.UnknownPassageError):
        built.memory().fetch([len(built)])

    reader = tmp_path / "reader"
    t5 = small_models.make_t5_folder(tmp_path / "t5", decoder=True, layers=3)
    made = small_readers.make(t5, "fid")
    settings = dataclasses.replace(small_readers.settings_of(made.config), retrieved=2)
    folder.save(made, settings, reader, like=t5)
    asked = ["Where does the Danube end?", "How high is Mount Everest?"]
    answers = memcorpus.answer(built, asked, reader=reader)
    assert [type(one) for one in answers] == [memcorpus.Answered] * 2
    kept = memcorpus.open_reader(tmp_path / "corpus", reader, batch=2)
    assert answers == list(kept.answer(asked))
    wanted = built.search(asked, 2).passage_ids.tolist()
    assert [[read.passage_id for read in one.passages] for one in answers] == wanted
    alone = memcorpus.answer(tmp_path / "corpus", asked[1], reader=reader, retrieved=1)
    assert [[read.passage_id for read in one.passages] for one in alone] == [wanted[1][:1]]
    with pytest.raises(memcorpus.EncoderError):
        memcorpus.answer(built, asked, reader=t5)


def test_a_build_takes_settings_from_a_file_and_refuses_what_the_command_refuses(tmp_path: Path) -> None:
    config = tmp_path / "build.toml"
    config.write_text('retriever = "r"\nmemory_encoder = "m"\nlive_proportion = "1/3"\ncodec = "int8"\n')
    with pytest.raises(memcorpus.CorpusError, match="no source given"):
        memcorpus.build(tmp_path / "out", config=config)
    with pytest.raises(memcorpus.CorpusError, match="unknown memory codec 'int9'"):
        memcorpus.build(tmp_path / "out", config=config, sources=["jsonl:x"], codec="int9")
    with pytest.raises(TypeError, match="codex"):
        memcorpus.build(tmp_path / "out", config=config, sources=["jsonl:x"], codex="int8")  # type: ignore[call-arg]
    assert not (tmp_path / "out").exists()


def test_a_plan_is_the_commands(command: Command, dump: DumpTruth, models: Path) -> None:
    given = ("--passages", "36e6", "--tokens-per-passage", "265", "--size", "xxl", "--device", "h100")
    status, out, err = command("plan", *given, "--codec", "int8", "--live-proportion", "1/2", "--json")
    assert status == 0, err
    planned = memcorpus.plan(
        passages=36e6,
        tokens_per_passage=265,
        sizes="xxl",
        device="h100",
        codecs="int8",
        live_proportions=Fraction(1, 2),
    )
    assert planned == json.loads(out)
    assert planned["ways"][0]["codec"] == "int8"

    status, out, err = command(
        *("plan", "--source", f"mediawiki:{dump.path}", "--memory-encoder", models / "t5"),
        *("--device", "h100", "--json"),
    )
    assert status == 0, err
    source = f"mediawiki:{dump.path}"
    planned = memcorpus.plan(sources=source, memory_encoder=str(models / "t5"), device="h100")
    assert planned["counts"]["passages"] == json.loads(out)["counts"]["passages"]
    with pytest.raises(memcorpus.CorpusError, match="unknown memory codec 'int9'"):
        memcorpus.plan(passages=1e6, tokens_per_passage=265, sizes="xxl", codecs=["int9"], device="h100")
