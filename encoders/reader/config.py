"""Which reader: five systems as settings of one model. Pure data; loads neither jax nor torch.

Symbols as in PAPERS: The reader family. L layers of the encoder, α live proportion, β rerank
proportion, k passages retrieved, m of them selected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Final

from encoders import errors
from encoders.aliases import Json
from encoders.memory_spec import LIVE_PROPORTION
from encoders.t5_config import T5Config, memory_layers, parse_live_proportion, require_whole

FID, MEMORY_FID, LUMEN, GLIMMER = "fid", "memory-fid", "lumen", "glimmer"
SYSTEMS: Final = (FID, MEMORY_FID, LUMEN, GLIMMER)
SHARED, SEPARATE = "shared", "separate"
QUESTION_ENCODERS: Final = (SHARED, SEPARATE)
FIRST, MEAN = "first", "mean"
POOLINGS: Final = (FIRST, MEAN)

# Tokens of a question (PAPERS: Tokens).
QUESTION_TOKENS: Final = 48


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    """One reader's shape.

    Args:
        t5: the encoder's shape; the decoder has the same widths.
        decoder_layers: blocks of the decoder.
        live_proportion: α, the share of the encoder's layers that runs on [question; passage]. 1 is
            FiD, 0 MemoryFiD.
        rerank_proportion: β, the share of the live layers after which passages are scored, or None
            for a reader that scores none and reads all it is given.
        question_encoder: "shared", the memory encoder reads the question too (GLIMMER), or "separate",
            a copy of its layers that is trained on its own (LUMEN).
        pooling: what the score is taken of: the pair's "first" token, or the "mean" of its tokens.
        question_tokens: questions are cut to this, EOS included.

    Raises:
        EncoderError: α·L or β·α·L is no whole number of layers, or another value is out of range.

    Source: GLIMMER (de Jong et al. 2023), sections 2 and 3; LUMEN (de Jong et al. 2023), section 3.
    """

    t5: T5Config
    decoder_layers: int
    live_proportion: Fraction
    rerank_proportion: Fraction | None = None
    question_encoder: str = SHARED
    pooling: str = FIRST
    question_tokens: int = QUESTION_TOKENS

    def __post_init__(self) -> None:
        require_whole("decoder_layers", self.decoder_layers, 1)
        # A token and EOS.
        require_whole("question_tokens", self.question_tokens, 2)
        if self.question_encoder not in QUESTION_ENCODERS:
            raise errors.EncoderError(
                f"question_encoder is {self.question_encoder!r}, wanted {' or '.join(QUESTION_ENCODERS)}"
            )
        if self.pooling not in POOLINGS:
            raise errors.EncoderError(f"pooling is {self.pooling!r}, wanted {' or '.join(POOLINGS)}")
        if self.rerank_proportion is not None:
            if not 0 <= self.rerank_proportion <= 1:
                raise errors.EncoderError(f"rerank proportion {self.rerank_proportion} is not in 0..1")
            scored = self.rerank_proportion * self.live_layers
            if scored.denominator != 1:
                raise errors.EncoderError(
                    f"rerank proportion {self.rerank_proportion} of {self.live_layers} live layers is "
                    f"{scored} layers, wanted a whole number; such as "
                    + " or ".join(str(Fraction(n, self.live_layers)) for n in range(self.live_layers + 1))
                )
        if self.question_encoder == SEPARATE and not self.memory_layers:
            raise errors.EncoderError("α = 1 leaves no layers to a separate question encoder; wanted shared")

    @property
    def memory_layers(self) -> int:
        """(1-α)·L, layers of the memory encoder."""
        return memory_layers(self.t5.layers, self.live_proportion)

    @property
    def live_layers(self) -> int:
        """α·L, layers of live encoders A and B together."""
        return self.t5.layers - self.memory_layers

    @property
    def rerank_layers(self) -> int:
        """β·α·L, layers of live encoder A."""
        return int((self.rerank_proportion or 0) * self.live_layers)

    @property
    def reranks(self) -> bool:
        """Whether passages are scored and only the best are read."""
        return self.rerank_proportion is not None

    @property
    def system(self) -> str:
        """The paper's name of this setting."""
        if self.reranks:
            return GLIMMER
        if self.live_proportion == 1:
            return FID
        return LUMEN if self.live_proportion else MEMORY_FID

    def to_json(self) -> Json:
        """What `from_json` reads."""
        raw = asdict(self)
        raw["live_proportion"] = str(self.live_proportion)
        raw["rerank_proportion"] = None if self.rerank_proportion is None else str(self.rerank_proportion)
        return {"system": self.system, **raw}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ReaderConfig:
        """Raises:
        EncoderError: a field is missing, unknown, or out of range.
        """
        values = dict(raw)
        system = values.pop("system", None)
        try:
            values["t5"] = T5Config(**values["t5"])
            values["live_proportion"] = parse_live_proportion(values["live_proportion"])
            if values["rerank_proportion"] is not None:
                values["rerank_proportion"] = parse_live_proportion(values["rerank_proportion"])
            config = cls(**values)
        except (KeyError, TypeError) as error:
            raise errors.EncoderError(f"no reader's settings: {error}") from error
        if system != config.system:
            raise errors.EncoderError(
                f"system is {system!r}, the settings beside it are those of {config.system!r}"
            )
        return config


def preset(
    system: str,
    t5: T5Config,
    *,
    decoder_layers: int | None = None,
    live_proportion: Fraction | None = None,
    rerank_proportion: Fraction | None = None,
    pooling: str = FIRST,
) -> ReaderConfig:
    """A system of the papers on a T5 of any size.

    Args:
        system: one of `SYSTEMS`.
        t5: `PUBLISHED_SIZES["base"]`, say.
        decoder_layers: as many as the encoder has if not given, as in every T5.1.1.
        live_proportion: α of LUMEN and GLIMMER; 1/3 if not given.
        rerank_proportion: β of GLIMMER; 1/4 if not given.
        pooling: of GLIMMER's score.

    Raises:
        EncoderError: an unknown system, or a proportion that the system has not.

    Source: PAPERS: The reader family.
    """
    if system not in SYSTEMS:
        raise errors.EncoderError(f"system is {system!r}, wanted one of {', '.join(SYSTEMS)}")
    if system in (FID, MEMORY_FID):
        fixed = Fraction(1 if system == FID else 0)
        if live_proportion not in (None, fixed):
            raise errors.EncoderError(
                f"{system} has α = {fixed}, not {live_proportion}; wanted lumen or glimmer"
            )
        live_proportion = fixed
    if system != GLIMMER and rerank_proportion is not None:
        raise errors.EncoderError(f"{system} scores no passages and has no β; wanted glimmer")
    alpha = LIVE_PROPORTION if live_proportion is None else live_proportion
    if system == GLIMMER and rerank_proportion is None:
        rerank_proportion = Fraction(1, 4)
    return ReaderConfig(
        t5=t5,
        decoder_layers=t5.layers if decoder_layers is None else decoder_layers,
        live_proportion=alpha,
        rerank_proportion=rerank_proportion,
        question_encoder=SEPARATE if system == LUMEN and alpha < 1 else SHARED,
        pooling=pooling,
    )
