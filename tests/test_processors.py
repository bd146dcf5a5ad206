"""Other processors than this one, as XLA is told to be on: rounding may differ, and no more than rounding.

AVX and SSE4_2 have no instruction that multiplies and adds with one rounding, so nearly every sum comes out
otherwise than on today's processors; SSE4_2 has no float16 either.
"""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.units import failures
from retrieval import open_corpus
from storage import canaries, errors
from storage.folder import CorpusFolder
from tests import jobs, small_models

ROOT = Path(__file__).parents[1]
OLDEST = "SSE4_2"

ENCODE = """
import sys
from fractions import Fraction
import numpy as np
from encoders.memory_encoder import MemoryEncoder
from encoders.memory_spec import MemorySpec
from tests import small_models
folder, compute_dtype, out = sys.argv[1:]
memory = MemorySpec(live_proportion=Fraction(1, 3), compute_dtype=compute_dtype)
np.save(out, MemoryEncoder.load(folder, memory).encode_texts(small_models.TEXTS))
"""
# Ends as if killed, after some shards.
BUILD = """
import os, pickle, sys
from pathlib import Path
from pipeline.components.memory import encode
from tests import jobs
finish, done = encode.EncodeShards.finish, []
def finish_some(self, unit, *arguments):
    if len(done) == int(sys.argv[2]):
        os._exit(9)
    done.append(unit)
    return finish(self, unit, *arguments)
encode.EncodeShards.finish = finish_some
jobs.build(pickle.loads(bytes.fromhex(sys.argv[1])), Path(sys.argv[3]))
"""
FLOAT16 = """
import jax
from pipeline.units import failures
try:
    jax.jit(lambda x: x.astype("float16"))(jax.numpy.ones(8)).block_until_ready()
except Exception as error:
    print(failures.kind(error), failures.message(error))
"""


def on_processor(isa: str, *arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Python on a processor that XLA takes for one of this kind."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={
            **os.environ,
            "XLA_FLAGS": f"--xla_cpu_max_isa={isa}",
            "MEMCORPUS_COMPILED": "off",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_canaries_are_known_again_on_other_processors(
    compute_dtype: str, models: Path, tmp_path: Path
) -> None:
    small_models.make_t5_folder(tmp_path / "other", layers=6, seed=12)

    @functools.cache
    def encoded(isa: str, folder: Path) -> npt.NDArray[np.float32]:
        out = tmp_path / f"{isa}-{folder.name}.npy"
        on_processor(isa, "-c", ENCODE, folder, compute_dtype, out)
        values: npt.NDArray[np.float32] = np.load(out)
        return values

    here = encoded("AVX512", models / "t5")
    for isa in ("AVX2", "AVX", OLDEST):
        there = encoded(isa, models / "t5")
        found = canaries.require_same(here, there, compute_dtype=compute_dtype, what="here and there")
        # With room for larger models and for accelerators.
        assert found.relative_error < canaries.TOLERANCES[compute_dtype] / 20
    assert not np.array_equal(here, encoded(OLDEST, models / "t5")), "the bits do differ"
    # Not trivial: what is wrong, and not rounded otherwise, is further off.
    for wrong in (encoded(OLDEST, tmp_path / "other"), there * 1.05, np.roll(there, 1, axis=0)):
        with pytest.raises(errors.MismatchError, match="come out"):
            canaries.require_same(here, wrong, compute_dtype=compute_dtype, what="here and there")


def test_a_corpus_of_two_processors(corpus: Path, settings: Any, models: Path, tmp_path: Path) -> None:
    """Half of it on one, the rest on the other: as good as of one, and known for its own on both."""
    root = tmp_path / "corpus"
    pickled = pickle.dumps(settings).hex()
    half = 3
    on_processor(OLDEST, "-c", BUILD, pickled, str(half), root, status=9)
    jobs.build(settings, root)
    assert jobs.verify(root, full=True).ok
    whole, mixed = open_corpus(corpus), open_corpus(root)
    assert whole.passages(range(len(whole))).equals(mixed.passages(range(len(whole))))
    first, second = (opened.memory().fetch(range(len(whole))) for opened in (whole, mixed))
    np.testing.assert_array_equal(first.offsets, second.offsets)
    cut = int(first.offsets[half * settings.shard_passages])
    # The same processor, the same bytes.
    np.testing.assert_array_equal(first.values[cut:].view(np.uint16), second.values[cut:].view(np.uint16))
    a, b = (np.asarray(found.values[:cut], np.float32) for found in (first, second))
    differ = float((a != b).mean())
    print(f"{differ:.3%} of the values of the half from another processor differ")
    assert 0 < differ < 0.01
    # By one rounding to bfloat16, and float32's own noise where a value is near to nothing.
    assert (np.abs(a - b) <= 2.0**-7 * np.abs(a) + 1e-6 * np.abs(a).max()).all()
    encoder = jobs.load_encoder(root, None, None)
    assert mixed.check_encoder(encoder).relative_error < 1e-3
    checked = on_processor(OLDEST, "-m", "pipeline", "verify", root, "--encoder", models / "t5")
    assert "canaries encoded again" in checked.stdout


def test_float16_where_the_processor_has_none(
    dump: Any, models: Path, corpus_copy: Path, tmp_path: Path
) -> None:
    """One line instead of XLA's own, and nothing written; bfloat16 is computed there."""
    build = [
        *("-m", "pipeline", "build", "--source", f"mediawiki:{dump.path}", "--out", tmp_path / "out"),
        *("--retriever", models / "gtr", "--memory-encoder", models / "t5", "--live-proportion", "1/3"),
    ]
    reencode = ["-m", "pipeline", "reencode", corpus_copy, "--memory-encoder", models / "t5"]
    for command in (build, reencode):
        done = on_processor(OLDEST, *command, "--codec", "float16", status=2)
        assert done.stderr.startswith("memcorpus: float16 is beyond this processor")
        assert "take bfloat16" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert not (CorpusFolder(corpus_copy).work.path).exists()
    # What no launcher can know before.
    told = on_processor(OLDEST, "-c", FLOAT16).stdout
    assert told.startswith(f"{failures.REFUSED} float16 is beyond this processor")
    assert on_processor("AVX2", "-c", FLOAT16).stdout == ""
    on_processor(OLDEST, *build)
    shutil.rmtree(tmp_path / "out")
