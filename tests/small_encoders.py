"""Small encoders that are no T5: real folders of transformers and sentence-transformers, random weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import transformers
from transformers import AutoConfig, AutoModel

from encoders.transformers_output import silenced
from tests.small_models import TEXTS
from tests.small_retrievers import SHAPES, WIDTH, tokenizer_of, wordpiece

LAYERS: Final = 2
# Models with a decoder beside the encoder, of which the encoder alone makes memory.
_GEMMA: Final = {
    **{key: value for key, value in SHAPES["gemma2"].items() if key != "max_position_embeddings"},
    "max_position_embeddings": 96,
    "sliding_window": 16,
}
_PAIRS: Final[Mapping[str, Mapping[str, Any]]] = {
    "bart": {
        "d_model": WIDTH,
        "encoder_layers": LAYERS,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 40,
        "decoder_ffn_dim": 40,
        "max_position_embeddings": 96,
    },
    "umt5": {"d_model": WIDTH, "d_kv": 8, "d_ff": 40, "num_layers": LAYERS, "num_heads": 4},
}
KINDS: Final = ("bert", "modernbert", "roberta", "llama", "t5gemma", "bart", "umt5")


def make_encoder(path: Path, kind: str = "bert", *, texts: Iterable[str] = TEXTS, seed: int = 0) -> Path:
    """A folder as `save_pretrained` writes it.

    Args:
        path: the folder.
        kind: one of `KINDS`, or of `SHAPES`.
        texts: what the tokenizer is trained on.
        seed: of the weights.
    """
    tokenizer = tokenizer_of(kind, list(texts)) if kind in SHAPES else wordpiece(list(texts))
    tokenizer.save_pretrained(path)
    ids = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id or tokenizer.sep_token_id,
    }
    with silenced(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "t5gemma":
            side = {**_GEMMA, **ids}
            config: Any = transformers.T5GemmaConfig(encoder=side, decoder=side, vocab_size=len(tokenizer))
            model: Any = transformers.T5GemmaForConditionalGeneration(config)
        else:
            config = AutoConfig.for_model(kind, **(_PAIRS.get(kind) or SHAPES[kind]), **ids)
            model = AutoModel.from_config(config)
        enlarge(model)
        model.eval().save_pretrained(path)
    return path


def enlarge(model: Any) -> None:
    """Weights far larger than transformers' start, so that every part of a model matters."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.dim() == 2:
                tensor.normal_(0, 1.0 if "embed" in name else 1.5 * tensor.shape[1] ** -0.5)


def own_states(
    folder: Path, texts: Iterable[Sequence[int]], layers: Sequence[int]
) -> npt.NDArray[np.float32]:
    """What transformers itself makes of texts' ids, each alone and without padding, [all tokens, width]: the
    layers' states, one behind the other."""
    found: list[torch.Tensor] = []
    with silenced():
        model: Any = AutoModel.from_pretrained(str(folder)).eval()
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        for ids in texts:
            with torch.no_grad():
                told = model(input_ids=torch.tensor([list(ids)]), output_hidden_states=True)
            last = len(told.hidden_states) - 1
            states = (told.last_hidden_state if i == last else told.hidden_states[i] for i in layers)
            found.append(torch.cat([state[0] for state in states], dim=-1))
    return torch.cat(found).numpy()


def make_multi_vector(
    path: Path,
    *,
    kind: str = "bert",
    dim: int | None = 16,
    prompts: Mapping[str, str] | None = None,
    skip: Sequence[str] = (".", ",", ";"),
    expansion: Mapping[str, Any] | None = None,
    document_length: int | None = 40,
    similarity: str = "maxsim",
    pooling: bool = False,
    texts: Iterable[str] = TEXTS,
    seed: int = 0,
) -> Path:
    """A MultiVectorEncoder's folder: a Transformer, a Dense of each token, the mask, vectors of length 1.

    Args:
        path: the folder.
        kind: of the Transformer.
        dim: of the vectors; None: no Dense.
        prompts: by role.
        skip: words of which documents keep no vector.
        expansion: sentence-transformers' `query_expansion`.
        document_length: documents are cut to this.
        similarity: "maxsim" or "meanmaxsim".
        pooling: with a module that merges vectors.
        texts, seed: as for `make_encoder`.
    """
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask

    backbone = path / "backbone"
    backbone.parent.mkdir(parents=True, exist_ok=True)
    make_encoder(backbone, kind, texts=texts, seed=seed)
    with silenced(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        transformer = Transformer(
            str(backbone),
            document_length=document_length,
            query_expansion=None if expansion is None else dict(expansion),
        )
        modules: list[Any] = [transformer]
        if dim is not None:
            modules.append(
                Dense(
                    WIDTH, dim, bias=False, activation_function=torch.nn.Identity(), module_input_name=_TOKENS
                )
            )
        modules += [MultiVectorMask(skiplist_words=list(skip)), Normalize(module_input_name=_TOKENS)]
        if pooling:
            modules.append(HierarchicalTokenPooling(2.0))
        made = MultiVectorEncoder(
            modules=modules, device="cpu", prompts=dict(prompts or {}), similarity_fn_name=similarity
        )
        made.save(str(path), create_model_card=False)
    shutil.rmtree(backbone)
    return path


_TOKENS: Final = "token_embeddings"
