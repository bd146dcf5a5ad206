"""Training steps of a RETRO: gradients over micro-batches, AdamW, data-parallel over devices."""

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
from jaxtyping import Array, Float, PRNGKeyArray

from encoders import errors, optimizers
from encoders.reader.dropout import Dropout
from encoders.reader.training import TrainingState
from encoders.retro.loss import token_losses
from encoders.retro.model import Retro
from encoders.retro.rows import Neighbours, Rows
from encoders.t5_config import require_seed

# What learns: everything, what RETRO has beyond its language model (RETRO-fit), or the language model alone.
ALL, RETRIEVAL, LANGUAGE = "all", "retrieval", "language"
LEARNS: Final = (ALL, RETRIEVAL, LANGUAGE)


@dataclass(frozen=True, kw_only=True)
class RetroTraining:
    """How a RETRO is trained.

    Args:
        learns: "all", from scratch; "retrieval", RETRO-fit onto a frozen language model; or "language",
            without retrieval: the baseline.
        steps: how many.
        learning_rate: the highest; it rises from 0 and falls by a cosine to a tenth.
        warmup: steps of rising.
        batch: rows of a step.
        micro_batch: rows of one pass.
        dropout: rate.
        weight_decay: of matrices.
        clip: the largest norm of a gradient.
        seed: of dropout, of the order of rows, and of weights that are drawn.

    Raises:
        EncoderError: one is out of range.

    Source: Borgeaud et al. 2021, section C.1 and Table 10.
    """

    learns: str = ALL
    steps: int
    learning_rate: float = 2e-4
    warmup: int = 750
    batch: int = 256
    micro_batch: int = 256
    dropout: float = 0.0
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.learns not in LEARNS:
            raise errors.EncoderError(f"learns is {self.learns!r}, wanted one of {', '.join(LEARNS)}")
        if self.steps < 1 or self.warmup < 0:
            raise errors.EncoderError(
                f"{self.steps} steps and a warm-up of {self.warmup}, wanted 1 or more and 0 or more"
            )
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise errors.EncoderError(f"{name} is {getattr(self, name)}, wanted a positive number")
        if not 0 <= self.weight_decay < math.inf:
            raise errors.EncoderError(f"weight_decay is {self.weight_decay}, wanted 0 or more")
        if self.batch < 1 or self.micro_batch < 1 or self.batch % self.micro_batch:
            raise errors.EncoderError(
                f"a batch of {self.batch} is no whole number of micro-batches of {self.micro_batch}"
            )
        if not 0 <= self.dropout < 1:
            raise errors.EncoderError(f"dropout is {self.dropout}, wanted 0 or more and below 1")
        require_seed(self.seed)


class RetroTrainer:
    """A RETRO and its optimizer.

    Args:
        model: with kernels stored in float32; its weights are copied.
        settings: how it is trained.
        devices: rows are split over them; all local ones if not given.

    Raises:
        EncoderError: a micro-batch is not divisible by the devices.
    """

    def __init__(
        self, model: Retro, settings: RetroTraining, *, devices: Sequence[jax.Device] | None = None
    ) -> None:
        devices = list(devices or jax.local_devices())
        if settings.micro_batch % len(devices):
            raise errors.EncoderError(
                f"a micro-batch of {settings.micro_batch} is no multiple of {len(devices)} devices"
            )
        self.settings = settings
        frozen = _frozen_paths(model, settings.learns)
        self._graph, trained, kept = nnx.split(model, lambda path, _: path not in frozen, ...)
        mesh = Mesh(np.array(devices), ("data",))
        replicated = NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]
        self._split = NamedSharding(mesh, PartitionSpec("data"))  # type: ignore[no-untyped-call]
        self._kept = jax.device_put(kept, replicated)
        self._optimizer = optimizers.adamw(
            settings.learning_rate,
            warmup=settings.warmup,
            steps=settings.steps,
            weight_decay=settings.weight_decay,
            clip=settings.clip,
        )
        # A copy: steps give these buffers away, and the caller's model is to stay as it is.
        trained = jax.tree.map(jnp.copy, jax.device_put(trained, replicated))
        begun = TrainingState(trained, self._optimizer.init(trained), jnp.int32(0))
        self.state = jax.device_put(begun, replicated)
        self._gradients = jax.jit(self._gradients_of, out_shardings=replicated)
        self._add = jax.jit(partial(jax.tree.map, jnp.add), donate_argnums=0)
        self._norm = jax.jit(optimizers.global_norm)
        self._update = jax.jit(self._updated, donate_argnums=0, out_shardings=replicated)

    @property
    def model(self) -> Retro:
        """The model with the weights of now; the next step takes them away from it."""
        return cast(Retro, nnx.merge(self._graph, self.state.weights, self._kept))

    def step(self, rows: Rows, neighbours: Neighbours | None) -> dict[str, float]:
        """One step on `settings.batch` rows.

        Args:
            rows: with their targets.
            neighbours: of their chunks; None where the language model alone learns.

        Returns:
            "loss", the mean of -log p over the targets, in nats; "tokens", how many there were; and
            "gradient_norm".

        Raises:
            ValueError: another number of rows, or no target among them.
            DivergedError: the loss is not finite; the state is as before the step.
        """
        settings = self.settings
        if rows.size != settings.batch:
            raise ValueError(f"{rows.size} rows, wanted a batch of {settings.batch}")
        tokens = int((np.asarray(rows.targets) >= 0).sum())
        if not tokens:
            raise ValueError("rows without a token to predict")
        # From the seed, the step and the micro-batch alone: a run that is resumed drops what it would have.
        key = jax.random.fold_in(jax.random.key(settings.seed, impl="rbg"), self.state.step)
        gradients: nnx.State | None = None
        total = 0.0
        for place, begin in enumerate(range(0, settings.batch, settings.micro_batch)):
            end = begin + settings.micro_batch
            found, loss = self._gradients(
                self.state.weights,
                self._kept,
                jax.device_put(rows.cut(begin, end), self._split),
                None if neighbours is None else jax.device_put(neighbours.cut(begin, end), self._split),
                jax.random.fold_in(key, place),
                jnp.float32(tokens),
            )
            gradients = found if gradients is None else self._add(gradients, found)
            total += float(loss)
        norm = float(self._norm(gradients))
        if not np.isfinite([total, norm]).all():
            step = int(self.state.step)
            raise errors.DivergedError(
                f"the loss is {total} and its gradient's norm {norm} at step {step}; "
                + ("take a smaller learning rate" if step else "are the weights whole?")
            )
        self.state = self._update(self.state, gradients)
        return {"loss": total, "tokens": float(tokens), "gradient_norm": norm}

    def _gradients_of(
        self,
        weights: nnx.State,
        kept: nnx.State,
        rows: Rows,
        neighbours: Neighbours | None,
        key: PRNGKeyArray,
        tokens: Float[Array, ""],
    ) -> tuple[nnx.State, Float[Array, ""]]:
        """Gradients of this micro-batch's share of the loss, and the share."""

        def loss_of(weights: nnx.State) -> Float[Array, ""]:
            model = nnx.merge(self._graph, weights, kept)
            drop = Dropout(key, self.settings.dropout)
            return token_losses(model(rows, neighbours, drop), rows.targets).sum() / tokens

        loss, gradients = jax.value_and_grad(loss_of)(weights)
        return gradients, loss

    def _updated(self, state: TrainingState, gradients: nnx.State) -> TrainingState:
        updates, optimizer = self._optimizer.update(gradients, state.optimizer, state.weights)
        return TrainingState(optimizers.apply_updates(state.weights, updates), optimizer, state.step + 1)


def _frozen_paths(model: Retro, learns: str) -> frozenset[tuple[Hashable, ...]]:
    """Paths of what stays as it is, by identity: the encoder may share the language model's embedding."""
    if learns == ALL:
        return frozenset()
    language = {id(leaf) for leaf in _parameters(model.language).values()}
    return frozenset(
        path for path, leaf in _parameters(model).items() if (id(leaf) in language) == (learns == RETRIEVAL)
    )


def _parameters(module: Any) -> dict[tuple[Hashable, ...], nnx.Param]:
    return {path: node for path, node in nnx.iter_graph(module) if isinstance(node, nnx.Param)}
