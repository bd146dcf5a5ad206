"""GTR through jax: the modules of a retriever's folder, in one program on the devices.

Of texts' tokens h after the last layer of a T5 encoder, in float32:

    v = mean of h over the real tokens;   v <- v W^T + b for each Dense;   v <- v / |v| for each Normalize

A prompt is put before the text, and its tokens are among those of the mean. Of v the first dimensions are
kept, where the folder says so.

Source: Ni et al. 2022, section 3; PAPERS: Retrieval model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from encoders import batching, compiling, errors, model_folder, weights
from encoders.aliases import Json
from encoders.model_folder import ModelFolderError
from encoders.retriever_folder import TRANSFORMER_CONFIG, RetrieverFolder, pooling_modes, works_on
from encoders.t5_config import T5Config
from encoders.tokenizing import Read, Tokenizer

if TYPE_CHECKING:
    import jax

# Tokens of a batch on each device. Accelerators want many to be busy (not measured here).
ACCELERATOR_TOKENS: Final = 16_384
# Below torch's own, so that what it divides by is the same.
LEAST_NORM: Final = 1e-12
_TASK: Final = "feature-extraction"
# Settings of a Transformer that say what the library takes from an encoder anyway.
_PLAIN: Final = {
    *("max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name"),
    "unpad_inputs",
}


def unfit(folder: RetrieverFolder) -> str | None:
    """Why a retriever cannot be run here; None if it can."""
    modules = folder.modules
    try:
        T5Config.from_hugging_face(folder.transformer)
    except errors.EncoderError as error:
        return str(error)
    if (job := modules[0]["config"][TRANSFORMER_CONFIG].get("transformer_task", _TASK)) != _TASK:
        return f"its Transformer is for {job}"
    if odd := set(modules[0]["config"][TRANSFORMER_CONFIG]) - _PLAIN:
        return f"its Transformer has settings of its own: {', '.join(sorted(odd))}"
    if modules[0]["config"][TRANSFORMER_CONFIG].get("do_lower_case"):
        return "it lowers the case of texts"
    classes = [module["class"] for module in modules]
    if classes[1:2] != ["Pooling"] or not set(classes[2:]) <= {"Dense", "Normalize"}:
        return f"its modules are {', '.join(classes)}, wanted Transformer, Pooling, then Dense and Normalize"
    pooling = modules[1]["config"]["config.json"]
    if (modes := pooling_modes(pooling)) != ("mean",):
        return f"it pools by {', '.join(sorted(modes))}, wanted the mean"
    if any(folder.prompts.values()) and not pooling.get("include_prompt", True):
        return "it leaves its prompts out of the mean"
    for module in modules[2:]:
        config = module["config"]["config.json"]
        if (names := works_on(config)) != {"sentence_embedding"}:
            return f"its {module['class']} works on {', '.join(sorted(names))}"
        activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
        if module["class"] == "Dense" and activation.rpartition(".")[-1] != "Identity":
            return f"its Dense has the activation {activation}, wanted none"
        if config.get("use_residual"):
            return "its Dense adds what it was given"
    return None


class Tower:
    """A loaded retriever on jax's devices.

    Args:
        folder: the model's.
        devices: as for `sharding.named`.

    Raises:
        ModelFolderError: it cannot be run here, see `unfit`, or tensors do not fit the settings.
    """

    def __init__(self, folder: RetrieverFolder, *, devices: str) -> None:
        if (reason := unfit(folder)) is not None:
            raise ModelFolderError(
                f"{folder.path} cannot be run by jax: {reason}; take the backend sentence-transformers"
            )
        from encoders import inference, sharding

        compiling.use_kept()
        modules = folder.modules
        first = folder.place(modules[0])
        config = weights.read_config(first)
        tensors = weights.find(first, config, config.layers)
        self._tokenizer = Tokenizer(first, max_tokens=folder.max_tokens)
        if self._tokenizer.size > config.vocab_size:
            raise ModelFolderError(
                f"{first} has a tokenizer of {self._tokenizer.size:,} tokens for an embedding of "
                f"{config.vocab_size:,} rows; do they belong together?"
            )
        encoder = inference.Encoder(
            config,
            lambda name: tensors[name].read(),
            layers=config.layers,
            mesh=sharding.mesh_for(config, config.layers, "float32", devices=sharding.named(devices)),
        )
        steps = [step(folder.place(module), module) for module in modules[2:]]
        given = next((len(found["weight"]) for found in reversed(steps) if found), config.d_model)
        self.dim = min(given, folder.truncate_dim or given)
        self._prompts = folder.prompts
        self._steps = encoder.everywhere(steps)
        self._run = encoder.compile(_vectors)
        each = batching.DEFAULT_TOKEN_BUDGET if encoder.on_cpu else ACCELERATOR_TOKENS
        self._token_budget = each * encoder.data_parallel

    def batches(
        self, texts: Sequence[str], role: str, *, count: bool
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], Read | None]]:
        """Places in `texts`, their vectors [places, dim], and what was read of them.

        Which go together depends on the list alone.
        """
        tokens = self._tokenizer([self._prompts[role] + text for text in texts])
        # A question or two need no batch of a thousand tokens.
        budget = min(self._token_budget, 1 << max(5, int(len(tokens.ids) - 1).bit_length()))
        plan = batching.plan(tokens.lengths, max_tokens=self._tokenizer.max_tokens, token_budget=budget)
        for batch in plan:
            ids, lengths = tokens.padded(batch.passages, rows=batch.rows, length=batch.length)
            read = tokens.read_of(batch.passages) if count else None
            with compiling.counted() as programs:
                vectors = np.asarray(self._run(ids, lengths, self._steps))
            if programs.compiled:
                compiling.keep_new()
            yield batch.passages, vectors[: len(batch.passages), : self.dim], read


def step(place: Path, module: Json) -> dict[str, npt.NDArray[np.float32]]:
    """What a Dense multiplies by and adds; nothing for Normalize."""
    if module["class"] == "Normalize":
        return {}
    tensors = model_folder.find_tensors(place)
    names = {"weight", "bias"} if module["config"]["config.json"].get("bias", True) else {"weight"}
    if set(tensors) != {f"linear.{name}" for name in names}:
        raise ModelFolderError(
            f"{place} has the tensors {', '.join(sorted(tensors))}, wanted linear.weight"
            f"{' and linear.bias' if 'bias' in names else ''} as its config.json says"
        )
    return {name: tensors[f"linear.{name}"].read().astype(np.float32) for name in names}


def _vectors(h: jax.Array, real: jax.Array, steps: Sequence[Mapping[str, jax.Array]]) -> jax.Array:
    """[rows, dim] of the rows' residual streams [rows, tokens, d]."""
    import jax.numpy as jnp
    from jax import lax

    mask = real[:, :, None].astype(h.dtype)
    v = jnp.sum(h * mask, axis=1) / jnp.sum(mask, axis=1)
    for found in steps:
        if found:
            v = jnp.matmul(v, found["weight"].T, precision=lax.Precision.HIGHEST) + found.get("bias", 0.0)
        else:
            v = v / jnp.maximum(jnp.linalg.norm(v, axis=1, keepdims=True), LEAST_NORM)
    return v
