"""The demo's retriever, trained on the spot.

`gtr-tiny` has the shape of the published GTR models (T5 encoder, mean pooling, a dense layer without
bias, normalization) and is trained on questions about the tables, so that a search for a question
finds its article. It sees no question about the entities of the dev and test splits.
"""

from __future__ import annotations

import io
import math
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import sentencepiece
import torch
import transformers
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from examples.miniwiki.markup import Draft
from examples.miniwiki.pages import drafts
from examples.miniwiki.questions import Question, questions
from examples.miniwiki.shipped import GTR_NAME as GTR_NAME
from examples.miniwiki.tables import split_of

try:  # sentence-transformers 6 moved its modules
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
except ImportError:
    from sentence_transformers.models import Dense, Normalize, Pooling, Transformer

PASSAGE_WORDS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Sizes and length of the training; the defaults take well under a minute on two cores."""

    vocabulary: int = 6000
    dim: int = 128
    steps: int = 90
    batch: int = 128
    query_tokens: int = 24
    passage_tokens: int = 48
    learning_rate: float = 4e-3
    temperature: float = 0.06

    def __post_init__(self) -> None:
        for name, least in (("vocabulary", 500), ("dim", 32), ("steps", 1), ("batch", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted at least {least}")
        if self.dim % 32:
            raise ValueError(f"dim is {self.dim}, wanted a multiple of 32 (the size of a head)")


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrieverReport:
    """What was made, how long it took, and how well the retriever finds the article asked for."""

    gtr: Path
    vocabulary: int
    passages: int
    train_questions: int
    held_out_questions: int
    recall_at_5: float
    entity_recall_at_5: float
    unseen_recall_at_5: float
    tokenizer_s: float
    training_s: float
    total_s: float

    def as_dict(self) -> dict[str, object]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"gtr": str(self.gtr)}


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage in the form the retriever reads it: the title, a space, up to 200 words."""

    title: str
    text: str


def passages_of(articles: Sequence[Draft]) -> list[Passage]:
    """The articles' passages, cut as the pipeline cuts them: never across a section."""
    found = []
    for draft in articles:
        for _, text in draft.plain_sections():
            words = text.split()
            for start in range(0, len(words), PASSAGE_WORDS):
                piece = " ".join(words[start : start + PASSAGE_WORDS])
                found.append(Passage(draft.title, f"{draft.title} {piece}"))
    return found


def make_retriever(
    out_dir: Path | str,
    *,
    seed: int = 0,
    articles: int | None = None,
    settings: Settings | None = None,
) -> RetrieverReport:
    """Make `gtr-tiny/` under `out_dir`, with its tokenizer.

    The same seed, settings and machine kind give the same weights.

    Args:
      out_dir: gets the folder.
      seed: of the articles' phrasing, the initial weights and the order of training.
      articles: train on the first articles only; None for those of the tables, as in the demo.
      settings: sizes; the defaults are those of the demo.

    Returns:
      The folder, times, and recall: the share of held-out questions whose article is among the
      articles of the five best passages; the share of entities for which that is so for most
      of their held-out questions; and the former over the questions about entities of the dev and
      test splits, of which it saw the articles alone.
    """
    settings = settings or Settings()
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    passages = passages_of(list(drafts(articles, seed)))
    titles = {passage.title for passage in passages}
    asked = [question for question in questions() if question.title in titles]
    train = [q for q in asked if not q.held_out and split_of(q.title) == "train"]
    held_out = [q for q in asked if q.held_out and split_of(q.title) == "train"]
    unseen = [q for q in asked if split_of(q.title) != "train"]
    with _quiet(), _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # All of the tables' texts, so that every character of a name has its piece.
        texts = [p.text for p in passages_of(list(drafts(seed=seed)))] + [q.text for q in train]
        tokenizer = train_tokenizer(texts, settings.vocabulary)
        tokenizer_s = time.perf_counter() - begin
        encoder, dense = _train(tokenizer, passages, train, settings, seed)
        training_s = time.perf_counter() - begin - tokenizer_s
        gtr = _save_gtr(out_dir / GTR_NAME, tokenizer, encoder, dense)
        recall, by_entity = recall_at(5, gtr, passages, held_out)
        unseen_recall, _ = recall_at(5, gtr, passages, unseen)
    report = RetrieverReport(
        gtr=gtr,
        vocabulary=len(tokenizer),
        passages=len(passages),
        train_questions=len(train),
        held_out_questions=len(held_out),
        recall_at_5=recall,
        entity_recall_at_5=by_entity,
        unseen_recall_at_5=unseen_recall,
        tokenizer_s=round(tokenizer_s, 2),
        training_s=round(training_s, 2),
        total_s=round(time.perf_counter() - begin, 2),
    )
    card = (
        f"# {GTR_NAME}\n{_GTR_CARD}\nRecall@5 by page: {recall:.3f} on other wordings of the questions it "
        f"was trained on, {unseen_recall:.3f} on entities that it was asked nothing about.\n"
    )
    (gtr / "README.md").write_text(card, encoding="utf-8")
    return report


def train_tokenizer(texts: Sequence[str], size: int) -> T5Tokenizer:
    """A Unigram tokenizer laid out as T5's: <pad> 0, </s> 1 (appended to every text), <unk> 2.

    SentencePiece on one thread gives the same pieces every time; the trainer of `tokenizers`, whose
    hash tables are seeded anew in each process, does not. `size` is the most it may have.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="unigram",
        vocab_size=size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        required_chars="".join(map(chr, range(33, 127))),
        normalization_rule_name="identity",
        max_sentence_length=1 << 20,
        num_threads=1,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    count = trained.get_piece_size()
    vocabulary = [(trained.id_to_piece(i), trained.get_score(i)) for i in range(count)]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)


def recall_at(
    k: int, folder: Path, passages: Sequence[Passage], asked: Sequence[Question]
) -> tuple[float, float]:
    """Recall of the saved retriever, over questions and over entities (see `make_models`)."""
    model = SentenceTransformer(str(folder), device="cpu")
    options: dict[str, Any] = {"show_progress_bar": False, "convert_to_tensor": True, "batch_size": 64}
    memory = model.encode([p.text for p in passages], **options)
    queries = model.encode([q.text for q in asked], **options)
    best = (queries @ memory.T).topk(min(k, len(passages)), dim=1).indices.tolist()
    hits: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for question, rows in zip(asked, best, strict=True):
        totals[question.title] += 1
        hits[question.title] += any(passages[row].title == question.title for row in rows)
    most = sum(2 * hits[title] > total for title, total in totals.items())
    return round(hits.total() / max(1, len(asked)), 4), round(most / max(1, len(totals)), 4)


def _train(
    tokenizer: T5Tokenizer,
    passages: Sequence[Passage],
    asked: Sequence[Question],
    settings: Settings,
    seed: int,
) -> tuple[T5EncoderModel, Tensor]:
    """Contrastive training with in-batch negatives; returns the encoder and the dense weight."""
    rng = Random(seed)
    by_title: dict[str, list[int]] = {}
    for row, passage in enumerate(passages):
        by_title.setdefault(passage.title, []).append(row)
    ids = tokenizer([p.text for p in passages], add_special_tokens=False)["input_ids"]
    titles_ids = tokenizer([p.title for p in passages], add_special_tokens=False)["input_ids"]
    heads = [len(row) for row in titles_ids]
    encoder, dense = _initial(len(tokenizer), ids, settings)
    weights = [*encoder.parameters(), dense]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.learning_rate, total_steps=settings.steps, pct_start=0.1
    )
    # A question's passages: those of its article that hold an answer, else its lead.
    pairs: list[tuple[str, list[int], str]] = []
    for question in asked:
        rows = by_title[question.title]
        holding = [row for row in rows if any(a in passages[row].text for a in question.answers)]
        pairs.append((question.text, holding or rows[:1], question.title))
    encoder.train()
    for batch in _batches(pairs, passages, settings, rng):
        texts, chosen, titles = zip(*batch, strict=True)
        queries = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        q = _embed(encoder, dense, queries, settings.query_tokens)
        cut = [_window(ids[row], heads[row], settings.passage_tokens, rng) for row in chosen]
        p = _embed(encoder, dense, cut, settings.passage_tokens)
        scores = q @ p.T / settings.temperature
        # Another passage of the same article is no negative.
        same = torch.tensor([[a == b for b in titles] for a in titles])
        same.fill_diagonal_(False)
        scores = scores.masked_fill(same, float("-inf"))
        labels = torch.arange(len(batch))
        loss = nn.functional.cross_entropy(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
    return encoder.eval(), dense.detach()


def _window(ids: list[int], head: int, limit: int, rng: Random) -> list[int]:
    """A passage cut to the training's length: its title, and a random stretch of its text."""
    room = limit - 1 - head
    if len(ids) < limit or room < 1:
        return ids
    start = rng.randint(head, len(ids) - room)
    return ids[:head] + ids[start : start + room]


def _batches(
    pairs: list[tuple[str, list[int], str]],
    passages: Sequence[Passage],
    settings: Settings,
    rng: Random,
) -> Iterator[list[tuple[str, int, str]]]:
    """Batches of (query, passage row, title): mostly questions, and some words of a passage itself.

    The latter teach the matching of words, by which questions that nobody trained on are found.
    """
    own = settings.batch // 5
    order: list[int] = []
    for _ in range(settings.steps):
        batch = []
        for _ in range(settings.batch - own):
            if not order:
                order = rng.sample(range(len(pairs)), len(pairs))
            text, rows, title = pairs[order.pop()]
            batch.append((text, rng.choice(rows), title))
        for row in rng.sample(range(len(passages)), min(own, len(passages))):
            words = passages[row].text.split()
            start = rng.randrange(max(1, len(words) - 6))
            few = words[start : start + rng.randint(3, 7)]
            query = " ".join([passages[row].title, *few] if rng.random() < 0.5 else few)
            batch.append((query, row, passages[row].title))
        yield batch


def _initial(
    vocabulary: int, ids: Sequence[Sequence[int]], settings: Settings
) -> tuple[T5EncoderModel, Tensor]:
    """An encoder that begins as a weighted bag of words, so that short training suffices.

    T5's last layer norm gives every token the same length, which would let frequent words drown
    rare ones. So each token's vector starts with a rare word's length in the dimensions that the
    dense layer keeps and a frequent word's length in those that it drops.
    """
    dim, spare = settings.dim, settings.dim // 16
    config = T5Config(
        vocab_size=vocabulary,
        d_model=dim,
        d_kv=32,
        d_ff=2 * dim,
        num_layers=2,
        num_heads=dim // 32,
        dropout_rate=0.0,
        feed_forward_proj="relu",
        use_cache=False,
        pad_token_id=0,
        eos_token_id=1,
    )
    encoder = T5EncoderModel(config)
    frequency = torch.ones(vocabulary)
    for row in ids:
        frequency[torch.tensor(sorted(set(row)), dtype=torch.long)] += 1
    rarity = (torch.log((len(ids) + 1) / frequency) / math.log(len(ids) + 1)).clamp(0.02, 1.0)
    kept = nn.functional.normalize(torch.randn(vocabulary, dim - spare), dim=1)
    dropped = nn.functional.normalize(torch.ones(vocabulary, spare), dim=1)
    vectors = torch.cat([rarity[:, None] * kept, (1 - rarity**2).sqrt()[:, None] * dropped], dim=1)
    with torch.no_grad():
        encoder.shared.weight.copy_(vectors * math.sqrt(dim))
        for name, weight in encoder.named_parameters():
            if name.endswith((".o.weight", ".wo.weight")):
                weight.mul_(0.1)
    dense = torch.eye(dim)
    dense[:, dim - spare :] = 0
    dense += 0.01 * torch.randn(dim, dim)
    return encoder, dense.requires_grad_()


def _embed(encoder: T5EncoderModel, dense: Tensor, rows: Sequence[Sequence[int]], limit: int) -> Tensor:
    """[rows, dim] unit vectors of token ids, cut to `limit` tokens with </s>."""
    cut = [[*row[: limit - 1], 1] for row in rows]
    longest = max(map(len, cut))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in cut])
    mask = (ids != 0).long()
    states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    mean = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    return nn.functional.normalize(mean @ dense.T, dim=1)


def _save_gtr(folder: Path, tokenizer: T5Tokenizer, encoder: T5EncoderModel, dense: Tensor) -> Path:
    # Through a folder of its own: the Transformer module reads its weights from disk.
    encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    body = Transformer(str(folder), max_seq_length=512)
    dim = dense.shape[0]
    projection = Dense(dim, dim, bias=False, activation_function=nn.Identity())
    with torch.no_grad():
        projection.linear.weight.copy_(dense)
    parts = [body, Pooling(dim, "mean"), projection, Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder), create_model_card=False)
    return folder


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread: sums come out the same on any number of cores, and a busy neighbour costs little.

    At these sizes a second thread gains less than half, and waiting for it on a shared core loses
    far more.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no warnings; what was set before comes back afterwards."""
    before = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    parallel = os.environ.get("TOKENIZERS_PARALLELISM")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(before)
        if bars:
            transformers.logging.enable_progress_bar()
        if parallel is not None:
            os.environ["TOKENIZERS_PARALLELISM"] = parallel


_GTR_CARD = """\
A tiny retriever in the shape of GTR: T5 encoder, mean pooling, dense layer without bias, unit length.
Trained for seconds on questions about the miniwiki, for demonstrations and tests; it knows nothing else.
"""
