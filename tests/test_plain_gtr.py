"""GTR in NumPy gives what sentence-transformers gives, and a search by command loads no framework."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from encoders.retriever import NUMPY, SENTENCE_TRANSFORMERS, Retriever
from examples.miniwiki.shipped import GTR_NAME
from tests import small_retrievers

ROOT = Path(__file__).parents[1]
TEXTS = [
    *("Where does the Danube end?", "", "x", "Ulaanbaatar is the capital of Mongolia. " * 40),
    "\U0001f600 unknown \u4e2d",
]


@pytest.mark.parametrize("role", ["query", "document"])
@pytest.mark.parametrize("model", ["gtr", "trained"])
def test_vectors_are_the_librarys(models: Path, model: str, role: str) -> None:
    folder = models / "gtr" if model == "gtr" else ROOT / "examples" / "miniwiki" / "trained" / GTR_NAME
    few = Retriever.for_few(folder)
    oracle = Retriever.load(folder, backend=SENTENCE_TRANSFORMERS)
    assert (few.backend, few.fingerprint, few.dim) == (NUMPY, oracle.fingerprint, oracle.dim)
    found, wanted = few.encode(TEXTS, role=role), oracle.encode(TEXTS, role=role)
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    reads = {}
    for name, retriever in (("few", few), ("oracle", oracle)):
        counts: list[int] = []
        retriever.encode(TEXTS, role=role, on_read=lambda read, counts=counts: counts.append(read.tokens))
        reads[name] = sum(counts)
    assert reads["few"] == reads["oracle"]


def test_a_model_that_jax_does_not_run_is_run_by_its_library(tmp_path: Path) -> None:
    folder = small_retrievers.make_retriever(tmp_path / "bert")
    assert Retriever.for_few(folder).backend == SENTENCE_TRANSFORMERS


def test_a_search_by_command_loads_no_framework(corpus: Path) -> None:
    source = (
        "import sys\nfrom pipeline.cli import main\n"
        "sys.argv = ['memcorpus', 'search', sys.argv[1], 'a river', '--json']\nassert main.run() == 0\n"
        "print({'jax', 'flax', 'apache_beam', 'sentence_transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source, str(corpus)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
