"""The fingerprint of an encoder: SHA-256 over all that decides its numbers.

A corpus records it; a reader that asks with another encoder is refused, and `differences` names
what differs. Computed from the files alone, in bounded memory, without jax or torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from encoders import errors, model_folder
from encoders.aliases import Json
from encoders.memory_spec import MemorySpec
from encoders.t5_config import T5Config

# Raise when the encoder's own arithmetic changes by more than rounding.
ARITHMETIC = 1
# The bits of the exponent of each type of weights.
_EXPONENTS: Final[Mapping[str, tuple[str, int]]] = MappingProxyType(
    {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
)


@dataclass(frozen=True)
class Fingerprint:
    """A digest and what it was taken of.

    Args:
        hex: SHA-256 of the description's canonical JSON.
        description: JSON values only, so that it can be stored beside what it describes.
    """

    hex: str
    description: Json


def of(description: Mapping[str, object]) -> Fingerprint:
    """Fingerprint of a description: keys sorted, no spaces, ASCII."""
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return Fingerprint(hashlib.sha256(canonical.encode("ascii")).hexdigest(), dict(description))


def memory_description(
    *,
    config: T5Config,
    layers: int,
    tensors: Mapping[str, model_folder.Tensor],
    tokenizer_files: Iterable[Path],
    memory: MemorySpec,
) -> Json:
    """What decides the numbers of a memory encoder.

    Live layers are left out, so fine-tuning them alone leaves a corpus valid; so is how many
    there are.

    Args:
        config: shape of the encoder.
        layers: number of layers that are run.
        tensors: the tensors these use, by canonical name.
        tokenizer_files: every one is digested under its name.
        memory: how a passage becomes text, where it is cut, and what is computed in; its batches decide no
            more than rounding, and are left out.
    """
    return {
        "kind": "memory",
        "arithmetic": ARITHMETIC,
        "tensors": digest_tensors(tensors),
        "layers": layers,
        "final_norm": layers == config.layers,
        "tokenizer": {path.name: digest_file(path) for path in tokenizer_files},
        "max_tokens": memory.max_tokens,
        "template": memory.template,
        "compute_dtype": memory.compute_dtype,
        "architecture": {
            "d_model": config.d_model,
            "d_kv": config.d_kv,
            "d_ff": config.d_ff,
            "heads": config.heads,
            "feed_forward": config.feed_forward,
            "relative_buckets": config.relative_buckets,
            "relative_max_distance": config.relative_max_distance,
            "norm_epsilon": config.norm_epsilon,
        },
    }


def digest_tensors(tensors: Mapping[str, model_folder.Tensor]) -> str:
    """SHA-256 over name, dtype, shape and bytes of each tensor, sorted by name.

    Independent of the files they are spread over, and of their names there.

    Raises:
        ModelFolderError: as `require_finite`, on the way.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        head = json.dumps([name, tensor.dtype, list(tensor.shape)], separators=(",", ":"))
        digest.update(head.encode("ascii") + b"\n")
        for chunk in tensor.chunks():
            _require_finite(tensor, chunk)
            digest.update(chunk)
    return digest.hexdigest()


def require_finite(tensors: Mapping[str, model_folder.Tensor]) -> None:
    """Refuse weights of which nothing but NaN could come.

    Raises:
        ModelFolderError: a tensor has a value that is not finite.
    """
    for tensor in tensors.values():
        for chunk in tensor.chunks():
            _require_finite(tensor, chunk)


def _require_finite(tensor: model_folder.Tensor, chunk: bytes) -> None:
    """The bits of the exponent are all set in NaN and infinity alone."""
    if tensor.dtype not in _EXPONENTS:
        return
    kind, exponent = _EXPONENTS[tensor.dtype]
    if ((np.frombuffer(chunk, kind) & exponent) == exponent).any():
        raise model_folder.ModelFolderError(
            f"{tensor.path}: {tensor.name} has values that are NaN or infinite, wanted finite weights; were "
            "they saved whole, or did their training diverge?"
        )


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with errors.naming(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(one: Mapping[str, object], other: Mapping[str, object], prefix: str = "") -> list[str]:
    """The keys in which two descriptions differ, nested ones with dots, sorted."""
    found = []
    for key in sorted(set(one) | set(other)):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{key}.")
        elif key not in one or key not in other or a != b:
            found.append(prefix + key)
    return found
