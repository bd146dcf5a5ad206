"""What a model was given of the passages, in cards: tokens, and those that were cut or unknown."""

from __future__ import annotations

from dataclasses import dataclass, fields

from storage.fields import Fields


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadCounts:
    """Tokens of all passages as a model read them.

    Attributes:
        tokens: special ones and a prompt's among them.
        passages_cut, tokens_cut: at the model's limit, on top of those.
        tokens_unknown: those of `tokens` that stand for text that its vocabulary lacks.
    """

    tokens: int
    passages_cut: int
    tokens_cut: int
    tokens_unknown: int

    def __add__(self, other: ReadCounts) -> ReadCounts:
        """Of both together."""
        return ReadCounts(
            **{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        )

    def to_json(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, found: Fields) -> ReadCounts:
        return cls(**{field.name: found.integer(field.name) for field in fields(cls)})
