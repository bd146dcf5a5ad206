"""The files of a memory version, opened in all segments of a corpus."""

from __future__ import annotations

from collections.abc import Sequence

from storage import codec_parameters, components, errors, remote_memory
from storage.components import MemoryCard
from storage.joined_memory import JoinedMemoryFiles, Piece
from storage.memory_files import MemoryFiles
from storage.segments import Segment


def open_files(segments: Sequence[Segment], card: MemoryCard) -> MemoryFiles | JoinedMemoryFiles:
    """The files of a version, joined where the corpus has several segments.

    Segments in which the version was left behind have none; to ask for their passages is an error.

    Args:
        segments: of the corpus.
        card: the version's, in the first of them.

    Raises:
        MismatchError: a segment's are of other passages, or hold rows that are not read like the first's.
        DamagedError: one of them is not as it was written.
    """
    pieces = []
    for part in segments:
        if card.version in part.manifest.of(components.MEMORY):
            pieces.append(_piece(part, card, home=part is segments[0]))
            continue
        why = (
            f"memory version {card.version} was left behind by update {part.number}, and has none of "
            f"passages {part.first} to {part.stop - 1}; bring it forward by the `memcorpus reencode` that "
            "made it"
        )
        pieces.append(Piece(first=part.first, passages=part.passages, files=None, why=why))
    if len(pieces) == 1 and pieces[0].files is not None:
        return pieces[0].files
    return JoinedMemoryFiles(pieces)


def _piece(part: Segment, first: MemoryCard, *, home: bool) -> Piece:
    """The files of a version in one segment; `first` is its card in the first, which is `home`."""
    name = first.version
    card = part.card(components.MEMORY, name)
    if card.layout.grid.passages != part.passages:
        raise errors.MismatchError(
            f"memory version {name} holds {card.layout.grid.passages} passages, the corpus {part.passages}"
        )
    for what, ours, theirs in (
        ("width", card.layout.width, first.layout.width),
        ("codec", card.layout.codec, first.layout.codec),
        ("rows a chunk", card.layout.chunk_rows, first.layout.chunk_rows),
        ("parameters of the codec", dict(card.codec_parameters), dict(first.codec_parameters)),
        ("encoder", card.encoder_fingerprint, first.encoder_fingerprint),
    ):
        if ours != theirs:
            raise errors.MismatchError(
                f"memory version {name} has another {what} in generation {part.number} than in the build"
            )
    if card.codec_parameters and home:
        _ensure_codec(part, card)
    files = remote_memory.open_files(part.folder, card, first=part.first)
    return Piece(first=part.first, passages=part.passages, files=files)


def _ensure_codec(part: Segment, card: MemoryCard) -> None:
    """Bring the files of a version's trained codec here, where they are not."""
    below = f"{components.MEMORY.folder(card.version)}/{codec_parameters.FOLDER}/"
    listed = part.folder.listed(card.files)
    part.folder.ensure(*(entry for entry in listed if entry.path.startswith(below)))
