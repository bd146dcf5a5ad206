"""RETRO: a language model that reads the neighbours of the chunks before.

A row of n tokens is l chunks of m. The neighbours of chunk u are encoded to E_u and read by H_u+, the last
token of chunk u and the first m - 1 of chunk u + 1: the first tokens that may know them. At the layers of
`cca_layers`

    h <- h + SelfAttention(norm(h));   h <- h + CCA(norm(h), E);   h <- h + FeedForward(norm(h))

where CCA is attention over the k neighbours' r states as one sequence of k r keys, all neighbours at the same
distances d(i, i') = i - i' + m - 1 for place i of H_u+ and i' of a neighbour. Tokens before the end of chunk
1 read nothing, nor do those of another document than the chunk that asked, nor those whose neighbours are all
absent: what is added to them is exactly zero. Source: Borgeaud et al. 2021, sections 2.3, 2.4 and B.1.2.

E is the norm of what the encoder gives, or of what was stored: a residual stream that has no scale of its
own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from encoders import t5
from encoders.retro import names
from encoders.retro.attention import Attention, Seen, mask_of
from encoders.retro.config import CONDITIONED, RetroConfig
from encoders.retro.language import LanguageModel, Past, causal_mask, nothing_seen, token_documents
from encoders.retro.neighbours import NeighbourEncoder
from encoders.retro.rows import Neighbours, Rows
from encoders.t5 import Drop, TensorSource, keep


class ChunkedCrossAttention(nnx.Module):  # type: ignore[misc]
    """CCA of one layer; see the module's docstring."""

    def __init__(
        self, config: RetroConfig, tensor: TensorSource, number: int, *, dtype: jnp.dtype, stored: jnp.dtype
    ) -> None:
        language, prefix = config.language, names.cca(number)
        self.m = config.chunk_tokens
        self.norm = t5.RMSNorm(tensor(f"{prefix}.norm.weight"), epsilon=language.norm_epsilon)
        self.attention = Attention(
            language,
            tensor,
            f"{prefix}.attention",
            relative=True,
            grouped=False,
            dtype=dtype,
            stored=stored,
        )

    def distances(self, places: int) -> Float[Array, "heads count d_head"] | None:
        """Of the m queries of H_u+ and the places of a neighbour."""
        return self.attention.distances(self.m, places, self.m - 1)

    def __call__(
        self,
        h: Float[Array, "batch tokens d"],
        memory: Float[Array, "chunks neighbours places width"],
        real: Bool[Array, "chunks neighbours places"],
        reads: Bool[Array, "batch chunk m"],
        drop: Drop = keep,
    ) -> Float[Array, "batch tokens d"]:
        """What is added to the residual stream.

        Args:
            h: of whole rows.
            memory: E of all chunks of all rows, one after the other.
            real: False for padding and what is absent.
            reads: which tokens of H_u+ read; see `readers_of`.
        """
        batch, tokens, d = h.shape
        m, (_, k, places, width) = self.m, memory.shape
        chunks = tokens // m
        shifted = jnp.pad(self.norm(h)[:, m - 1 :], ((0, 0), (0, m - 1), (0, 0)))
        seen = self.attention.see(memory.reshape(batch * chunks, k * places, width))
        flat = real.reshape(batch * chunks, 1, k * places)
        found = self.attention(
            shifted.reshape(batch * chunks, m, d),
            seen,
            mask_of(flat),
            self.distances(places),
            drop,
            repeats=k,
        )
        # Where all keys are masked, a softmax is an average of padding: it is left out, not made small.
        reads = reads & flat.any(-1).reshape(batch, chunks, 1)
        found = jnp.where(reads[..., None], found.reshape(batch, chunks, m, d), 0.0)
        return jnp.pad(found.reshape(batch, tokens, d), ((0, 0), (m - 1, 0), (0, 0)))[:, :tokens]


@jax.tree_util.register_dataclass
@dataclass
class Cache:
    """A RETRO's state between two tokens.

    Args:
        past: of each layer of the language model.
        chunk: [batch, m, d] activations of the chunk that is being written, after self-attention of the first
            layer with CCA.
        memory: of each layer with CCA, the neighbours' keys and values that are read now; None with retrieval
            off.
        real: [batch, k * r] of these.
        distances: of each layer with CCA, W_r cos(d), mapped once a text and not once a token.
    """

    past: list[Past]
    chunk: Float[Array, "batch m d"]
    memory: list[Seen] | None
    real: Bool[Array, "batch keys"]
    distances: list[Float[Array, "heads count d_head"] | None]


class Retro(nnx.Module):  # type: ignore[misc]
    """The model; see the module's docstring.

    Args:
        config: its shape.
        tensor: gives each tensor of `names` by name.
        compute_dtype: "float32" or "bfloat16".
        stored_dtype: what kernels are kept in; float32 for training.
    """

    def __init__(
        self,
        config: RetroConfig,
        tensor: TensorSource,
        *,
        compute_dtype: str = "float32",
        stored_dtype: str | None = None,
    ) -> None:
        self.config = config
        self.language = LanguageModel(
            config.language, tensor, compute_dtype=compute_dtype, stored_dtype=stored_dtype
        )
        dtype, stored = jnp.dtype(compute_dtype), jnp.dtype(stored_dtype or compute_dtype)
        kind = {"dtype": dtype, "stored": stored}
        shared = config.encoder is not None and config.encoder.shared_embedding
        self.encoder = (
            NeighbourEncoder(config, tensor, embedding=self.language.embedding if shared else None, **kind)
            if config.encodes
            else None
        )
        self.memory_norm = t5.RMSNorm(tensor(names.MEMORY_NORM), epsilon=config.language.norm_epsilon)
        self.cca = nnx.List(
            [ChunkedCrossAttention(config, tensor, number, **kind) for number in config.cca_layers]
        )

    def __call__(
        self, rows: Rows, neighbours: Neighbours | None = None, drop: Drop = keep
    ) -> Float[Array, "batch tokens vocab"]:
        """Logits of the token that follows each.

        Args:
            rows: of whole chunks.
            neighbours: of all chunks of these; None turns retrieval off, and this is the language model.
            drop: while it trains.
        """
        h = drop(self.language.embed(rows.tokens))
        mask = causal_mask(rows)
        memory = None
        for number, block in enumerate(self.language.blocks, 1):
            h = block.attend(h, mask, drop)
            if neighbours is not None and number in self.config.cca_layers:
                if memory is None:
                    real, _ = token_documents(rows)
                    memory = self.encode(*self._by_chunk(h, real), _flat(neighbours), drop)
                    reads = readers_of(rows, self.config.chunk_tokens)
                    present = jnp.asarray(neighbours.real).reshape(memory.shape[:3])
                attend = self.cca[self.config.cca_layers.index(number)]
                h = h + drop(attend(h, memory, present, reads, drop))
            h = block.feed(h, drop)
        return self.language.logits(h, drop)

    def encode(
        self,
        chunk: Float[Array, "chunks m d"],
        chunk_real: Bool[Array, "chunks m"],
        neighbours: Neighbours,
        drop: Drop = keep,
    ) -> Float[Array, "chunks neighbours places width"]:
        """E of some chunks' neighbours, each [chunks, k, ...].

        Raises:
            ValueError: tokens are given to a model that reads states, or states to one whose encoder has to
                see the chunk that asks.
        """
        if self.encoder is not None and neighbours.tokens is not None:
            real = jnp.asarray(neighbours.real)
            states = self.encoder(jnp.asarray(neighbours.tokens), real, chunk, chunk_real, drop)
        elif neighbours.states is not None and self.config.encoding != CONDITIONED:
            # Of an unconditioned encoder what it gave beforehand: the same as it would now.
            states = jnp.asarray(neighbours.states).astype(jnp.float32)
        else:
            raise ValueError(
                f"a model of encoding {self.config.encoding} reads neighbours' "
                + ("states, and got tokens" if self.encoder is None else "tokens, and got states")
            )
        return self.memory_norm(states)

    def start(self, batch: int, room: int, *, retrieval: bool = True) -> Cache:
        """The state before the first token, with room for `room`; nothing is retrieved yet."""
        config, m = self.config, self.config.chunk_tokens
        keys = config.neighbours * config.neighbour_tokens
        shape = (batch, config.language.heads, keys, config.language.d_head)
        return Cache(
            past=self.language.start(batch, room),
            chunk=jnp.zeros((batch, m, config.language.d_model), jnp.float32),
            memory=[nothing_seen(shape, self.language.dtype) for _ in self.cca] if retrieval else None,
            real=jnp.zeros((batch, keys), bool),
            distances=[one.distances(config.neighbour_tokens) for one in self.cca] if retrieval else [],
        )

    def step(
        self,
        tokens: Int[Array, " batch"],
        at: Int[Array, ""],
        cache: Cache,
        neighbours: Neighbours | None = None,
    ) -> tuple[Float[Array, "batch vocab"], Cache]:
        """Logits after one more token of one document, and the state that has seen it.

        Args:
            tokens: at place `at`.
            at: how many came before.
            cache: of `start`, or of the last step.
            neighbours: at the last token of a chunk, those of this chunk, [batch, k, ...], which are read
                from here on; None at all other tokens.
        """
        layers = self.config.cca_layers
        m, k = self.config.chunk_tokens, self.config.neighbours
        h = self.language.embed(tokens)[:, None]
        past, chunk, memory, real = [], cache.chunk, cache.memory, cache.real
        for number, block in enumerate(self.language.blocks, 1):
            h, seen = self.language.attend_step(number - 1, h, at, cache.past[number - 1])
            past.append(seen)
            if number == layers[0]:
                chunk = lax.dynamic_update_slice_in_dim(chunk, h, at % m, axis=1)
                if neighbours is not None and memory is not None:
                    whole = jnp.ones(chunk.shape[:2], bool)
                    encoded = self.encode(chunk, whole, neighbours)
                    flat = encoded.reshape(encoded.shape[0], -1, encoded.shape[-1])
                    memory = [one.attention.see(flat) for one in self.cca]
                    real = jnp.asarray(neighbours.real).reshape(flat.shape[:2])
            if memory is not None and number in layers:
                which = layers.index(number)
                attend = self.cca[which]
                found = attend.attention(
                    attend.norm(h),
                    memory[which],
                    mask_of(real[:, None]),
                    cache.distances[which],
                    row=(at + 1) % m,
                    rows=m,
                    repeats=k,
                )
                h = h + jnp.where(real.any(-1)[:, None, None], found, 0.0)
            h = block.feed(h)
        return self.language.logits(h)[:, 0], Cache(past, chunk, memory, real, cache.distances)

    def _by_chunk(
        self, h: Float[Array, "batch tokens d"], real: Bool[Array, "batch tokens"]
    ) -> tuple[Float[Array, "chunks m d"], Bool[Array, "chunks m"]]:
        m = self.config.chunk_tokens
        return h.reshape(-1, m, h.shape[-1]), real.reshape(-1, m)


def readers_of(rows: Rows, m: int) -> Bool[Array, "batch chunks m"]:
    """Which tokens of each H_u+ are real and of chunk u's document: those that may read its neighbours."""
    real, documents = token_documents(rows)
    batch, chunks = rows.lengths.shape
    there = jnp.pad(real[:, m - 1 :], ((0, 0), (0, m - 1))).reshape(batch, chunks, m)
    theirs = jnp.pad(documents[:, m - 1 :], ((0, 0), (0, m - 1))).reshape(batch, chunks, m)
    return there & (theirs == jnp.asarray(rows.documents)[:, :, None])


def _flat(neighbours: Neighbours) -> Neighbours:
    """Of all chunks of all rows, one after the other."""
    return cast(Neighbours, jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), neighbours))
