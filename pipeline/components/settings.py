"""What a build is told: one frozen object, from the command line or a TOML file, that checks itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from encoders import memory_spec, template
from encoders.memory_spec import MemorySpec
from encoders.retriever import BACKENDS
from pipeline.text import passages
from pipeline.text.wikitext import own_templates
from pipeline.text.wikitext.own_templates import OwnTemplates
from pipeline.units import settings_file
from storage import codecs, errors, vector_array
from storage.aliases import Json
from storage.components.tokens import MOST_TOKENS

SPLIT_BYTES: Final = 32 << 20
MAX_QUARANTINED: Final = 0.01
ALL_DEVICES: Final = "all"
_DEVICES: Final = re.compile(r"[a-z]+|[a-z]+:\d+")

# Settings that `BuildSettings.deciding` leaves out.
_UNDECIDING: Final = (
    *("sources", "retriever", "memory_encoder", "max_quarantined", "shard_timeout"),
    *("device", "model_parallel", "memory", "templates", "tokenizer"),
)
# The order in which every corpus has the first of them.
_FIRST: Final = (
    *("live_proportion", "codec", "compute_dtype", "token_budget", "max_tokens", "passage_words"),
    "memory_template",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSettings:
    """Settings of a build.

    Attributes:
        sources: FORMAT:PATH each, read in this order.
        retriever: name or folder of a SentenceTransformer.
        retriever_backend: what runs it, of `encoders.retriever.BACKENDS`; None: jax if it can, which depends
            on the model alone.
        memory_encoder: name or folder of a T5.1.1 model.
        memory: what makes memory of a passage, beside the encoder.
        codec: how memory is stored.
        passage_words: words of a passage, at most.
        keep_sections: make passages of sections that are no prose too: "See also", "References", their kind.
        templates: TOML file of templates of the wiki's own (`pipeline.text.wikitext.own_templates`); None:
            only those that are built in. Its names decide what is built, wherever the file lies.
        passage_tokens: a passage is a run of so many tokens, through the sections of its article, instead: a
            chunk of RETRO, which has 64; None: it is cut by words.
        tokenizer: name or folder of the tokenizer that cuts; goes with `passage_tokens`.
        retriever_template: a passage's text as the retriever reads it.
        vector_dtype: of the stored vectors.
        index_recall: share of the exact ten nearest passages that a search of an index of lists is to find:
            by it is chosen how many lists a search looks into; None: `retrieval.index_building` says.
        shard_passages: passages a shard; None: sized by the corpus and the model.
        split_bytes: bytes on the disk of a source that one worker reads at a time.
        max_quarantined: share of the pages that may be unreadable before the build gives up.
        shard_timeout: seconds that reading, encoding or writing one shard may take before the build gives up,
            loading models and compiling included; None: however long. It decides nothing of what is built.
        device: where both models run: all local devices, a kind (cpu, gpu), or one of a kind (gpu:1). As the
            kind of machine does, it decides rounding at most.
        model_parallel: devices that share one copy of the memory encoder; None: as few as hold it.
    """

    sources: tuple[str, ...]
    retriever: str
    memory_encoder: str
    memory: MemorySpec
    codec: str = codecs.BFLOAT16.name
    passage_words: int = passages.PASSAGE_WORDS
    keep_sections: bool = False
    templates: str | None = None
    retriever_template: str = template.RETRIEVER_TEMPLATE
    vector_dtype: str = "float32"
    retriever_backend: str | None = None
    passage_tokens: int | None = None
    tokenizer: str | None = None
    index_recall: float | None = None
    shard_passages: int | None = None
    split_bytes: int = SPLIT_BYTES
    max_quarantined: float = MAX_QUARANTINED
    shard_timeout: float | None = None
    device: str = ALL_DEVICES
    model_parallel: int | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise errors.CorpusError("no source given; add --source FORMAT:PATH")
        codecs.by_name(self.codec)
        _one_of("vector dtype", self.vector_dtype, vector_array.DTYPES)
        if self.retriever_backend is not None:
            _one_of("retriever backend", self.retriever_backend, BACKENDS)
        _at_least("passage words", self.passage_words, 1)
        self._check_tokens()
        _at_least("split bytes", self.split_bytes, 1)
        if not 0 <= self.max_quarantined <= 1:
            raise errors.CorpusError(f"max quarantined is {self.max_quarantined}, wanted a share from 0 to 1")
        if self.shard_timeout is not None and not self.shard_timeout > 0:
            raise errors.CorpusError(f"shard timeout is {self.shard_timeout}, wanted more than 0 seconds")
        check_devices(self.device, self.model_parallel)
        rows = vector_array.CHUNK_ROWS
        if self.shard_passages is not None and (self.shard_passages < rows or self.shard_passages % rows):
            raise errors.CorpusError(
                f"shard passages is {self.shard_passages}, wanted a multiple of {rows}, "
                "the rows of a chunk of vectors"
            )
        if self.index_recall is not None and not 0 < self.index_recall <= 1:
            raise errors.CorpusError(
                f"index recall is {self.index_recall}, wanted a share above 0 and up to 1"
            )
        template.PassageTemplate(self.retriever_template)

    def _check_tokens(self) -> None:
        """Passages are cut by words or by tokens, and tokens are some tokenizer's."""
        if self.passage_tokens is None:
            if self.tokenizer is not None:
                raise errors.CorpusError(
                    f"tokenizer {self.tokenizer} is given without --passage-tokens; add it, or leave both out"
                )
            return
        if self.tokenizer is None:
            raise errors.CorpusError(
                f"passages of {self.passage_tokens} tokens need a tokenizer; add --tokenizer DIR"
            )
        if not 1 <= self.passage_tokens <= MOST_TOKENS:
            raise errors.CorpusError(f"passage tokens is {self.passage_tokens}, wanted 1 to {MOST_TOKENS:,}")
        if self.passage_words != passages.PASSAGE_WORDS:
            raise errors.CorpusError(
                f"passages are cut by {self.passage_words} words or by {self.passage_tokens} tokens; "
                "leave out --passage-words or --passage-tokens"
            )

    @classmethod
    def load(cls, config: Path | None, given: Mapping[str, Any]) -> BuildSettings:
        """Merge a TOML file with what the command line gave; the command line wins.

        Raises:
            CorpusError: unreadable TOML, an unknown or missing key, a value of the wrong kind.
        """
        own = [field for field in fields(cls) if field.name != "memory"]
        known = [*(field.name for field in own), *memory_spec.SETTINGS]
        values = {} if config is None else settings_file.read(config, known)
        values |= given
        for required in ("sources", "retriever", "memory_encoder", "live_proportion"):
            if values.get(required) in (None, "", [], ()):
                option = "source" if required == "sources" else required.replace("_", "-")
                raise errors.CorpusError(f"no {option} given; add --{option}, or {required} to --config")
        if isinstance(values["sources"], str):
            values["sources"] = [values["sources"]]
        if not isinstance(values["sources"], list | tuple):
            raise errors.CorpusError(f"setting sources is {values['sources']!r}, wanted a list of strings")
        values["sources"] = tuple(values["sources"])
        for field in own:
            if field.name in values:
                _check_type(field.name, str(field.type), values[field.name])
        memory = MemorySpec().changed(values)
        return cls(
            memory=memory,
            **{name: value for name, value in values.items() if name not in memory_spec.SETTINGS},
        )

    def own_templates(self) -> OwnTemplates:
        """The templates that `templates` names.

        Raises:
            CorpusError: it cannot be read, or says what has no meaning.
        """
        return own_templates.NONE if self.templates is None else own_templates.read(Path(self.templates))

    def deciding(self) -> Json:
        """The settings that decide what is built, as JSON. Models and sources go by digest instead."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        found = {name: value for name, value in found.items() if name not in _UNDECIDING}
        found |= {
            name: value for name, value in self.memory.to_json().items() if name in memory_spec.SETTINGS
        }
        # Of the two ways to cut, the one that decides. A plan of before there were two has the first.
        found.pop("passage_tokens" if self.passage_tokens is None else "passage_words")
        if self.index_recall is None:  # nor has a plan of before it could be asked for
            del found["index_recall"]
        return {name: found.pop(name) for name in _FIRST if name in found} | found


def check_devices(device: str, model_parallel: int | None) -> None:
    """Refuse what names no devices anywhere; whether they are there, each worker sees."""
    if not _DEVICES.fullmatch(device):
        raise errors.CorpusError(
            f"device is {device!r}, wanted all, a kind such as cpu or gpu, or one of a kind, such as gpu:1"
        )
    if model_parallel is not None:
        _at_least("model parallel", model_parallel, 1)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise errors.CorpusError(f"unknown {name} {value!r}; known are {', '.join(known)}")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise errors.CorpusError(f"{name} is {value}, wanted {least} or more")


def _check_type(name: str, annotation: str, value: object) -> None:
    """TOML brings its own types; a wrong one is named before it does harm further on."""
    wanted: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "bool": (bool,),
        "int": (int,),
        "float": (int, float),
        "float | None": (int, float, type(None)),
        "int | None": (int, type(None)),
        "str | None": (str, type(None)),
        "tuple[str, ...]": (tuple,),
    }
    if not isinstance(value, wanted[annotation]) or isinstance(value, bool) != (annotation == "bool"):
        raise errors.CorpusError(f"setting {name} is {value!r}, wanted {annotation}")
    if isinstance(value, tuple) and not all(isinstance(item, str) for item in value):
        raise errors.CorpusError(f"setting {name} is {value!r}, wanted a list of strings")
