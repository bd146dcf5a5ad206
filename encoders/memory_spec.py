"""What makes memory of a passage, beside the model's weights: one frozen object that checks itself.

Builds, versions, readers, plans and their cards say the same few things of it, by the same names. Pure data;
loads neither jax nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final

from encoders import batching, errors
from encoders.aliases import Json
from encoders.t5_config import COMPUTE_DTYPES, parse_live_proportion, require_whole
from encoders.template import MEMORY_TEMPLATE, PassageTemplate

# α of LUMEN and GLIMMER where none is named (PAPERS: The reader family).
LIVE_PROPORTION: Final = Fraction(1, 3)
# LUMEN and GLIMMER encode passages of up to 304 tokens, about 200 words of English (PAPERS: Tokens).
MAX_TOKENS: Final = 304
# Fewer would leave no room for a token and EOS.
LEAST_TOKENS: Final = 2

# What a user sets, as options, settings files, cards and plans name it: the field it is, and its JSON types.
SETTINGS: Final[Mapping[str, tuple[str, tuple[type, ...]]]] = MappingProxyType(
    {
        "live_proportion": ("live_proportion", (str, int, float)),
        "compute_dtype": ("compute_dtype", (str,)),
        "token_budget": ("token_budget", (int,)),
        "max_tokens": ("max_tokens", (int,)),
        "memory_template": ("template", (str,)),
    }
)
# What nobody sets, and cards and plans keep as well.
BATCHING: Final = "batching"


@dataclass(frozen=True, kw_only=True, slots=True)
class MemorySpec:
    """How passages become memory.

    Args:
        live_proportion: α, the share of the encoder's layers that readers run live; the first (1-α)·L layers
            make the memory (LUMEN, section 3).
        compute_dtype: of the matrix products: "bfloat16" (what the papers store; fast wherever there are bf16
            units) or "float32" (within rounding of transformers in float32).
        token_budget: tokens computed at a time on each device, padding included; 16,384 or more suits an
            accelerator. It decides rounding.
        max_tokens: passages are cut to this, EOS included.
        template: how a passage becomes text, of {title}, {section} and {text}.
        batching: version of how passages are put into batches, which decides rounding too; None of what was
            written before it was numbered. See `batching.VERSION`.

    All but the token budget and the batching are in the encoder's fingerprint; these two decide the last bits
    of a shard, and so are in a job's plan and in a version's card alone.

    Raises:
        EncoderError: a value is out of range.
    """

    live_proportion: Fraction = LIVE_PROPORTION
    compute_dtype: str = "bfloat16"
    token_budget: int = batching.DEFAULT_TOKEN_BUDGET
    max_tokens: int = MAX_TOKENS
    template: str = MEMORY_TEMPLATE
    batching: int | None = field(default_factory=lambda: batching.VERSION)

    def __post_init__(self) -> None:
        if not 0 <= self.live_proportion <= 1:
            raise errors.EncoderError(
                f"live proportion is {self.live_proportion}, wanted 0 (all layers precomputed) to 1 (none)"
            )
        if self.compute_dtype not in COMPUTE_DTYPES:
            raise errors.EncoderError(
                f"unknown compute dtype {self.compute_dtype!r}; known are {', '.join(COMPUTE_DTYPES)}"
            )
        require_whole("token budget", self.token_budget, 1)
        require_whole("max tokens", self.max_tokens, LEAST_TOKENS)
        PassageTemplate(self.template)

    def to_json(self) -> Json:
        """As cards and plans hold it."""
        found = {name: getattr(self, own) for name, (own, _) in SETTINGS.items()}
        found["live_proportion"] = str(self.live_proportion)
        return found if self.batching is None else {**found, BATCHING: self.batching}

    @classmethod
    def from_json(cls, raw: Mapping[str, object]) -> MemorySpec:
        """Reads what `to_json` wrote, alone or among a build's other settings.

        Raises:
            EncoderError: a setting is missing, of the wrong type, or out of range.
        """
        values: dict[str, Any] = {}
        for name, (own, types) in SETTINGS.items():
            if name not in raw:
                raise errors.EncoderError(f"setting {name} is missing, wanted with every memory")
            value = raw[name]
            if not isinstance(value, types) or isinstance(value, bool):
                wanted = " or ".join(kind.__name__ for kind in types)
                raise errors.EncoderError(f"setting {name} is {value!r}, wanted {wanted}")
            values[own] = value
        values["live_proportion"] = parse_live_proportion(str(values["live_proportion"]))
        written = raw.get(BATCHING)
        if written is not None and (isinstance(written, bool) or not isinstance(written, int)):
            raise errors.EncoderError(f"setting {BATCHING} is {written!r}, wanted int")
        return cls(**values, batching=written)

    def changed(self, given: Mapping[str, object]) -> MemorySpec:
        """The same but for some of `SETTINGS`, in the batches that this version makes; other keys are not
        looked at.

        Raises:
            EncoderError: as `from_json`.
        """
        taken = {name: given[name] for name in SETTINGS if name in given}
        return MemorySpec.from_json({**self.to_json(), **taken, BATCHING: batching.VERSION})
