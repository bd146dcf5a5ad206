"""What a retriever costs, by its configuration: weights held, FLOPs of a token and of a text. No I/O.

FLOPs are the hardware's, two a weight, attention scores ignored, as in `flops`. Of an encoder every matrix
counts that each token goes through; tables of embeddings and positions are looked up, and cost nothing.

    BERT and its kin        L · (4d² + 2·d·f)
    ModernBERT              L · (4d² + 3·d·f), gated
    ALBERT, ELECTRA         and e·d for embeddings of another width e
    Qwen, Llama, Gemma      L · (2·d·h·c + 2·d·g·c + 3·d·f), h heads and g pairs of keys and values of width c
    T5                      `flops.layer_weights`

Symbols: L layers, d width, f width of the feed-forward layer. A Dense layer behind the pooling costs a text
its own matrix. What has no line here is not counted, and it is said so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from encoders.errors import EncoderError
from encoders.t5_config import MODEL_TYPES, T5Config
from pipeline.accounts import flops


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrieverShape:
    """A retriever as a cost.

    Attributes:
        kind: transformers' model type.
        dim: of its vectors.
        weights: that a worker holds, in float32.
        token_weights: that each token goes through; None: not counted.
        text_weights: that each text's vector goes through.
        max_tokens: of a text; None where that is not known.
    """

    kind: str
    dim: int
    weights: int
    token_weights: int | None
    text_weights: int = 0
    max_tokens: int | None = None

    def flops(self, texts: float, tokens: float) -> float | None:
        """Hardware FLOPs of so many texts and tokens; None where the architecture is not known here."""
        if self.token_weights is None:
            return None
        return flops.HARDWARE * (tokens * self.token_weights + texts * self.text_weights)


def token_weights(config: Mapping[str, Any]) -> int | None:
    """Weights that a token goes through, by a Transformer's config.json; None for what is not known here."""
    kind = config.get("model_type")
    if kind in MODEL_TYPES:
        try:
            shape = T5Config.from_hugging_face(config)
        except EncoderError:
            return None
        return shape.layers * flops.layer_weights(shape)
    count = _KNOWN.get(str(kind))
    try:
        return None if count is None else count(config)
    except (KeyError, TypeError):  # a size that the configuration leaves to its class
        return None


def _bert(config: Mapping[str, Any], *, matrices: int = 2) -> int:
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    return int(layers * width * (4 * width + matrices * config["intermediate_size"]))


def _modernbert(config: Mapping[str, Any]) -> int:
    return _bert(config, matrices=3)


def _embedded(config: Mapping[str, Any]) -> int:
    """With embeddings of another width, which a matrix brings to the layers'."""
    width, own = config["hidden_size"], config["embedding_size"]
    return _bert(config) + (own * width if own != width or config["model_type"] == "albert" else 0)


def _distilbert(config: Mapping[str, Any]) -> int:
    width = config["dim"]
    return int(config["n_layers"] * width * (4 * width + 2 * config["hidden_dim"]))


def _decoder(config: Mapping[str, Any]) -> int:
    width, heads = config["hidden_size"], config["num_attention_heads"]
    pairs = config.get("num_key_value_heads") or heads
    each = config.get("head_dim") or width // heads
    layer = 2 * width * each * (heads + pairs) + 3 * width * config["intermediate_size"]
    return int(config["num_hidden_layers"] * layer)


_KNOWN: Final[Mapping[str, Callable[[Mapping[str, Any]], int]]] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet"), _bert),
    **dict.fromkeys(("albert", "electra"), _embedded),
    "distilbert": _distilbert,
    "modernbert": _modernbert,
    **dict.fromkeys(("qwen2", "qwen3", "llama", "mistral", "gemma", "gemma2", "gemma3_text"), _decoder),
}


def _t5(config: T5Config, dim: int) -> RetrieverShape:
    return RetrieverShape(
        kind="t5",
        dim=dim,
        weights=flops.encoder_weights(config, config.layers) + config.d_model * dim,
        token_weights=config.layers * flops.layer_weights(config),
        text_weights=config.d_model * dim,
    )


# GTR-Base (Ni et al. 2022): the encoder of T5 1.0 base, and vectors of 768 dimensions.
GTR_BASE: Final = _t5(
    T5Config(vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, layers=12, heads=12, feed_forward="relu"), 768
)
