"""The house: imports run one way, and a reader loads no framework."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("memcorpus", "pipeline", "encoders", "storage", "retrieval")
ALLOWED = {
    "storage": set(),
    "encoders": set(),
    "retrieval": {"storage"},
    "pipeline": {"encoders", "retrieval", "storage"},
    "memcorpus": set(),
}
# Inside a function only: what text queries need of the retriever; and all that the face, which must stay
# light and is imported by nobody, hands out.
LAZY = {"retrieval": {"encoders"}, "memcorpus": {"pipeline", "encoders", "storage", "retrieval"}}

# `python -m pipeline`: another name of the command, imported by nobody.
COMMAND = "pipeline/__main__.py"

# Libraries of training: what they keep and return stays behind one file each.
ONLY = {"optax": "encoders/optimizers.py", "orbax": "pipeline/readers/training/checkpoints.py"}


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """(top-level package, is it inside a function or for type checkers only) of every import."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            inner = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                inner = True
            if isinstance(child, ast.Import):
                yield from ((alias.name.split(".")[0], lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "relative imports hide which package is meant"
                yield (child.module or "").split(".")[0], lazy
            yield from walk(child, inner)

    return walk(tree, False)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths
    for path in paths:
        for name, lazy in imports(ast.parse(path.read_text())):
            where = f"{path.relative_to(ROOT)} imports {name}"
            if str(path.relative_to(ROOT)) == COMMAND:
                assert name not in PACKAGES or name == "memcorpus", where
                continue
            if name in PACKAGES and name != package:
                allowed = ALLOWED[package] | (LAZY.get(package, set()) if lazy else set())
                assert name in allowed, where
            if name == "apache_beam":
                assert package == "pipeline", where
            if name in ONLY:
                assert str(path.relative_to(ROOT)) == ONLY[name], where
            assert name not in ("examples", "tests", "benchmarks"), where


def test_the_walker_sees_what_it_must() -> None:
    source = "import a.b\nfrom c import d\ndef f():\n    import e\nif TYPE_CHECKING:\n    import g\n"
    assert list(imports(ast.parse(source))) == [("a", False), ("c", False), ("e", True), ("g", True)]


def test_a_readers_settings_load_no_framework() -> None:
    source = (
        "import sys, encoders.reader.config, encoders.reader.folder\n"
        "print({'jax', 'flax', 'torch', 'optax'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.strip() == "set()", done.stderr


READ = """
import sys

class Refuse:
    # What `pip install memcorpus` alone does not bring.
    names = {'jax', 'jaxlib', 'flax', 'torch', 'apache_beam', 'transformers', 'sentence_transformers',
             'tokenizers', 'click', 'rich', 'psutil', 'zarr', 'pandas', 'safetensors', 'huggingface_hub'}
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in self.names:
            raise ImportError(f'{name} is not for readers')

sys.meta_path.insert(0, Refuse())
import retrieval
corpus = retrieval.open_corpus(sys.argv[1])
memory = corpus.memory().fetch([0, len(corpus) - 1, 0])
assert memory.values.any() and len(memory) == 3
assert corpus.passages([1]).num_rows == 1
assert corpus.search(corpus.vectors().read(0, 2), 3).passage_ids[1, 0] == 1
print('read without', len(Refuse.names & set(sys.modules)), 'frameworks')
"""


def test_a_reader_loads_no_framework(corpus: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ, str(corpus)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.strip() == "read without 0 frameworks", done.stderr
