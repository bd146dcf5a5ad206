"""What every component of a corpus has: a noun, a folder, a card, and files that hang on the card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, Self, TypeAlias, TypeVar

from storage.aliases import Json
from storage.files import FileEntry

# Digits of a fingerprint that name a folder.
SHORT: Final = 16
# Digits of a SHA-256.
DIGEST: Final = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """Files of a component that belong together, for whoever adds up bytes.

    Attributes:
        name: what they are.
        entries: those that the card names itself, ...
        below: ... or those of the card's list whose paths begin so.
    """

    name: str
    entries: tuple[FileEntry, ...] = ()
    below: str = ""


class Card(Protocol):
    """The JSON file of one component: what it is made of, and the files that answer for its bytes."""

    def to_json(self) -> Json:
        """As it is written."""

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        """Read strictly; `where` names the file in errors.

        Raises:
            CorpusError: a field is missing, of another type, or out of range.
        """

    @property
    def name(self) -> str:
        """By which the manifest should know it."""

    @property
    def label(self) -> str:
        """In what the component is stored: a codec, a type, FAISS's name of an index."""

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """The files that the card names itself."""

    @property
    def listed(self) -> FileEntry | None:
        """The list (`files.parquet`) that names the others, where there is one."""

    @property
    def contents(self) -> tuple[Content, ...]:
        """The files that hold data, by what they hold; all others are lists and metadata."""


C = TypeVar("C", bound=Card)


@dataclass(frozen=True, kw_only=True)
class Component(Generic[C]):
    """A row of the table of components.

    Attributes:
        noun: its folder below the corpus, and its name in every report.
        field: its key in the manifest.
        card: the class of its cards.
        single: a corpus has one, which has no name: the manifest's field is its card's entry. Of others
            it may have several, each in a folder of its own: the field holds entries by name.
        optional: not every corpus has it, and the manifest of one that has not lacks the field.
    """

    noun: str
    field: str
    card: type[C]
    single: bool = False
    optional: bool = False

    def folder(self, name: str) -> str:
        """Below the corpus folder. A fingerprint is cut to its first digits."""
        return self.noun if self.single else f"{self.noun}/{name[:SHORT]}"

    def card_path(self, name: str) -> str:
        return f"{self.folder(name)}/{self.noun}.json"

    def read_entries(self, value: Json) -> dict[str, FileEntry]:
        """The manifest's field → the entries of the cards, by name."""
        if self.single:
            return {"": FileEntry.from_json(value)}
        return {name: FileEntry.from_json(entry) for name, entry in value.items()}

    def entries_to_json(self, entries: Mapping[str, FileEntry]) -> Json:
        """The reverse."""
        if self.single:
            return entries[""].to_json()
        return {name: entry.to_json() for name, entry in entries.items()}


# Of any noun, whatever its cards hold: of those who loop over the table.
AnyComponent: TypeAlias = Component[Any]
