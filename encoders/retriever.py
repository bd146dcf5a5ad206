"""The retriever: texts in, one vector each, through jax or sentence-transformers.

Questions and passages go through the same model, each with the prompt that its folder has for them: GTR (Ni
et al. 2022: T5 encoder, mean over real tokens, Dense without bias, L2 norm) has none, so there both are read
alike (PAPERS: Retrieval model). The folder's modules.json decides what is run. Importing this loads neither
jax nor torch; `Retriever.load` loads one of them. Their vectors agree to rounding (1e-5 of a vector of
length 1 at most, in float32), so the fingerprint is the same for both; a build stays with one of them all
the same, so that its bytes do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from encoders import errors, gtr, library
from encoders.model_folder import ModelFolderError
from encoders.retriever_folder import DOCUMENT, ROLES, RetrieverFolder, open_folder
from encoders.tokenizing import Read

DEFAULT_BATCH_SIZE = 32
VECTOR_DTYPES = ("float32", "float16")

JAX: Final = "jax"
SENTENCE_TRANSFORMERS: Final = "sentence-transformers"
# Of `Retriever.for_few` alone: no build is made by it.
NUMPY: Final = "numpy"
BACKENDS: Final = (JAX, SENTENCE_TRANSFORMERS)


class _Tower(Protocol):
    """A model that runs: places in the texts, their vectors [places, dim], and if it is to be counted how
    these texts were read."""

    dim: int

    def batches(
        self, texts: Sequence[str], role: str, *, count: bool
    ) -> Iterator[tuple[Any, npt.NDArray[np.float32], Read | None]]: ...


class Retriever:
    """A loaded retriever. Made by `load`.

    Args:
        dim: length of a vector.
        max_tokens: texts are cut to this.
        backend: what runs it.
        similarity: by which its vectors are compared; see `retriever_folder`.
        fingerprint: hex digest of all that decides the numbers.
        description: what the digest was taken of.
    """

    def __init__(self, *, tower: _Tower, folder: RetrieverFolder, backend: str) -> None:
        self._tower = tower
        self.dim: int = folder.dim
        self.max_tokens = folder.max_tokens
        self.backend = backend
        self.similarity = folder.similarity
        self.fingerprint = folder.fingerprint.hex
        self.description = folder.fingerprint.description

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        *,
        max_tokens: int | None = None,
        backend: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        device: str = "all",
    ) -> Retriever:
        """Loads a sentence-transformers model, from a folder or from the hub.

        Weights are computed with in float32, whatever they are stored in: GTR is published in
        float16, which is slow and inexact on a CPU.

        Args:
            name_or_folder: a folder with modules.json, or a hub name.
            max_tokens: as for `retriever_folder.open_folder`.
            backend: "jax" or "sentence-transformers"; None for `default_backend`.
            batch_size: texts of one batch, with sentence-transformers; jax's batches go by tokens.
            device: "all", a kind such as "cpu" or "gpu", or one of a kind, "gpu:1"; sentence-transformers
                takes the first of several. See `sharding.named`.

        Raises:
            ModelFolderError: the model cannot be loaded, or not by this backend, or has weights only
                as pickles.
            ValueError: max_tokens is below 2, or another argument is out of range.
        """
        folder = open_folder(name_or_folder, max_tokens=max_tokens)
        _ = folder.fingerprint  # Weights that are missing or damaged are told of in our own words.
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, wanted a positive number")
        chosen = backend or default_backend(folder)
        if chosen not in BACKENDS:
            raise errors.EncoderError(f"backend is {backend!r}, wanted one of {', '.join(BACKENDS)}")
        require_installed(folder, chosen)
        tower: _Tower
        if chosen == JAX:
            tower = gtr.Tower(folder, devices=device)
        else:
            tower = library.Tower(folder, batch_size=batch_size, device=device)
        if tower.dim != folder.dim:
            raise ModelFolderError(
                f"{folder.path} gives vectors of {tower.dim} dimensions, its settings say {folder.dim}"
            )
        return cls(tower=tower, folder=folder, backend=chosen)

    @classmethod
    def for_few(cls, name_or_folder: str | Path) -> Retriever:
        """Loads what encodes a question or two soonest: NumPy's form of a model that jax would run, on this
        machine's processor; where there is none, as `load`.

        Raises:
            As `load`.
        """
        folder = open_folder(name_or_folder)
        if gtr.unfit(folder) is not None:
            return cls.load(name_or_folder)
        _ = folder.fingerprint
        from encoders import plain_gtr

        return cls(tower=plain_gtr.Tower(folder), folder=folder, backend=NUMPY)

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: str = DOCUMENT,
        dtype: npt.DTypeLike = np.float32,
        on_batch: Callable[[int], None] | None = None,
        on_read: Callable[[Read], None] | None = None,
    ) -> npt.NDArray[Any]:
        """The vectors of passages, or of questions, each behind its prompt.

        Texts of similar length run together; which ones depends on the list alone, so the same
        call gives the same bytes on the same kind of machine.

        Args:
            texts: any strings; longer ones are cut at max_tokens.
            role: what they are: `DOCUMENT` or `QUERY`. Without prompts it makes no difference.
            dtype: float32, or float16 (rounded once; vectors of length 1 lose 5e-4 at most).
            on_batch: called after each batch with the number of texts it encoded.
            on_read: called after each batch with how its texts were read.

        Returns:
            [texts, dim], in the order given, as the model's own library gives them.

        Raises:
            ValueError: dtype or role is none of these.
            UnstorableError: a vector is not finite in dtype.
        """
        kind = np.dtype(dtype)
        if kind.name not in VECTOR_DTYPES:
            raise ValueError(f"dtype is {kind}, wanted one of {', '.join(VECTOR_DTYPES)}")
        if role not in ROLES:
            raise ValueError(f"role is {role!r}, wanted one of {', '.join(ROLES)}")
        vectors = np.empty((len(texts), self.dim), kind)
        for rows, batch, read in self._tower.batches(texts, role, count=on_read is not None):
            with np.errstate(over="ignore"):
                vectors[rows] = batch
            whole = np.isfinite(vectors[rows]).all(axis=1)
            if not whole.all():
                raise errors.UnstorableError(
                    f"text {rows[int(np.argmin(whole))]} has a vector that {kind} cannot hold; "
                    "take float32, and check that the weights are whole"
                )
            if on_batch is not None:
                on_batch(len(rows))
            if on_read is not None and read is not None:
                on_read(read)
        return vectors


def require_installed(folder: RetrieverFolder, backend: str) -> None:
    """Refuse a backend that is not installed, before anything is written.

    Raises:
        EncoderError: naming what to install.
    """
    if backend == SENTENCE_TRANSFORMERS and not (find_spec("sentence_transformers") and find_spec("torch")):
        reason = gtr.unfit(folder) if find_spec("jax") else "jax is not installed"
        why = f"; jax does not run it: {reason}" if reason else ", or take the backend jax"
        raise errors.EncoderError(
            f"retriever {folder.path} is to be run by sentence-transformers, which is not installed: "
            f"pip install 'memcorpus[text]'{why}"
        )


def default_backend(folder: RetrieverFolder) -> str:
    """jax where it is installed and knows all of the folder's modules, else sentence-transformers."""
    return JAX if find_spec("jax") and gtr.unfit(folder) is None else SENTENCE_TRANSFORMERS
