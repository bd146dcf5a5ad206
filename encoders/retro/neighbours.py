"""The neighbours' encoder: bidirectional, a few layers, in the first of which it may see the chunk that
asked.

For a neighbour with its continuation, r tokens, and H_u the chunk's activations:

    E <- E + Attention(norm(E));  E <- E + CrossAttention(norm(E), norm(H_u)) in layer 1;  E <- E +
    FeedForward(norm(E))

with distances d(i', i) = i' - i between a place i' of the neighbour and i of the chunk. The norm of H_u,
which is a residual stream, is ours. Source: Borgeaud et al. 2021, section 2.4, Algorithm 1 and section B.1.2
(P_enc = [1]).
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from encoders import t5
from encoders.retro import names
from encoders.retro.attention import Attention, Block, Seen, mask_of
from encoders.retro.config import CONDITIONED, RetroConfig
from encoders.t5 import Drop, TensorSource, keep


class ChunkAttention(nnx.Module):  # type: ignore[misc]
    """Cross-attention of a neighbour to the chunk that asked."""

    def __init__(
        self, config: RetroConfig, tensor: TensorSource, *, dtype: jnp.dtype, stored: jnp.dtype
    ) -> None:
        assert config.encoder is not None
        shape = config.encoder.as_language(config.language.vocab_size)
        prefix = names.encoder_layer(0)
        self.norm = t5.RMSNorm(tensor(f"{prefix}.cross_layernorm.weight"), epsilon=shape.norm_epsilon)
        self.chunk_norm = t5.RMSNorm(tensor(names.CHUNK_NORM), epsilon=shape.norm_epsilon)
        self.attention = Attention(
            shape, tensor, f"{prefix}.cross_attn", relative=True, dtype=dtype, stored=stored
        )

    def __call__(
        self,
        e: Float[Array, "rows places width"],
        chunk: Float[Array, "chunks tokens d"],
        real: Bool[Array, "chunks tokens"],
        drop: Drop = keep,
    ) -> Float[Array, "rows places width"]:
        table = self.attention.distances(e.shape[1], chunk.shape[1])
        k = e.shape[0] // chunk.shape[0]
        # Keys and values once a chunk, for all its neighbours.
        one = self.attention.see(self.chunk_norm(chunk))
        seen = Seen(jnp.repeat(one.keys, k, axis=0), jnp.repeat(one.values, k, axis=0))
        mask = mask_of(jnp.repeat(real, k, axis=0)[:, None])
        return e + drop(self.attention(self.norm(e), seen, mask, table, drop))


class NeighbourEncoder(nnx.Module):  # type: ignore[misc]
    """The encoder; see the module's docstring.

    Args:
        config: with an encoder.
        tensor: gives each tensor by name.
        embedding: the language model's, to share; None for one of its own.
    """

    def __init__(
        self,
        config: RetroConfig,
        tensor: TensorSource,
        *,
        embedding: nnx.Param | None,
        dtype: jnp.dtype,
        stored: jnp.dtype,
    ) -> None:
        assert config.encoder is not None
        shape = config.encoder.as_language(config.language.vocab_size)
        kind = {"dtype": dtype, "stored": stored}
        self.embedding = (
            nnx.Param(jnp.asarray(tensor(names.ENCODER_EMBEDDING), jnp.float32))
            if embedding is None
            else embedding
        )
        self.blocks = nnx.List(
            [Block(shape, tensor, names.encoder_layer(number), **kind) for number in range(shape.layers)]
        )
        self.chunk = ChunkAttention(config, tensor, **kind) if config.encoding == CONDITIONED else None

    def __call__(
        self,
        tokens: Int[Array, "chunks neighbours places"],
        real: Bool[Array, "chunks neighbours places"],
        chunk: Float[Array, "chunks tokens d"] | None = None,
        chunk_real: Bool[Array, "chunks tokens"] | None = None,
        drop: Drop = keep,
    ) -> Float[Array, "chunks neighbours places width"]:
        """The states of neighbours; those of padding are meaningless.

        Args:
            tokens: of each chunk's neighbours.
            real: False for padding.
            chunk: H_u, activations of the chunk that asked; an encoder that is not conditioned needs none.
            chunk_real: False where the chunk has no token.
        """
        chunks, k, places = tokens.shape
        mask = mask_of(real.reshape(chunks * k, 1, places))
        e = drop(self.embedding[...][tokens.reshape(chunks * k, places)])
        for number, block in enumerate(self.blocks):
            e = block.attend(e, mask, drop)
            if number == 0 and self.chunk is not None:
                assert chunk is not None
                assert chunk_real is not None
                e = self.chunk(e, chunk, chunk_real, drop)
            e = block.feed(e, drop)
        return e.reshape(chunks, k, places, -1)
