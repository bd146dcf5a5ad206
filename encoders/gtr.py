"""GTR through jax: the modules of a retriever's folder, in one program on the devices.

Of texts' tokens h after the last layer of a T5 encoder, in float32:

    v = mean of h over the real tokens;   v <- v W^T + b for each Dense;   v <- v / |v| for each Normalize

Source: Ni et al. 2022, section 3; PAPERS: Retrieval model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from encoders import batching, errors, model_folder, weights
from encoders.model_folder import ModelFolderError
from encoders.t5_config import T5Config
from encoders.tokenizing import Tokenizer

if TYPE_CHECKING:
    import jax

# Tokens of a batch on each device. Accelerators want many to be busy (not measured here).
ACCELERATOR_TOKENS: Final = 16_384
# Below torch's own, so that what it divides by is the same.
_LEAST_NORM: Final = 1e-12

# As `encoders.retriever` makes it of a model's folder; its fields are looked at one by one, in `unfit`.
Description = Mapping[str, Any]


def unfit(description: Description) -> str | None:
    """Why a retriever as `encoders.retriever` describes it cannot be run here; None if it can."""
    modules: Sequence[Description] = description["modules"]
    try:
        T5Config.from_hugging_face(modules[0]["config"]["config.json"])
    except errors.EncoderError as error:
        return str(error)
    if modules[0]["config"]["sentence_bert_config.json"].get("do_lower_case"):
        return "it lowers the case of texts"
    if description["default_prompt_name"] is not None:
        return f"it puts the prompt {description['default_prompt_name']!r} before texts"
    classes = [module["class"] for module in modules]
    if classes[1:2] != ["Pooling"] or {"Pooling", "Transformer"} & set(classes[2:]):
        return f"its modules are {', '.join(classes)}, wanted Transformer, Pooling, then Dense and Normalize"
    if (modes := _pooling(modules[1]["config"]["config.json"])) != {"mean"}:
        return f"it pools by {', '.join(sorted(modes)) or 'nothing'}, wanted the mean"
    for module in modules[2:]:
        config = module["config"]["config.json"]
        names = {config.get(key, "sentence_embedding") for key in ("module_input_name", "module_output_name")}
        if names != {"sentence_embedding"}:
            return f"its {module['class']} works on {', '.join(sorted(names))}"
        activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
        if module["class"] == "Dense" and activation.rpartition(".")[-1] != "Identity":
            return f"its Dense has the activation {activation}, wanted none"
    return None


def _pooling(config: Description) -> set[str]:
    """The ways of pooling, as newer and older libraries have them."""
    if (mode := config.get("pooling_mode")) is not None:
        return {mode} if isinstance(mode, str) else set(mode)
    named = {"pooling_mode_mean_tokens": "mean"}
    return {named.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on}


class Tower:
    """A loaded retriever on jax's devices.

    Args:
        folder: the model's.
        description: what `encoders.retriever` found in it.
        max_tokens: texts are cut to this.
        devices: as for `sharding.named`.

    Raises:
        ModelFolderError: it cannot be run here, see `unfit`, or tensors do not fit the settings.
    """

    def __init__(self, folder: Path, description: Description, *, max_tokens: int, devices: str) -> None:
        if (reason := unfit(description)) is not None:
            raise ModelFolderError(
                f"{folder} cannot be run by jax: {reason}; take the backend sentence-transformers"
            )
        from encoders import inference, sharding

        modules = description["modules"]
        first = folder / modules[0]["path"]
        config = weights.read_config(first)
        tensors = weights.find(first, config, config.layers)
        self._tokenizer = Tokenizer(first, max_tokens=max_tokens)
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
        steps = [_step(folder / module["path"], module) for module in modules[2:]]
        self.dim = next((len(step["weight"]) for step in reversed(steps) if step), config.d_model)
        self._steps = encoder.everywhere(steps)
        self._run = encoder.compile(_vectors)
        each = batching.DEFAULT_TOKEN_BUDGET if encoder.on_cpu else ACCELERATOR_TOKENS
        self._token_budget = each * encoder.data_parallel

    def batches(
        self, texts: Sequence[str]
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Places in `texts` and their vectors [places, dim]; which go together depends on the list alone."""
        tokens = self._tokenizer(texts)
        # A question or two need no batch of a thousand tokens.
        budget = min(self._token_budget, 1 << max(5, int(len(tokens.ids) - 1).bit_length()))
        plan = batching.plan(tokens.lengths, max_tokens=self._tokenizer.max_tokens, token_budget=budget)
        for batch in plan:
            ids, lengths = tokens.padded(batch.passages, rows=batch.rows, length=batch.length)
            yield batch.passages, np.asarray(self._run(ids, lengths, self._steps))[: len(batch.passages)]


def _step(place: Path, module: Description) -> dict[str, npt.NDArray[np.float32]]:
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
    for step in steps:
        if step:
            v = jnp.matmul(v, step["weight"].T, precision=lax.Precision.HIGHEST) + step.get("bias", 0.0)
        else:
            v = v / jnp.maximum(jnp.linalg.norm(v, axis=1, keepdims=True), _LEAST_NORM)
    return v
