"""What the neighbours' encodings of a RETRO would take, stored once for every chunk with its continuation.

The encoder is the paper's: 2 layers of width 896, whatever the language model's size (Borgeaud et al. 2021,
section 2.4 and Table 10). Rows are padded to twice a chunk's tokens, and so they are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from encoders.retro.config import EncoderConfig
from pipeline.accounts import flops
from pipeline.accounts.plan import form
from storage import codecs
from storage.components import memory
from storage.memory_store import MemoryLayout

_HOUR: Final = 3600.0
_ENCODER: Final = EncoderConfig()


@dataclass(frozen=True, kw_only=True, slots=True)
class Encodings:
    """A memory version of chunks with their continuations.

    Attributes:
        bytes: of it, each chunk with as many tokens as a full one and its continuation have.
        flops: the hardware's, of encoding all.
        accelerator_hours: of computing alone; None without a device.
    """

    bytes: float
    flops: float
    accelerator_hours: float | None

    def to_json(self) -> form.ChunkEncodings:
        return {"bytes": self.bytes, "flops": self.flops, "accelerator_hours": self.accelerator_hours}


def estimate(
    passages: int, passage_tokens: int, codec: codecs.Codec, *, flops_per_second: float | None
) -> Encodings:
    """What they take.

    Args:
        passages: chunks.
        passage_tokens: m.
        codec: that the version is stored by.
        flops_per_second: of one device, as it is used; None where no device is named.
    """
    tokens = passages * 2 * passage_tokens
    layout = MemoryLayout.sized(
        passages=passages,
        width=_ENCODER.d_model,
        max_tokens=2 * passage_tokens,
        codec=codec,
        shard_passages=None,
    )
    weights = _ENCODER.layers * flops.language_layer_weights(_ENCODER.as_language(1))
    total = float(flops.HARDWARE * weights * tokens)
    return Encodings(
        bytes=memory.foretold_bytes(layout, tokens),
        flops=total,
        accelerator_hours=None if flops_per_second is None else total / flops_per_second / _HOUR,
    )
