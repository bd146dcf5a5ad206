"""A RETRO's neighbours' encoder as a memory encoder: what it gives of each chunk with its continuation, to be
stored.

An encoder that does not see the chunk that asked gives the same for a neighbour whoever asks, so it can be
run once a chunk of the database. One that is conditioned on the chunk cannot: its states are of pairs, and
there is no memory of them. What is stored is the encoder's output before the norm that cross-attention reads
through, which belongs to the reader.

Rows are padded to 2m places and batches to one number of rows. So there is one program, and a chunk has the
same states to the bit in whatever batch it is: stored, or encoded when it is asked for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from encoders import batching, compiling, errors, fingerprint, model_folder
from encoders.aliases import Json
from encoders.fingerprint import Fingerprint
from encoders.memory_encoder import MemoryEncoder
from encoders.memory_spec import MemorySpec
from encoders.retro import folder as retro_folder
from encoders.retro import names
from encoders.retro.config import UNCONDITIONED, RetroConfig
from encoders.retro.folder import RetroFolder
from encoders.template import PassageTemplate
from encoders.token_encoder import TextReader, encoded
from encoders.tokenizing import Tokens

if TYPE_CHECKING:
    import jax

# Of what `fingerprint_of` describes; in a version's card it tells states of chunks with their continuations.
KIND: Final = "chunk and continuation"
# Raise when the encoder's own arithmetic changes by more than rounding.
ARITHMETIC: Final = 1
# Settings of the memory that a RETRO has no choice of.
FIXED: Final = ("live_proportion", "max_tokens", "memory_template", "memory_layers")


def spec(opened: RetroFolder, before: MemorySpec) -> MemorySpec:
    """How a RETRO's encoder makes memory: all of its layers, of 2m tokens, in the type it was trained in."""
    return replace(
        before,
        live_proportion=Fraction(0),
        compute_dtype=opened.settings.compute_dtype,
        max_tokens=2 * opened.settings.config.chunk_tokens,
        layers=None,
    )


def require_storable(config: RetroConfig, where: object) -> None:
    """Refuse a RETRO whose encodings are no memory.

    Raises:
        EncoderError: it encodes a neighbour for the chunk that asks, or has no encoder.
    """
    if config.encoding == UNCONDITIONED:
        return
    if config.encodes:
        raise errors.EncoderError(
            f"the encoder of {where} is conditioned on the chunk that asks: a neighbour has other states for "
            "each chunk, so they cannot be stored; train one with --encoding unconditioned"
        )
    raise errors.EncoderError(
        f"{where} has no encoder of its own: it reads {config.encoding} memory; wanted one of "
        f"--encoding {UNCONDITIONED}"
    )


def fingerprint_of(opened: RetroFolder, *, compute_dtype: str | None = None) -> Fingerprint:
    """Of the neighbours' encoder alone: the language model and cross-attention may learn on.

    Args:
        opened: a RETRO of an unconditioned encoder.
        compute_dtype: that it runs in; its own if not given.

    Raises:
        EncoderError: its encodings cannot be stored.
    """
    config = opened.settings.config
    require_storable(config, opened.path)
    assert config.encoder is not None
    tensors = retro_folder.encoder_tensors(opened)
    encoder = config.encoder
    return fingerprint.of(
        {
            "kind": KIND,
            "arithmetic": ARITHMETIC,
            "tensors": fingerprint.digest_tensors(tensors),
            "layers": encoder.layers,
            "tokenizer": {
                path.name: fingerprint.digest_file(path)
                for path in model_folder.find_tokenizer_files(opened.path)
            },
            "max_tokens": 2 * config.chunk_tokens,
            "compute_dtype": compute_dtype or opened.settings.compute_dtype,
            "architecture": {
                "d_model": encoder.d_model,
                "d_head": encoder.d_head,
                "d_ff": encoder.d_ff,
                "heads": encoder.heads,
                "norm_epsilon": encoder.as_language(1).norm_epsilon,
            },
        }
    )


@dataclass(frozen=True, kw_only=True)
class OpenedRetro:
    """A RETRO's encoder of which the settings were read; see `token_encoder.OpenedEncoder`."""

    folder: Path
    memory: MemorySpec
    opened: RetroFolder

    @property
    def width(self) -> int:
        """See `token_encoder.OpenedEncoder`."""
        return self.opened.settings.config.width

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """See `token_encoder.OpenedEncoder`."""
        return fingerprint_of(self.opened, compute_dtype=self.memory.compute_dtype)

    @property
    def settings(self) -> Json:
        """See `token_encoder.OpenedEncoder`: none of transformers'."""
        return {}

    @property
    def layers_run(self) -> int:
        """See `token_encoder.OpenedEncoder`."""
        config = self.opened.settings.config.encoder
        return 0 if config is None else config.layers

    @property
    def weights(self) -> int:
        """See `token_encoder.OpenedEncoder`."""
        return sum(math.prod(t.shape) for t in retro_folder.encoder_tensors(self.opened).values())

    def tokenizer(self) -> TextReader:
        """
        Raises:
            EncoderError: it reads chunks of tokens, and no text.
        """
        raise errors.EncoderError(
            f"{self.folder} is a RETRO, whose encoder reads the chunks of a finished corpus; build it with "
            "another memory encoder, and then `memcorpus reencode`"
        )

    def require_loadable(self, *, model_parallel: int | None = None) -> None:
        """See `token_encoder.OpenedEncoder`: the fingerprint finds every tensor."""

    def load(self, *, device: str = "all", model_parallel: int | None = None) -> ChunkEncoder:
        """See `token_encoder.OpenedEncoder`."""
        from encoders import sharding

        return ChunkEncoder.load(
            self.folder, self.memory, devices=sharding.named(device), model_parallel=model_parallel
        )


def open_folder(name_or_folder: str | Path, memory: MemorySpec) -> OpenedRetro:
    """Look at a RETRO's encoder without loading it.

    Raises:
        ModelFolderError: the folder holds no RETRO.
    """
    opened = retro_folder.open_retro(name_or_folder)
    return OpenedRetro(folder=opened.path, memory=memory, opened=opened)


class ChunkEncoder(MemoryEncoder):
    """A loaded encoder of chunks. Made by `load`; it reads token ids and no text."""

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        memory: MemorySpec,
        *,
        devices: Sequence[jax.Device] | None = None,
        model_parallel: int | None = None,
    ) -> ChunkEncoder:
        """Loads the encoder of a RETRO's folder; of the rest no tensor is read.

        Args:
            name_or_folder: what `memcorpus retro train` wrote.
            memory: of `spec`; compute type and token budget may be other.
            devices: rows are split over them; all local ones if not given.
            model_parallel: 1 or None: each device holds the whole encoder.

        Raises:
            ModelFolderError: the folder holds no RETRO.
            EncoderError: its encodings cannot be stored, or `memory` is no memory of it.
        """
        opened = retro_folder.open_retro(name_or_folder)
        print_of = fingerprint_of(opened, compute_dtype=memory.compute_dtype)
        config = opened.settings.config
        wanted = spec(opened, memory)
        if (memory.live_proportion, memory.max_tokens) != (wanted.live_proportion, wanted.max_tokens):
            raise errors.EncoderError(
                f"a RETRO's encoder of chunks of {config.chunk_tokens} tokens runs all its layers on "
                f"{wanted.max_tokens} tokens; got α {memory.live_proportion} and {memory.max_tokens}"
            )
        if model_parallel not in (None, 1):
            raise errors.EncoderError(
                f"model_parallel is {model_parallel}: a RETRO's encoder is small and lies whole on each "
                "device; wanted 1"
            )
        import jax as jax_of

        chosen = list(devices or jax_of.local_devices())
        compiling.use_kept()
        assert config.encoder is not None
        return cls(
            width=config.encoder.d_model,
            vocab_size=config.language.vocab_size,
            layers=config.encoder.layers,
            template=PassageTemplate(memory.template),
            print_of=print_of,
            tokenizer=None,
            max_tokens=memory.max_tokens,
            run=_compiled(opened, memory.compute_dtype, chosen),
            token_budget=memory.token_budget * len(chosen),
        )

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        raise TypeError("a RETRO's encoder reads chunks of tokens, not texts: see `ragged`")

    def ragged(self, values: npt.NDArray[np.integer], mask: npt.NDArray[np.bool_]) -> Tokens:
        """Chunks with their continuations as ragged tokens.

        Args:
            values: [chunks, 2m], a chunk's tokens from 0 on, its continuation's from m on.
            mask: bool [chunks, 2m], which are tokens: from 0 on, without a gap, since only a document's last
                chunk is short.

        Raises:
            EncoderError: the chunks are of another size than the model's.
            ValueError: there is a gap, or a chunk without a token.
        """
        lengths = mask.sum(axis=1, dtype=np.int64)
        if values.shape[1] != self.max_tokens:
            raise errors.EncoderError(
                f"chunks of {values.shape[1] // 2} tokens for a RETRO of {self.max_tokens // 2}; wanted a "
                f"corpus that was built with --passage-tokens {self.max_tokens // 2}"
            )
        if not (mask == (np.arange(self.max_tokens) < lengths[:, None])).all():
            raise ValueError("a chunk's tokens are not from the first place on, without a gap")
        offsets = np.zeros(len(values) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return Tokens(values[mask].astype(np.int32), offsets, np.zeros(len(values), np.int64))

    def encode_chunks(
        self, values: npt.NDArray[np.integer], mask: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float32]:
        """Memory of a few chunks, [all their tokens, width] float32; arguments as of `ragged`."""
        return encoded(self, self.ragged(values, mask))

    def _planned(self, tokens: Tokens) -> list[batching.Batch]:
        # One shape for all: what a row gives hangs on no other row then, and on nothing but itself. Lengths
        # are the same but at the ends of documents, so shorter rows would save little.
        rows = max(1, self.token_budget // self.max_tokens)
        every = np.arange(len(tokens.lengths))
        return [
            batching.Batch(passages=every[first : first + rows], rows=rows, length=self.max_tokens)
            for first in range(0, len(every), rows)
        ]


def _compiled(opened: RetroFolder, compute_dtype: str, devices: Sequence[jax.Device]) -> Any:
    """The encoder as `inference.compile_memory` gives a T5's: (ids, lengths, dtype, quantize) -> (memory,
    peaks)."""
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from encoders import inference
    from encoders.retro.neighbours import NeighbourEncoder

    config = opened.settings.config
    assert config.encoder is not None
    shared = config.encoder.shared_embedding
    module = NeighbourEncoder(
        config,
        opened.tensor,
        embedding=nnx.Param(jnp.asarray(opened.tensor(names.EMBEDDING), jnp.float32)) if shared else None,
        dtype=jnp.dtype(compute_dtype),
        stored=jnp.dtype(compute_dtype),
    )
    mesh = Mesh(np.array(devices), ("data",))
    whole = NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]
    rows = NamedSharding(mesh, PartitionSpec("data"))  # type: ignore[no-untyped-call]
    graph, state = nnx.split(module)
    state = jax.device_put(state, whole)
    width = 2 * config.chunk_tokens

    @functools.cache
    def program(dtype: Any) -> Any:
        @functools.partial(jax.jit, out_shardings=rows)
        def run(state: Any, ids: Any, lengths: Any, quantize: Any) -> Any:
            real = jnp.arange(ids.shape[1]) < lengths[:, None]
            states = nnx.merge(graph, state)(ids[:, None], real[:, None])[:, 0]
            return inference.memory_and_peaks(states, real, quantize, dtype=dtype)

        return run

    placed: list[Any] = [(None, None)]

    def call(ids: Any, lengths: Any, dtype: Any, quantize: Any = None) -> Any:
        if placed[0][0] is not quantize:
            placed[0] = (quantize, jax.device_put(quantize, whole))
        # jax splits an axis over devices in equal parts only.
        filler = -len(ids) % len(devices)
        ids = np.pad(ids, ((0, filler), (0, width - ids.shape[1])))
        lengths = np.pad(lengths, (0, filler), constant_values=1)
        ids, lengths = jax.device_put((ids, lengths), rows)
        return program(None if quantize is not None else dtype)(state, ids, lengths, placed[0][1])

    return call
