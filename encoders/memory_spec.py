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
        "memory_layers": ("layers", (str, int)),
    }
)
# Which of an encoder's states make the memory: of T5s the one, of other encoders the other; of some neither.
_OF_KINDS: Final = ("live_proportion", "memory_layers")
# What nobody sets, and cards and plans keep as well.
BATCHING: Final = "batching"


@dataclass(frozen=True, kw_only=True, slots=True)
class MemorySpec:
    """How passages become memory.

    Args:
        live_proportion: α, the share of the encoder's layers that readers run live; the first (1-α)·L layers
            make the memory (LUMEN, section 3). None: not given, or of an encoder that is no T5.
        compute_dtype: of the matrix products: "bfloat16" (what the papers store; fast wherever there are bf16
            units) or "float32" (within rounding of transformers in float32).
        token_budget: tokens computed at a time on each device, padding included; 16,384 or more suits an
            accelerator. It decides rounding.
        max_tokens: passages are cut to this, EOS included.
        template: how a passage becomes text, of {title}, {section} and {text}.
        batching: version of how passages are put into batches, which decides rounding too; None of what was
            written before it was numbered. See `batching.VERSION`.
        layers: of an encoder that is no T5: the layers whose states make the memory, one behind the other in
            a row. As transformers counts them: 0 are the embeddings, -1 is the last layer; None: not given.

    All but the token budget and the batching are in the encoder's fingerprint; these two decide the last bits
    of a shard, and so are in a job's plan and in a version's card alone.

    Raises:
        EncoderError: a value is out of range.
    """

    live_proportion: Fraction | None = LIVE_PROPORTION
    compute_dtype: str = "bfloat16"
    token_budget: int = batching.DEFAULT_TOKEN_BUDGET
    max_tokens: int = MAX_TOKENS
    template: str = MEMORY_TEMPLATE
    batching: int | None = field(default_factory=lambda: batching.VERSION)
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.live_proportion is not None and not 0 <= self.live_proportion <= 1:
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
        if self.layers is not None and (not self.layers or len(set(self.layers)) < len(self.layers)):
            raise errors.EncoderError(
                f"memory layers are {_told(self.layers) or 'none'}, wanted one or more, each once"
            )

    def to_json(self) -> Json:
        """As cards and plans hold it."""
        found = {name: getattr(self, own) for name, (own, _) in SETTINGS.items()}
        for name, told in (("live_proportion", str), ("memory_layers", _told)):
            if found[name] is None:
                del found[name]
            else:
                found[name] = told(found[name])
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
                if name in _OF_KINDS:
                    values[own] = None
                    continue
                raise errors.EncoderError(f"setting {name} is missing, wanted with every memory")
            value = raw[name]
            if not isinstance(value, types) or isinstance(value, bool):
                wanted = " or ".join(kind.__name__ for kind in types)
                raise errors.EncoderError(f"setting {name} is {value!r}, wanted {wanted}")
            values[own] = value
        if values["live_proportion"] is not None:
            values["live_proportion"] = parse_live_proportion(str(values["live_proportion"]))
        if values["layers"] is not None:
            values["layers"] = _parse_layers(str(values["layers"]))
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


def _told(layers: tuple[int, ...]) -> str:
    """As options and cards have them: "4,8,12"."""
    return ",".join(map(str, layers))


def _parse_layers(text: str) -> tuple[int, ...]:
    """What `_told` wrote, or a user did."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise errors.EncoderError(
            f"memory layers are {text!r}, wanted numbers of layers with commas between: 12, or 4,8,-1"
        ) from None
