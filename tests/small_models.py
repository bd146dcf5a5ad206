"""Small model folders for tests: real files, random weights, made offline in well under a second."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tokenizers import normalizers
from transformers import (
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from encoders.transformers_output import silenced

TEXTS = (
    "Glasgow is a city on the River Clyde in the west central Lowlands of Scotland.",
    "The river rises in the hills of South Lanarkshire and flows north to the city.",
    "Photosynthesis turns carbon dioxide and water into sugar, and sets oxygen free.",
    "In 1905 Albert Einstein published four papers in the Annalen der Physik.",
    "A zeolite is a microporous mineral of silicon, aluminium and oxygen.",
    "The symphony was first performed in Vienna on 7 May 1824; the hall was full.",
    "Whales are descended from land mammals that returned to the sea.",
    "Tea is made by pouring hot water over the cured leaves of Camellia sinensis.",
)


def make_sentencepiece(path: Path, *, texts: Iterable[str] = TEXTS, vocab: int = 300) -> None:
    """Trains a Unigram model and writes spiece.model alone into `path`, as old T5 folders have it.

    <pad> = 0, </s> = 1, <unk> = 2. The same texts give the same bytes.

    Args:
        path: the folder, made if it is not there.
        texts: what it is trained on.
        vocab: the most pieces it may have; few texts give fewer.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / "spiece.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=file,
            vocab_size=vocab,
            hard_vocab_limit=False,
            model_type="unigram",
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=1,  # with more, the sums and so the pieces depend on their order
            minloglevel=2,
        )


def make_tokenizer(
    path: Path, *, texts: Iterable[str] = TEXTS, vocab: int = 300, extra_ids: int = 0
) -> T5Tokenizer:
    """Trains a T5 tokenizer and saves it into `path` as tokenizer.json.

    Args:
        path, texts, vocab: as for `make_sentencepiece`.
        extra_ids: sentinels <extra_id_0> ... at the end, as in T5.
    """
    make_sentencepiece(path, texts=texts, vocab=vocab)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path / "spiece.model"))
    (path / "spiece.model").unlink()
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(len(processor))]
    pieces += [(f"<extra_id_{i}>", 0.0) for i in reversed(range(extra_ids))]
    with silenced():
        tokenizer = T5Tokenizer(vocab=pieces, extra_ids=extra_ids, model_max_length=512)
        tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
        tokenizer.save_pretrained(path)
    return tokenizer


def make_t5_folder(
    path: Path,
    *,
    layers: int = 6,
    decoder_layers: int = 2,
    d_model: int = 32,
    d_ff: int = 48,
    heads: int = 4,
    d_kv: int = 8,
    texts: Iterable[str] = TEXTS,
    vocab: int = 300,
    embedding_rows: int | None = None,
    feed_forward: str = "gated-gelu",
    decoder: bool = False,
    tied: bool = False,
    sharded: bool = False,
    dtype: str = "float32",
    seed: int = 0,
) -> Path:
    """A T5 with random weights, as transformers saves it, with a tokenizer.

    Args:
        path: the folder.
        layers, d_model, d_ff, heads, d_kv: shape of the encoder.
        decoder_layers: of the decoder, if it has one.
        texts, vocab: what the tokenizer is trained on, and its most pieces.
        embedding_rows: rows of the embedding; as many as the tokenizer has if not given.
        feed_forward: "gated-gelu" or "relu".
        decoder: T5ForConditionalGeneration instead of T5EncoderModel, with a head of its own as in T5.1.1.
        tied: the decoder's head is the embedding, as in T5 1.0, and its outputs are scaled.
        sharded: several safetensors files and an index.
        dtype: "float32", "float16" or "bfloat16", on disk.
        seed: of the weights; everything else being equal, the same seed gives the same bytes.

    Returns:
        `path`.
    """
    tokenizer = make_tokenizer(path, texts=texts, vocab=vocab)
    config = T5Config(
        vocab_size=embedding_rows or len(tokenizer),
        d_model=d_model,
        d_kv=d_kv,
        d_ff=d_ff,
        num_layers=layers,
        num_decoder_layers=decoder_layers,
        num_heads=heads,
        feed_forward_proj=feed_forward,
        decoder_start_token_id=0,
        tie_word_embeddings=tied,
    )
    model = random_t5(config, decoder=decoder, seed=seed).to(getattr(torch, dtype))
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    with silenced():
        model.save_pretrained(path, max_shard_size=max(total // 3, 1) if sharded else "50GB")
    return path


def random_t5(config: T5Config, *, decoder: bool = False, seed: int = 0) -> Any:
    """A T5 whose weights make every part of it matter, unlike those of transformers' own start.

    Norm scales vary, the relative bias is of the size of the scores, attention is far from uniform,
    and each block's outputs are of the residual stream's size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (T5ForConditionalGeneration if decoder else T5EncoderModel)(config).eval()
        if decoder and not config.scale_decoder_outputs:
            # transformers ties them when it makes a T5.1.1, and unties them when it reads one.
            model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                if "relative_attention_bias" in name:
                    tensor.normal_(0, 1.0)
                elif "layer_norm" in name:
                    tensor.uniform_(0.5, 1.5)
                elif name.endswith("SelfAttention.q.weight"):
                    tensor.normal_(0, 1.5 * (config.d_model * config.d_kv) ** -0.5)
                elif tensor.dim() == 2 and "shared" not in name:
                    tensor.normal_(0, tensor.shape[1] ** -0.5)
    return model


def make_gtr_folder(
    path: Path,
    *,
    layers: int = 2,
    d_model: int = 32,
    d_ff: int = 48,
    heads: int = 4,
    d_kv: int = 8,
    dim: int = 24,
    texts: Iterable[str] = TEXTS,
    vocab: int = 300,
    dense: bool = True,
    normalize: bool = True,
    max_seq_length: int = 64,
    dtype: str = "float32",
    seed: int = 0,
) -> Path:
    """A retriever as sentence-transformers saves GTR: T5 encoder, mean, Dense, L2 norm.

    Args:
        path: the folder.
        layers, d_model, d_ff, heads, d_kv: shape of the T5 1.0 encoder (relu).
        dim: width of the Dense layer, and so of the vectors.
        texts, vocab: what the tokenizer is trained on, and its most pieces.
        dense, normalize: leave these modules out if false.
        max_seq_length: what the folder says texts are cut to.
        dtype: "float32" or "float16" (as GTR is published), on disk.
        seed: of the weights.

    Returns:
        `path`.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    backbone = path / "backbone"
    make_t5_folder(
        backbone,
        layers=layers,
        d_model=d_model,
        d_ff=d_ff,
        heads=heads,
        d_kv=d_kv,
        texts=texts,
        vocab=vocab,
        feed_forward="relu",
        dtype=dtype,
        seed=seed,
    )
    with silenced(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = Transformer(str(backbone), max_seq_length=max_seq_length)
        modules: list[Any] = [transformer, Pooling(d_model, pooling_mode="mean")]
        if dense:
            modules.append(Dense(d_model, dim, bias=False, activation_function=torch.nn.Identity()))
        if normalize:
            modules.append(Normalize())
        model = SentenceTransformer(modules=modules, device="cpu").to(getattr(torch, dtype))
        model.save(str(path), create_model_card=False)
    shutil.rmtree(backbone)
    return path


def edit_json(path: Path, **changes: Any) -> None:
    """Changes keys of a JSON object in a file; None deletes."""
    value = json.loads(path.read_text())
    for key, new in changes.items():
        if new is None:
            value.pop(key, None)
        else:
            value[key] = new
    path.write_text(json.dumps(value))


def edit_tensor(path: Path, name: str, *, add: float = 1.0) -> None:
    """Adds to the first element of one tensor of a safetensors file."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    tensors[name].view(-1)[0] += add
    save_file(tensors, path, metadata={"format": "pt"})


def make_llama_folder(
    path: Path,
    *,
    layers: int = 3,
    d_model: int = 32,
    d_ff: int = 48,
    heads: int = 4,
    key_heads: int = 2,
    head_dim: int | None = None,
    texts: Iterable[str] = TEXTS,
    vocab: int = 300,
    tied: bool = False,
    theta: float = 10_000.0,
    dtype: str = "float32",
    seed: int = 0,
) -> Path:
    """A Llama with random weights that make every part of it matter, as transformers saves it, with the
    tokenizer of `make_tokenizer`.

    Args:
        path: the folder.
        layers, d_model, d_ff, heads, key_heads, head_dim, tied, theta: its shape.
        texts, vocab: what the tokenizer is trained on, and its most pieces.
        dtype: on disk.
        seed: of the weights.

    Returns:
        `path`.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(path, texts=texts, vocab=vocab)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=d_model,
        intermediate_size=d_ff,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=head_dim,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=1,
    )
    with torch.random.fork_rng(devices=[]), silenced():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                if "norm" in name:
                    tensor.uniform_(0.5, 1.5)
                elif name.endswith("q_proj.weight"):
                    tensor.normal_(0, 2 * tensor.shape[1] ** -0.5)
                else:
                    tensor.normal_(0, tensor.shape[1] ** -0.5)
        model.to(getattr(torch, dtype)).save_pretrained(path)
    return path
