"""Training steps of a reader: gradients over micro-batches, Adafactor, data-parallel over devices."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray

from encoders import errors, optimizers
from encoders.reader import losses
from encoders.reader.codes import Table, Taken
from encoders.reader.dropout import Dropout
from encoders.reader.examples import Examples
from encoders.reader.model import Reader
from encoders.t5_config import require_seed

FROZEN, TRAINED = "frozen", "trained"
MEMORY_ENCODERS = (FROZEN, TRAINED)

# Beyond the places at which dropout draws.
_DRAWN: Final = 1 << 20

# Of a micro-batch: its shares of the loss, and what codes its tokens took where codes follow them.
Told = tuple[Float[Array, "3"], Taken | None]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a reader is trained.

    Args:
        memory_encoder: "trained" (GLIMMER; FiD has none), or "frozen" (LUMEN): what is stored stays valid.
        selected: m while it trains, or None for a reader that scores none. More than are read later, up to k,
            let it go on learning to answer while its score still picks at random.
        learning_rate: constant, after the warm-up.
        warmup: steps over which it rises from 0; for models that were never trained.
        batch: questions of a step.
        micro_batch: questions of one pass; as many passes as needed make a step.
        dropout: rate, everywhere T5 has it.
        distillation: weight of perplexity distillation; 0 leaves it out.
        temperature: τ of the distillation.
        code_decay: γ, of the averages that codebooks follow a trained memory encoder by; see
            `encoders.reader.codes`.
        seed: of dropout and of the order of questions.

    Raises:
        EncoderError: one is out of range.

    Source: PAPERS: Training.
    """

    memory_encoder: str = TRAINED
    selected: int | None = None
    learning_rate: float = 1e-4
    warmup: int = 0
    batch: int = 128
    micro_batch: int = 128
    dropout: float = 0.1
    distillation: float = 1.0
    temperature: float = 1.0
    code_decay: float = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        if self.memory_encoder not in MEMORY_ENCODERS:
            raise errors.EncoderError(
                f"memory_encoder is {self.memory_encoder!r}, wanted {' or '.join(MEMORY_ENCODERS)}"
            )
        require_seed(self.seed)
        if not 0 < self.learning_rate < math.inf:
            raise errors.EncoderError(f"learning_rate is {self.learning_rate}, wanted a positive number")
        if self.warmup < 0:
            raise errors.EncoderError(f"warmup is {self.warmup}, wanted 0 or more steps")
        if self.batch < 1 or self.micro_batch < 1 or self.batch % self.micro_batch:
            raise errors.EncoderError(
                f"a batch of {self.batch} is no whole number of micro-batches of {self.micro_batch}"
            )
        if not 0 <= self.dropout < 1:
            raise errors.EncoderError(f"dropout is {self.dropout}, wanted 0 or more and below 1")
        if not self.distillation >= 0 or not self.temperature > 0:
            raise errors.EncoderError(
                f"distillation has weight {self.distillation} and temperature {self.temperature}, wanted a "
                "weight of 0 or more and a positive temperature"
            )
        if not 0 <= self.code_decay < 1:
            raise errors.EncoderError(f"code_decay is {self.code_decay}, wanted 0 or more and below 1")


@jax.tree_util.register_dataclass
@dataclass
class TrainingState:
    """All that a step changes; what a checkpoint holds.

    Args:
        weights: those that are trained.
        optimizer: its state.
        step: steps that were made.
        codes: what a codec in the reader computes with; None or empty without one.
    """

    weights: nnx.State
    optimizer: Any
    step: Int[Array, ""]
    codes: nnx.State | None = None


class Trainer:
    """A reader and its optimizer.

    Args:
        reader: with kernels stored in float32; its weights are copied.
        settings: how it is trained.
        devices: the batch is split over them; all local ones if not given.

    Raises:
        EncoderError: a micro-batch is not divisible by the devices, or m does not go with the reader.
    """

    def __init__(
        self, reader: Reader, settings: TrainingSettings, *, devices: Sequence[jax.Device] | None = None
    ) -> None:
        if reader.score is None and settings.selected is not None:
            raise errors.EncoderError(f"{settings.selected} passages selected by a reader that scores none")
        devices = list(devices or jax.local_devices())
        if settings.micro_batch % len(devices):
            raise errors.EncoderError(
                f"a micro-batch of {settings.micro_batch} is no multiple of {len(devices)} devices"
            )
        self.settings = settings
        frozen = _frozen_paths(reader) if settings.memory_encoder == FROZEN else frozenset()
        # Codes follow what moves; a frozen encoder's states stay where the codes were trained on them.
        self._follows = (
            reader.codes is not None and reader.codes.follows and settings.memory_encoder == TRAINED
        )
        self._graph, codes, trained, kept = nnx.split(reader, Table, lambda path, _: path not in frozen, ...)
        mesh = Mesh(np.array(devices), ("data",))
        replicated = NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]
        self._split = NamedSharding(mesh, PartitionSpec("data"))  # type: ignore[no-untyped-call]
        self._kept = jax.device_put(kept, replicated)
        self._optimizer = optimizers.adafactor(settings.learning_rate, warmup=settings.warmup)
        # A copy: steps give these buffers away, and the caller's reader is to stay as it is.
        trained = jax.tree.map(jnp.copy, jax.device_put(trained, replicated))
        # Placed as a step leaves it: otherwise the second step would compile everything again.
        codes = jax.tree.map(jnp.copy, jax.device_put(codes, replicated))
        begun = TrainingState(trained, self._optimizer.init(trained), jnp.int32(0), codes)
        self.state = jax.device_put(begun, replicated)
        self._gradients = jax.jit(self._gradients_of, out_shardings=replicated)
        self._add = jax.jit(partial(jax.tree.map, jnp.add), donate_argnums=0)
        self._norm = jax.jit(optimizers.global_norm)
        self._update = jax.jit(self._updated, donate_argnums=0, out_shardings=replicated)

    @property
    def reader(self) -> Reader:
        """The reader with the weights of now; the next step takes them away from it."""
        return cast(Reader, nnx.merge(self._graph, self.state.codes, self.state.weights, self._kept))

    def step(self, examples: Examples) -> dict[str, float]:
        """One step on `settings.batch` questions.

        Returns:
            Means over the questions: "loss", what is minimized; "answer", -log p of an answer's token;
            "distillation"; and "gradient_norm".

        Raises:
            ValueError: another number of questions.
            DivergedError: the loss is not finite; the state is as before the step.
        """
        settings = self.settings
        if examples.size != settings.batch:
            raise ValueError(f"{examples.size} questions, wanted a batch of {settings.batch}")
        # Totals of the whole batch, by which every micro-batch divides its sums: so gradients of
        # micro-batches add up to that of the batch, however it is cut and however long their answers are.
        tokens = max(int(np.sum(examples.target_lengths)), 1)
        questions = max(int(np.sum(np.asarray(examples.target_lengths) > 0)), 1)
        # From the seed, the step and the micro-batch alone: a run that is resumed drops what it would have
        # dropped.
        key = jax.random.fold_in(jax.random.key(settings.seed, impl="rbg"), self.state.step)
        gradients: nnx.State | None = None
        taken: Taken | None = None
        totals = np.zeros(3)
        for place, begin in enumerate(range(0, settings.batch, settings.micro_batch)):
            rows = examples.rows(begin, begin + settings.micro_batch)
            rows = jax.device_put(rows, self._split)
            found, (parts, coded) = self._gradients(
                self.state.weights,
                self.state.codes,
                self._kept,
                rows,
                jax.random.fold_in(key, place),
                jnp.float32(tokens),
                jnp.float32(questions),
            )
            gradients = found if gradients is None else self._add(gradients, found)
            taken = coded if taken is None or coded is None else taken.plus(coded)
            totals += np.asarray(parts)
        norm = float(self._norm(gradients))
        if not np.isfinite([*totals, norm]).all():
            step = int(self.state.step)
            raise errors.DivergedError(
                f"the loss is {totals[0]} and its gradient's norm {norm} at step {step}; "
                # Before the first step nothing has learned anything.
                + ("take a smaller learning rate" if step else "are the weights whole?")
            )
        self.state = self._update(self.state, gradients, taken)
        return {
            "loss": float(totals[0]),
            "answer": float(totals[1]),
            "distillation": float(totals[2]),
            "gradient_norm": norm,
        }

    def _gradients_of(
        self,
        weights: nnx.State,
        codes: nnx.State,
        kept: nnx.State,
        examples: Examples,
        key: PRNGKeyArray,
        tokens: Float[Array, ""],
        questions: Float[Array, ""],
    ) -> tuple[nnx.State, Told]:
        """Gradients of this micro-batch's share of the loss, the shares themselves, and the codes taken."""
        settings = self.settings

        def loss_of(weights: nnx.State) -> tuple[Float[Array, ""], Told]:
            reader = nnx.merge(self._graph, codes, weights, kept)
            drop = Dropout(key, settings.dropout)
            memory, taken = examples.passages, None
            if memory.ndim == 3:
                # A frozen encoder's memory is what the store holds: nothing of it is dropped.
                quiet = settings.memory_encoder == FROZEN
                states = (
                    reader.states(memory, examples.lengths)
                    if quiet
                    else reader.states(memory, examples.lengths, drop)
                )
                memory = reader.as_stored(states)
                if self._follows:
                    real = jnp.arange(states.shape[2]) < examples.lengths[:, :, None]
                    drawn = jax.random.fold_in(key, _DRAWN)
                    taken = reader.codes.taken(states.reshape(-1, states.shape[-1]), real.reshape(-1), drawn)
            pairs = reader.pair(examples.questions, examples.question_lengths, memory, examples.lengths, drop)
            answer, distilled = losses.losses(
                reader,
                pairs,
                examples.targets,
                examples.target_lengths,
                selected=settings.selected,
                temperature=settings.temperature if settings.distillation else None,
                drop=drop,
            )
            # A question without an answer fills up a batch, and teaches nothing.
            counted = examples.target_lengths > 0
            answer_loss = jnp.where(counted, answer, 0.0).sum() / tokens
            distillation_loss = jnp.where(counted, distilled, 0.0).sum() / questions
            loss = answer_loss + settings.distillation * distillation_loss
            return loss, (jnp.stack([loss, answer_loss, distillation_loss]), taken)

        return cast("tuple[nnx.State, Told]", jax.grad(loss_of, has_aux=True)(weights))

    def _updated(self, state: TrainingState, gradients: nnx.State, taken: Taken | None) -> TrainingState:
        updates, optimizer = self._optimizer.update(gradients, state.optimizer, state.weights)
        codes = state.codes
        if taken is not None:
            reader = nnx.merge(self._graph, codes, state.weights, self._kept)
            reader.codes.followed(taken, self.settings.code_decay)
            codes = nnx.state(reader, Table)
        weights = optimizers.apply_updates(state.weights, updates)
        return TrainingState(weights, optimizer, state.step + 1, codes)


def _frozen_paths(reader: Reader) -> frozenset[tuple[Hashable, ...]]:
    """Paths, in the state of the whole reader, of the memory encoder's weights.

    By identity: the decoder shares an embedding, which has one path, and it may begin with "decoder".
    """
    encoder = {id(leaf) for leaf in _parameters(reader.memory_encoder).values()}
    return frozenset(path for path, leaf in _parameters(reader).items() if id(leaf) in encoder)


def _parameters(module: nnx.Module) -> dict[tuple[Hashable, ...], nnx.Param]:
    return {path: node for path, node in nnx.iter_graph(module) if isinstance(node, nnx.Param)}
