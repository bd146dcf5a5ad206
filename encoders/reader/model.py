"""The reader: memory of k passages and a question in, an answer out.

    H_i = [MemEnc(Q); MemEnc(P_i)];   H'_i = LiveA(H_i);   R = the m best by Score(H'_i)
    answer = Dec([LiveB(R_1); ...; LiveB(R_m)])

With α = 1 nothing is memory and this is FiD; with α = 0 nothing is live and it is MemoryFiD; without a
score (β none) all passages are read, and it is LUMEN. Source: PAPERS: The reader family.

The question stands right-aligned before the passage, so that a real token's place in a pair never hangs
on padding: relative positions are those of the two texts written one after the other, and FiD is T5 on
[question; passage]. Padding, absent passages (of length 0), and the other passages change nothing of a
pair's states or score.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from encoders import t5, weights
from encoders.quantizing import CoderLike
from encoders.reader.codes import Codes
from encoders.reader.config import FIRST, SEPARATE, ReaderConfig
from encoders.reader.decoder import T5Decoder
from encoders.reader.names import LIVE_BIAS, QUESTION, SCORE_BIAS, SCORE_NORM, SCORE_WEIGHT
from encoders.t5 import Block, Drop, RMSNorm, T5Encoder, TensorSource, keep


@jax.tree_util.register_dataclass
@dataclass
class Pairs:
    """The states of questions with their passages.

    Args:
        h: [batch, passages, tokens, d] float32; tokens of the question, right-aligned, then of the passage.
        real: False where a token is padding or its passage is absent.
        first: [batch], where the question begins.
    """

    h: Float[Array, "batch passages tokens d"]
    real: Bool[Array, "batch passages tokens"]
    first: Int[Array, " batch"]

    @property
    def present(self) -> Bool[Array, "batch passages"]:
        """Which passages are there."""
        return self.real.any(-1)

    def taken(self, rows: Int[Array, "batch selected"]) -> Pairs:
        """The passages `rows` of each question."""
        return Pairs(
            jnp.take_along_axis(self.h, rows[:, :, None, None], axis=1),
            jnp.take_along_axis(self.real, rows[:, :, None], axis=1),
            self.first,
        )

    def fused(self) -> tuple[Float[Array, "batch keys d"], Bool[Array, "batch keys"]]:
        """The states of all passages of a question one after the other, and which are real."""
        batch, passages, tokens, d = self.h.shape
        return self.h.reshape(batch, passages * tokens, d), self.real.reshape(batch, passages * tokens)


class LiveEncoder(nnx.Module):  # type: ignore[misc]
    """The last αL layers of the encoder, with a relative-position table of their own."""

    def __init__(
        self, config: ReaderConfig, tensor: TensorSource, *, dtype: jnp.dtype, stored: jnp.dtype
    ) -> None:
        self.t5 = config.t5
        layers = range(config.memory_layers, config.t5.layers)
        kind = {"dtype": dtype, "stored": stored}
        self.blocks = nnx.List([Block(config.t5, tensor, layer, **kind) for layer in layers])
        # Begun as a copy of T5's one table; training leaves the memory encoder's, and what is stored, alone.
        self.relative_bias = nnx.Param(jnp.asarray(tensor(LIVE_BIAS), jnp.float32))
        self.final_norm = RMSNorm(tensor(weights.FINAL_NORM), epsilon=config.t5.norm_epsilon)

    def __call__(self, pairs: Pairs, begin: int, end: int, drop: Drop = keep) -> Pairs:
        """Layers begin to end of the live ones on every pair, the final norm after the very last."""
        if begin == end:
            return pairs
        batch, passages, tokens, d = pairs.h.shape
        rows = t5.relative_position_buckets(
            tokens, buckets=self.t5.relative_buckets, max_distance=self.t5.relative_max_distance
        )
        real = pairs.real.reshape(batch * passages, tokens)
        bias = t5.masked_bias(self.relative_bias[...], rows, real)
        h = pairs.h.reshape(batch * passages, tokens, d)
        for block in self.blocks[begin:end]:
            h = block(h, bias, drop)
        if end == len(self.blocks):
            h = drop(self.final_norm(h))
        return Pairs(h.reshape(pairs.h.shape), pairs.real, pairs.first)


class ScoreHead(nnx.Module):  # type: ignore[misc]
    """A linear score of a pair, of its first token or of the mean of its tokens, after an RMS norm.

    The norm is ours: the residual stream between two layers has no scale of its own.
    Source: GLIMMER (de Jong et al. 2023), section 3.
    """

    def __init__(self, config: ReaderConfig, tensor: TensorSource) -> None:
        self.pooling = config.pooling
        self.norm = RMSNorm(tensor(SCORE_NORM), epsilon=config.t5.norm_epsilon)
        self.weight = nnx.Param(jnp.asarray(tensor(SCORE_WEIGHT), jnp.float32))
        self.bias = nnx.Param(jnp.asarray(tensor(SCORE_BIAS), jnp.float32))

    def __call__(self, pairs: Pairs) -> Float[Array, "batch passages"]:
        """Scores, -inf for absent passages."""
        if self.pooling == FIRST:
            at = jnp.broadcast_to(pairs.first[:, None, None, None], (*pairs.h.shape[:2], 1, 1))
            pooled = jnp.take_along_axis(pairs.h, at, axis=2)[:, :, 0]
        else:
            real = pairs.real[..., None]
            pooled = jnp.where(real, pairs.h, 0.0).sum(2) / jnp.maximum(real.sum(2), 1)
        # As a sum, not a product of matrices: in float32 on every backend.
        scores = jnp.sum(self.norm(pooled) * self.weight[...], axis=-1) + self.bias[...]
        return jnp.where(pairs.present, scores, -jnp.inf)


class Reader(nnx.Module):  # type: ignore[misc]
    """One reader of the family; see the module's docstring.

    Args:
        config: which.
        tensor: gives each tensor by name, as `encoders.reader.folder` finds it.
        compute_dtype: "float32", or "bfloat16" for the kernels and what meets them.
        stored_dtype: what kernels are kept in; float32 for training.
        memory_dtype: memory is rounded to this, as a store does, also where it is computed from text.
        coder: the store's; memory computed from text is coded and decoded by it. None: it is rounded alone.

    Raises:
        ValueError: a coder for a reader without memory, or of another width.
    """

    def __init__(
        self,
        config: ReaderConfig,
        tensor: TensorSource,
        *,
        compute_dtype: str = "bfloat16",
        stored_dtype: str | None = None,
        memory_dtype: str = "bfloat16",
        coder: CoderLike | None = None,
    ) -> None:
        if coder is not None and not (config.memory_layers and coder.width == config.t5.d_model):
            raise ValueError(f"codec {coder.codec.name} of width {coder.width} for {config.system}")
        self.config = config
        self.codes = None if coder is None else Codes(coder)
        self.memory_dtype = jnp.dtype(memory_dtype)
        stored_dtype = stored_dtype or compute_dtype
        kind = {"compute_dtype": compute_dtype, "stored_dtype": stored_dtype}
        self.memory_encoder = T5Encoder(config.t5, tensor, layers=config.memory_layers, **kind)
        self.question_encoder = (
            T5Encoder(config.t5, lambda name: tensor(QUESTION + name), layers=config.memory_layers, **kind)
            if config.question_encoder == SEPARATE
            else None
        )
        dtype, stored = jnp.dtype(compute_dtype), jnp.dtype(stored_dtype)
        self.live = LiveEncoder(config, tensor, dtype=dtype, stored=stored) if config.live_layers else None
        self.score = ScoreHead(config, tensor) if config.reranks else None
        self.decoder = T5Decoder(
            config.t5,
            tensor,
            layers=config.decoder_layers,
            # Of what reads the question: that learns, where a memory encoder beside it may be frozen.
            embedding=(self.question_encoder or self.memory_encoder).embedding,
            **kind,
        )

    def remember(
        self,
        ids: Int[Array, "batch passages tokens"],
        lengths: Int[Array, "batch passages"],
        drop: Drop = keep,
    ) -> Float[Array, "batch passages tokens d"]:
        """The memory of passages, as a store would give it.

        Args:
            ids: of each passage, left-aligned.
            lengths: real tokens of each; 0 where a passage is absent.
        """
        return self.as_stored(self.states(ids, lengths, drop))

    def states(
        self,
        ids: Int[Array, "batch passages tokens"],
        lengths: Int[Array, "batch passages"],
        drop: Drop = keep,
    ) -> Float[Array, "batch passages tokens d"]:
        """What the memory encoder makes of passages, before a store has it; arguments as of `remember`."""
        flat = ids.reshape(-1, ids.shape[-1])
        # A row without tokens is computed as one of a single token, and masked later.
        memory = self.memory_encoder(flat, jnp.maximum(lengths.reshape(-1), 1), drop)
        return memory.reshape(*ids.shape, -1)

    def as_stored(self, states: Float[Array, "*rows d"]) -> Float[Array, "*rows d"]:
        """States as a store gives them back, in float32."""
        # FiD stores nothing, and rounds nothing.
        if not self.config.memory_layers:
            return states
        if self.codes is not None:
            return self.codes(states)
        return states.astype(self.memory_dtype).astype(jnp.float32)

    def pair(
        self,
        questions: Int[Array, "batch question_tokens"],
        question_lengths: Int[Array, " batch"],
        memory: Float[Array, "batch passages tokens d"],
        lengths: Int[Array, "batch passages"],
        drop: Drop = keep,
    ) -> Pairs:
        """H_i = [MemEnc(Q); MemEnc(P_i)].

        Args:
            questions: token ids, left-aligned.
            question_lengths: real tokens of each question, at least 1.
            memory: of `remember`, or fetched from a store.
            lengths: real tokens of each passage; 0 where it is absent.
        """
        encoder = self.question_encoder or self.memory_encoder
        asked = encoder(questions, question_lengths, drop)
        width, tokens = questions.shape[1], memory.shape[2]
        first = width - question_lengths
        # Turned to the right by its padding, which comes to stand before the question.
        shifted = (jnp.arange(width) - first[:, None]) % width
        asked = jnp.take_along_axis(asked, shifted[:, :, None], axis=1)
        # Encoded once, it stands before each of its passages.
        asked = jnp.broadcast_to(asked[:, None], (memory.shape[0], memory.shape[1], width, asked.shape[-1]))
        present = lengths[:, :, None] > 0
        real = jnp.concatenate(
            [
                # Of an absent passage the question is masked as well: a pair is there if anything of it is
                # real.
                present & (jnp.arange(width) >= first[:, None])[:, None],
                jnp.arange(tokens) < lengths[:, :, None],
            ],
            axis=2,
        )
        return Pairs(jnp.concatenate([asked, memory.astype(jnp.float32)], axis=2), real, first)

    def rank(self, pairs: Pairs, drop: Drop = keep) -> tuple[Pairs, Float[Array, "batch passages"] | None]:
        """H'_i = LiveA(H_i), and its score; None for a reader that scores none."""
        if self.score is None:
            return pairs, None
        if self.live is not None:
            pairs = self.live(pairs, 0, self.config.rerank_layers, drop)
        return pairs, self.score(pairs)

    def finish(self, pairs: Pairs, drop: Drop = keep) -> Pairs:
        """LiveB on pairs that `rank` has seen."""
        if self.live is None:
            return pairs
        return self.live(pairs, self.config.rerank_layers, self.config.live_layers, drop)

    def read(
        self, pairs: Pairs, *, selected: int | None = None, drop: Drop = keep
    ) -> tuple[Pairs, Int[Array, "batch selected"] | None, Float[Array, "batch passages"] | None]:
        """What the decoder reads of H: the m best passages, or all; which they are; the scores of all.

        Args:
            pairs: of `pair`.
            selected: m, static. All passages if None; a reader that scores none takes no other.

        Raises:
            ValueError: m is given to a reader that scores none, or is not in 1..k.
        """
        passages = pairs.h.shape[1]
        if selected is not None and (self.score is None or not 1 <= selected <= passages):
            raise ValueError(
                f"{selected} of {passages} passages cannot be selected"
                + ("; this reader scores none" if self.score is None else "")
            )
        pairs, scores = self.rank(pairs, drop)
        chosen = None
        if scores is not None and selected is not None:
            chosen = select(scores, selected)
            pairs = pairs.taken(chosen)
        return self.finish(pairs, drop), chosen, scores


def select(scores: Float[Array, "batch passages"], selected: int) -> Int[Array, "batch selected"]:
    """The best `selected` passages of each question, in their given order; ties go to the earlier.

    In their given order, not by score: with m = k nothing moves, and the sums of attention come out to
    the bit as those of a reader that selects none.
    """
    _, rows = lax.top_k(scores, selected)
    return jnp.sort(rows, axis=1)
