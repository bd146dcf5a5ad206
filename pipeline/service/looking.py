"""What the page shows: a passage in its article, its tokens and states, versions compared, figures."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from encoders import fingerprint, model_folder
from encoders.errors import EncoderError
from encoders.template import PassageTemplate
from encoders.token_encoder import MULTI_VECTOR, TRANSFORMERS
from encoders.tokenizing import Tokenizer
from pipeline.accounts import facts, figures
from pipeline.service import problems
from pipeline.service.settings import ServiceSettings
from pipeline.service.states import State
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import errors
from storage.aliases import AnyArray, Json
from storage.components import MemoryCard

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.readers.answers import QuestionAnswerer

# Passages of an article shown before and after the one that is looked at.
AROUND: Final = 20
NEIGHBOURS: Final = 8
# Versions, readers and figures that are kept, each of one state.
_KEPT: Final = 4
_ENDLESS: Final = sys.maxsize
_COLUMNS: Final = ["passage_id", "page_id", "title", "section", "ordinal", "text", "words"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """How the memory encoder reads a passage.

    Attributes:
        kept: what each token that has a state stands for.
        cut: the text of the tokens at the limit that have none. `cut_tokens`: how many.
    """

    kept: tuple[str, ...]
    cut: str
    cut_tokens: int


class Looker:
    """Makes what the page shows. Thread-safe."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], Any] = OrderedDict()

    def _once(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """What is made once, and kept as long as it is among the last that were asked for."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
            self._kept.move_to_end(key)
            while len(self._kept) > 4 * _KEPT:
                self._kept.popitem(last=False)
            found: T = self._kept[key]
            return found

    def figures(self, state: State) -> Json:
        """The corpus's figures, as `memcorpus info --json` has them, but for where it lies."""
        key = ("figures", state.name, *map(str, sorted(state.corpus.manifest.aliases.items())))
        return self._once((*key, *state.corpus.manifest.versions), lambda: _figures(state))

    def look(self, state: State, passage: int, reader: MemoryReader, other: MemoryReader | None) -> Json:
        """A passage: its article around it, its tokens and the norms of their states, its neighbours.

        Args:
            state: of the corpus.
            passage: which.
            reader: of the version shown.
            other: of the version that it is compared with.
        """
        corpus = state.corpus
        row = corpus.passages([passage], columns=_COLUMNS).to_pylist()[0]
        begin, end = _document(corpus, passage)
        first, stop = max(begin, passage - AROUND), min(end, passage + AROUND + 1)
        article = corpus.passages(np.arange(first, stop), columns=_COLUMNS).to_pylist()
        pieces, unread = self._pieces(state, reader.card, row)
        values = np.asarray(reader.fetch([passage]).values)
        norms = _norms(values)
        found: Json = {
            "state": state.name,
            "passage": row,
            "article": {
                "passages": article,
                "before": first - begin,
                "after": end - stop,
            },
            "memory": {
                **_told(reader),
                "tokens": len(values),
                "limit": reader.card.layout.max_tokens,
                "norms": _rounded(norms),
                "pieces": None if pieces is None else list(pieces.kept),
                "pieces_unknown": unread,
                "cut": None if pieces is None else {"text": pieces.cut, "tokens": pieces.cut_tokens},
            },
            "neighbours": _neighbours(state, passage),
        }
        if other is not None:
            found["compared"] = {**_told(other), **_compared(values, other, passage, reader)}
        return found

    def _pieces(self, state: State, card: MemoryCard, row: Json) -> tuple[Pieces | None, str | None]:
        """How the passage was read; or None, and why it is not known."""
        if card.encoder.get("kind") in (TRANSFORMERS, MULTI_VECTOR):
            return None, "tokens are shown with their text where a T5 wrote the memory"
        try:
            tokenizer = self._once(("tokenizer", card.version), lambda: self._tokenizer(state, card))
        except (errors.CorpusError, EncoderError, OSError) as e:
            problems.LOG.warning("tokens are shown without their text: %s", e)
            return None, "the memory encoder's tokenizer is not here; start the service with --tokenizer"
        template = card.encoder.get("template")
        text = PassageTemplate(str(template)).render(
            title=row["title"], section=row["section"], text=row["text"]
        )
        ids = tokenizer([text]).ids
        limit = card.layout.max_tokens
        # What is cut is what stands before EOS at the limit; EOS itself is always kept.
        kept = ids if len(ids) <= limit else np.concatenate([ids[: limit - 1], ids[-1:]])
        lost = ids[limit - 1 : -1] if len(ids) > limit else ids[:0]
        return (
            Pieces(
                kept=tuple(tokenizer.pieces(kept)),
                cut=tokenizer.decode(lost[None])[0] if len(lost) else "",
                cut_tokens=len(lost),
            ),
            None,
        )

    def _tokenizer(self, state: State, card: MemoryCard) -> Tokenizer:
        """The tokenizer that a version was encoded with, from where it was found then.

        Raises:
            CorpusError: it is not known where that is, or another lies there.
            EncoderError: it cannot be read.
        """
        place = self._settings.tokenizer
        if place is None:
            home = state.corpus.segments[0].folder
            run = home.run_of(card.version) or home.run()
            place = run.memory_encoder if run is not None else None
        if place is None or not Path(place).is_dir():
            raise errors.CorpusError(f"the memory encoder of version {card.version} is not known here")
        digests = {
            path.name: fingerprint.digest_file(path)
            for path in model_folder.find_tokenizer_files(Path(place))
        }
        if card.encoder.get("tokenizer") != digests or "template" not in card.encoder:
            raise errors.MismatchError(f"{place} has another tokenizer than version {card.version}")
        return Tokenizer(Path(place), max_tokens=_ENDLESS)

    def answers(self, state: State, questions: list[str]) -> Json:
        """What the reader answers, and what it read; one call at a time.

        The memory is that of the current version, if it is of the reader's own encoder.
        """
        version = state.version(None)
        reader = self._once(("reader", state.name, version), lambda: self._reader(state, version))
        found = list(reader.answer(questions)) if questions else []
        wanted = sorted({read.passage_id for one in found for read in one.passages})
        rows = {row["passage_id"]: row for row in state.corpus.passages(wanted, columns=_COLUMNS).to_pylist()}
        return {
            "version": version if reader.source == "store" else None,
            "answers": [
                {
                    "text": one.text,
                    "log_probability": one.log_probability,
                    "passages": [
                        {**rows[read.passage_id], "score": read.score, "read": read.read}
                        for read in one.passages
                    ],
                }
                for one in found
            ],
        }

    def _reader(self, state: State, version: str) -> QuestionAnswerer:
        from pipeline.readers.answers import QuestionAnswerer

        assert self._settings.reader is not None
        return QuestionAnswerer(
            state.corpus,
            self._settings.reader,
            version=version if state.corpus.manifest.versions else None,
        )


def _document(corpus: Corpus, passage: int) -> tuple[int, int]:
    """The passages of an article, from and to; of a corpus that was updated, where they do not follow each
    other, the passage alone."""
    if corpus.generation:
        return passage, passage + 1
    found = corpus.documents([passage])
    return int(found.firsts[0]), int(found.stops[0])


def _figures(state: State) -> Json:
    """Without the folder, the sources and the machines of the build."""
    try:
        found: Any = figures.summary(facts.read(state.corpus.folder))
    except (errors.CorpusError, OSError) as e:
        problems.LOG.warning("the corpus's bytes cannot be told: %s", e)
        found = {"passages": len(state.corpus), "counts": state.corpus.counts}
    shown = ("passages", "words", "counts", "vectors", "index", "memory", "aliases", "bytes", "warnings")
    return {"state": state.name, **{name: found[name] for name in shown if name in found}}


def _neighbours(state: State, passage: int) -> list[Json]:
    """The passages nearest to one by its own vector; none where there is no index."""
    if not state.has_index:
        return []
    corpus = state.corpus
    query = np.asarray(corpus.vectors().take(np.array([passage], np.int64)), np.float32)
    found = corpus.search(query, min(NEIGHBOURS + 1, len(corpus)))
    others = [
        (one, score)
        for one, score in zip(found.passage_ids[0].tolist(), found.scores[0].tolist(), strict=True)
        if one != passage
    ][:NEIGHBOURS]
    rows = corpus.passages([one for one, _ in others], columns=_COLUMNS).to_pylist()
    return [{**row, "score": score} for row, (_, score) in zip(rows, others, strict=True)]


def _told(reader: MemoryReader) -> Json:
    card = reader.card
    return {
        "version": card.version,
        "codec": card.layout.codec.name,
        "width": card.layout.width,
        "encoder": card.encoder_fingerprint[:16],
        "token_bytes": card.layout.row_bytes,
    }


def _norms(values: AnyArray) -> npt.NDArray[np.float64]:
    norms: npt.NDArray[np.float64] = np.linalg.norm(values.astype(np.float64), axis=-1)
    return norms


def _compared(values: AnyArray, other: MemoryReader, passage: int, reader: MemoryReader) -> Json:
    """How far another version's states of a passage are: each token's, and the whole passage's.

    Relative errors are |a - b| / |a| of float64 sums, cosines those of the whole passage.
    """
    if other.card.encoder_fingerprint != reader.card.encoder_fingerprint:
        return {"same_encoder": False, "errors": None, "relative_error": None, "cosine": None}
    a, b = values.astype(np.float64), np.asarray(other.fetch([passage]).values).astype(np.float64)
    if a.shape != b.shape:
        raise errors.DamagedError(f"versions of one encoder give passage {passage} other numbers of tokens")
    errors_ = _norms(a - b) / np.maximum(_norms(a), np.finfo(np.float64).tiny)
    whole = np.linalg.norm(a - b) / max(np.linalg.norm(a), np.finfo(np.float64).tiny)
    product = np.linalg.norm(a) * np.linalg.norm(b)
    return {
        "same_encoder": True,
        "errors": _rounded(errors_),
        "relative_error": float(whole),
        "cosine": float((a * b).sum() / product) if product else 1.0,
    }


def _rounded(values: npt.NDArray[np.float64]) -> list[float]:
    """Six digits: they are looked at."""
    return [float(f"{value:.6g}") for value in values.tolist()]
