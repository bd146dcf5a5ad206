"""Small retrievers of other makes than GTR: real folders of sentence-transformers, random weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from encoders.transformers_output import silenced
from tests.small_models import TEXTS

WIDTH: Final = 32
LENGTH: Final = 48

# The shape that all have, in the words of most; `SHAPES` has what is other in a make.
_SHAPE: Final[Mapping[str, Any]] = {
    "hidden_size": WIDTH,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 96,
}
_DECODER: Final[Mapping[str, Any]] = {**_SHAPE, "num_key_value_heads": 2, "head_dim": 8}
SHAPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "bert": _SHAPE,
    "roberta": _SHAPE,
    "xlm-roberta": _SHAPE,
    "camembert": _SHAPE,
    "mpnet": _SHAPE,
    "electra": {**_SHAPE, "embedding_size": 24},
    "albert": {**_SHAPE, "embedding_size": 24},
    "distilbert": {
        "dim": WIDTH,
        "hidden_dim": 40,
        "n_layers": 2,
        "n_heads": 4,
        "max_position_embeddings": 96,
    },
    "modernbert": {**_SHAPE, "global_attn_every_n_layers": 2, "local_attention": 16},
    "qwen2": {**_DECODER, "tie_word_embeddings": True},
    "qwen3": {**_DECODER, "tie_word_embeddings": True},
    "llama": _DECODER,
    "mistral": _DECODER,
    "gemma": _DECODER,
    "gemma2": _DECODER,
    "gemma3_text": _DECODER,
}


def wordpiece(texts: Iterable[str] = TEXTS) -> PreTrainedTokenizerFast:
    """As BERT's: lower case, [CLS] and [SEP], and [UNK] for a word with a character that is in no piece."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    # As in published folders: what loads them must not be cut by this.
    made.enable_truncation(16)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def unigram(texts: Iterable[str] = TEXTS) -> PreTrainedTokenizerFast:
    """As XLM-R's: sentencepiece's words, <s> and </s>, and <unk> for a run of unknown characters."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def bytes_pairs(
    texts: Iterable[str] = TEXTS, *, unk: str | None = None, left: bool = False
) -> PreTrainedTokenizerFast:
    """As Qwen's and ModernBERT's: bytes, of which none is unknown, and a token that ends the text."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="$A <|endoftext|>",
                pair="$A <|endoftext|> $B <|endoftext|>",
                special_tokens=[("<|endoftext|>", 0)],
            ),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token=unk,
        padding_side="left" if left else "right",
    )


def tokenizer_of(kind: str, texts: Iterable[str] = TEXTS) -> PreTrainedTokenizerFast:
    """The tokenizer that models of this make have."""
    if kind in ("xlm-roberta", "camembert", "albert"):
        return unigram(texts)
    if kind in ("qwen2", "qwen3", "llama", "mistral", "gemma", "gemma2", "gemma3_text"):
        return bytes_pairs(texts, left=True)
    if kind in ("modernbert", "roberta"):
        return bytes_pairs(texts, unk="<|endoftext|>")
    return wordpiece(texts)


def make_retriever(
    path: Path,
    kind: str = "bert",
    *,
    pooling: str | tuple[str, ...] = "mean",
    include_prompt: bool = True,
    dense: int | None = None,
    normalize: bool = True,
    max_seq_length: int | None = LENGTH,
    prompts: Mapping[str, str] | None = None,
    dtype: str = "float32",
    texts: Iterable[str] = TEXTS,
    seed: int = 0,
    **settings: Any,
) -> Path:
    """A SentenceTransformer's folder.

    Args:
        path: the folder.
        kind: transformers' model type, one of `SHAPES`.
        pooling, include_prompt: of the Pooling.
        dense: dimensions of a Dense layer with Tanh behind it; None for none.
        normalize: whether Normalize comes last.
        max_seq_length: None: as the model's config and tokenizer have it.
        prompts: by name.
        dtype: of the weights on disk.
        texts: what the tokenizer is trained on.
        seed: of the weights.
        settings: further keys of config_sentence_transformers.json.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    from tests.small_models import edit_json

    backbone = path / "backbone"
    backbone.mkdir(parents=True)
    tokenizer = tokenizer_of(kind, list(texts))
    tokenizer.save_pretrained(backbone)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **SHAPES[kind], **ids)
    with silenced(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(config).eval()
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                # Far larger than transformers' start, so that every part of it matters.
                if tensor.dim() == 2:
                    tensor.normal_(0, 1.0 if "embed" in name else 1.5 * tensor.shape[1] ** -0.5)
        model.save_pretrained(backbone)
        transformer = Transformer(str(backbone), max_seq_length=max_seq_length)
        pool = Pooling(WIDTH, pooling_mode=pooling, include_prompt=include_prompt)
        modules: list[Any] = [transformer, pool]
        width = pool.get_embedding_dimension()
        if dense is not None:
            modules.append(Dense(width, dense))
        if normalize:
            modules.append(Normalize())
        made = SentenceTransformer(modules=modules, device="cpu", prompts=dict(prompts or {}))
        made.to(getattr(torch, dtype)).save(str(path), create_model_card=False)
    edit_json(path / "config_sentence_transformers.json", **settings)
    shutil.rmtree(backbone)
    return path
