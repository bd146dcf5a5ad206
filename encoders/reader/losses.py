"""What a reader is trained on: the answer's tokens, and perplexity distillation of its scores."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from encoders.reader.examples import Rows
from encoders.reader.greedy import START
from encoders.reader.model import Pairs, Reader, select
from encoders.t5 import Drop, keep


def inputs_of(targets: Int[Rows, "batch tokens"]) -> Int[Array, "batch tokens"]:
    """What the decoder is given for these targets: the start token, then all of them but the last."""
    return jnp.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=START)


def answer_log_probability(
    logits: Float[Array, "*batch tokens vocab"],
    targets: Int[Rows, "*batch tokens"],
    lengths: Int[Rows, " *batch"],
) -> Float[Array, " *batch"]:
    """log p(answer): the sum over its tokens, EOS included."""
    each = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), targets[..., None], axis=-1)[..., 0]
    return jnp.where(jnp.arange(targets.shape[-1]) < lengths[..., None], each, 0.0).sum(-1)


def passage_log_probabilities(
    reader: Reader,
    ranked: Pairs,
    targets: Int[Rows, "batch tokens"],
    lengths: Int[Rows, " batch"],
) -> Float[Array, "batch passages"]:
    """log p_LM(answer | passage_i alone, Q) for each of k passages; no gradient passes through it.

    Args:
        reader: whose live encoder B and decoder judge.
        ranked: H' of all k passages.
        targets, lengths: the answers.

    Source: PAPERS: Training (perplexity distillation); Izacard et al. 2022 (Atlas), section 2.2.
    """
    frozen = jax.tree.map(lax.stop_gradient, ranked)
    pairs = reader.finish(frozen)
    batch, passages, tokens, d = pairs.h.shape
    # Every passage is a batch row of its own, which the decoder reads alone; answers are repeated to match.
    again = jnp.repeat(targets, passages, axis=0)
    logits = reader.decoder(
        inputs_of(again),
        pairs.h.reshape(batch * passages, tokens, d),
        pairs.real.reshape(batch * passages, tokens),
    )
    found = answer_log_probability(logits, again, jnp.repeat(lengths, passages))
    return lax.stop_gradient(found.reshape(batch, passages))


def distillation(
    scores: Float[Array, "batch passages"],
    log_probabilities: Float[Array, "batch passages"],
    present: Bool[Array, "batch passages"],
    *,
    temperature: float,
) -> Float[Array, " batch"]:
    """KL(p_LM || p_rank) of each question, over the passages that are there.

        p_rank = softmax(score / τ);   p_LM = softmax(log p_LM(answer | passage_i alone, Q) / τ)
        KL(p_LM || p_rank) = Σ_i p_LM_i (log p_LM_i - log p_rank_i)

    p_LM is the target, as in Atlas, which GLIMMER takes this loss from and writes as KL(p_rank, p_LM). The
    other way round it has no bound: log p_LM of a passage that tells nothing may be -50, and the score of
    an untrained reader would outweigh its answers.

    Source: PAPERS: Training; GLIMMER (de Jong et al. 2023), section 3; Izacard et al. 2022 (Atlas),
    section 2.2.
    """
    # The lowest float instead of -inf keeps gradients finite.
    lowest = float(np.finfo(np.float32).min)
    rank = jax.nn.log_softmax(jnp.where(present, scores / temperature, lowest), axis=-1)
    judged = jax.nn.log_softmax(
        jnp.where(present, lax.stop_gradient(log_probabilities) / temperature, lowest), axis=-1
    )
    each = jnp.where(present, jnp.exp(judged) * (judged - rank), 0.0)
    return each.sum(-1)


def losses(
    reader: Reader,
    pairs: Pairs,
    targets: Int[Rows, "batch tokens"],
    lengths: Int[Rows, " batch"],
    *,
    selected: int | None,
    temperature: float | None,
    drop: Drop = keep,
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """-log p(answer) of each question, and its distillation; both are to be averaged by the caller.

    Args:
        reader: the model.
        pairs: H of the questions with their k passages.
        targets, lengths: the answers, EOS included.
        selected: m, or None for all.
        temperature: τ of the distillation; None leaves it out (zeros).
        drop: of the pass that learns; the judge p_LM drops nothing.
    """
    ranked, scores = reader.rank(pairs, drop)
    kept = ranked
    if scores is not None and selected is not None:
        kept = ranked.taken(select(scores, selected))
    fused = reader.finish(kept, drop).fused()
    logits = reader.decoder(inputs_of(targets), *fused, drop)
    answer = -answer_log_probability(logits, targets, lengths)
    if scores is None or temperature is None:
        return answer, jnp.zeros_like(answer)
    # Of all k, not of the m that were read: the score must learn of those, too, that it has left out.
    judged = passage_log_probabilities(reader, ranked, targets, lengths)
    return answer, distillation(scores, judged, pairs.present, temperature=temperature)
