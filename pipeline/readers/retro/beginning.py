"""What a RETRO's training run is made of, read and checked before anything is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from encoders import fingerprint, model_folder, token_bytes
from encoders.retro import config as shapes
from encoders.retro import folder as retro_folder
from encoders.retro.config import EncoderConfig, LanguageConfig, RetroConfig
from encoders.retro.folder import RetroFolder, RetroSettings
from encoders.retro.training import ALL, LANGUAGE, RETRIEVAL, RetroTraining
from pipeline.readers.retro import encodings, opening
from pipeline.readers.retro.opening import CorpusChunks
from pipeline.readers.retro.retrieval import OFF
from pipeline.readers.retro.run import Run
from retrieval.corpus import Corpus
from storage import errors


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A training run as it is asked for.

    Args:
        model: the language model's folder, a Llama's or a RETRO's; None draws all weights.
        tokenizer: a folder with it, where there is no model.
        width, layers, heads, head_width: of a language model that is drawn.
        learns: as in `RetroTraining`; None for "retrieval" with a model, and "all" without.
        encoding: as in `RetroConfig`.
        memory: version of the corpus, of "stored".
        encoder_width, encoder_layers, encoder_heads, encoder_head_width, shared_embedding: of the encoder.
        cca_layers: empty for the paper's by depth.
        retrieval: the mode, while it trains.
        table: of the corpus.
        count: k.
        window: chunks of a row.
        dev: name of the held-out corpus.
        steps, every, batch, micro_batch, learning_rate, warmup, dropout, weight_decay, seed: of training.
        compute_dtype: of the model.
    """

    model: str | None
    tokenizer: str | None
    width: int
    layers: int
    heads: int
    head_width: int
    learns: str | None
    encoding: str
    memory: str | None
    encoder_width: int
    encoder_layers: int
    encoder_heads: int
    encoder_head_width: int
    shared_embedding: bool
    cca_layers: tuple[int, ...]
    retrieval: str
    table: str | None
    count: int
    window: int
    dev: str | None
    steps: int
    every: int
    batch: int
    micro_batch: int | None
    learning_rate: float
    warmup: int
    dropout: float
    weight_decay: float
    seed: int
    compute_dtype: str


def prepare(asked: Asked, corpus: Corpus, dev: Corpus | None) -> Run:
    """Read and check all that a run needs; nothing is written.

    Args:
        asked: what is asked for.
        corpus: the text, which is also the database.
        dev: a held-out text, with a table of neighbours in the corpus.

    Raises:
        CorpusError: something is asked for that does not go together.
        ModelFolderError: the model cannot be used.
        MismatchError: text, tables and model do not belong together.
    """
    if (asked.model is None) == (asked.tokenizer is None):
        raise errors.CorpusError("give --model to begin with, or --tokenizer to draw all weights")
    learns = asked.learns or (ALL if asked.model is None else RETRIEVAL)
    if learns == LANGUAGE:
        asked = replace(asked, retrieval=OFF)
    elif asked.retrieval == OFF:
        raise errors.CorpusError("with --retrieval off only the language model learns: --learns language")
    if learns == RETRIEVAL and asked.model is None:
        raise errors.CorpusError(
            "--learns retrieval keeps the language model as it is, and none was given; give --model"
        )
    training = RetroTraining(
        learns=learns,
        steps=asked.steps,
        learning_rate=asked.learning_rate,
        warmup=asked.warmup,
        batch=asked.batch,
        micro_batch=asked.batch if asked.micro_batch is None else asked.micro_batch,
        dropout=asked.dropout,
        weight_decay=asked.weight_decay,
        seed=asked.seed,
    )
    opened = _opened(asked, corpus)
    opening.require_chunks(corpus, opened)
    memory = asked.memory if asked.retrieval != OFF else None
    text = opening.text(
        corpus, opened.settings, mode=asked.retrieval, table=asked.table, memory=memory, seed=asked.seed
    )
    judged = None
    if dev is not None:
        opening.require_chunks(dev, opened)
        judged = opening.text(dev, opened.settings, mode=asked.retrieval, database=corpus, memory=memory)
    plan = {
        "retro": opened.settings.to_json(),
        "training": asdict(training),
        "every": asked.every,
        "text": opening.described(corpus, text),
        "dev": None if dev is None or judged is None else opening.described(dev, judged),
        "weights": (
            None
            if asked.model is None
            else fingerprint.digest_tensors(model_folder.find_tensors(opened.path))
        ),
        "tokenizer": {
            path.name: fingerprint.digest_file(path)
            for path in model_folder.find_tokenizer_files(opened.path)
        },
    }
    return Run(
        opened=opened,
        training=training,
        text=text,
        plan=plan,
        every=asked.every,
        dev=judged,
        counts=None if judged is None else token_bytes.read(opened.path),
    )


def _opened(asked: Asked, corpus: Corpus) -> RetroFolder:
    """What training begins with."""
    chunks = CorpusChunks(corpus)
    if asked.model is not None:
        language = retro_folder.read_language(asked.model)
    else:
        language = LanguageConfig(
            vocab_size=chunks.vocabulary,
            d_model=asked.width,
            d_head=asked.head_width,
            d_ff=4 * asked.width,
            layers=asked.layers,
            heads=asked.heads,
        )
    memory_encoder, width, places, encoder = None, None, 2 * chunks.width, None
    card: Any
    if asked.encoding == shapes.STORED:
        card = corpus.memory(asked.memory).card
        memory_encoder, width = card.encoder_fingerprint, card.layout.width
        # Of a chunk and its continuation each, or of both together.
        places = (1 if encodings.continued(card) else 2) * card.layout.max_tokens
    elif asked.encoding == shapes.VECTORS:
        card = corpus.vectors_card
        memory_encoder, width, places = card.encoder_fingerprint, card.layout.dim, 2
    else:
        encoder = EncoderConfig(
            d_model=asked.encoder_width,
            d_head=asked.encoder_head_width,
            d_ff=4 * asked.encoder_width,
            layers=asked.encoder_layers,
            heads=asked.encoder_heads,
            shared_embedding=asked.shared_embedding,
        )
    settings = RetroSettings(
        config=RetroConfig(
            language=language,
            encoding=asked.encoding,
            encoder=encoder,
            memory_width=width,
            chunk_tokens=chunks.width,
            neighbours=asked.count,
            neighbour_tokens=places,
            cca_layers=asked.cca_layers or shapes.default_cca_layers(language.layers),
        ),
        compute_dtype=asked.compute_dtype,
        window=asked.window,
        memory_encoder=memory_encoder,
    )
    if asked.model is None:
        assert asked.tokenizer is not None
        return retro_folder.from_nothing(asked.tokenizer, settings, seed=asked.seed)
    return retro_folder.from_language(asked.model, settings, seed=asked.seed)
