"""What `info`, `report` and its page tell of chunks and of tables of neighbours: rows of words."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.accounts.form import Table, Tokens


def told(tokens: Tokens | None, tables: Mapping[str, Table]) -> list[tuple[str, dict[str, str]]]:
    """Titles, each with the rows below it, of what a corpus has."""
    found = [] if tokens is None else [of_tokens(tokens)]
    return found + [of_table(name, table) for name, table in tables.items()]


def of_tokens(found: Tokens) -> tuple[str, dict[str, str]]:
    """A title, and what stands below it."""
    return f"Chunks of {found['passage_tokens']} tokens", {
        "documents": f"{found['documents']:,}",
        "tokens, of a vocabulary of": f"{found['tokens']:,}, {found['vocabulary']:,}",
        "unknown / special left out": f"{found['unknown']:,} / {found['special']:,}",
        "chunks that are short": f"{found['short']:,}",
    }


def of_table(name: str, found: Table) -> tuple[str, dict[str, str]]:
    """A title, and what stands below it."""
    behind = " (left behind by an update)" if found["left_behind"] else ""
    return f"Neighbours {found['title'] or name}{behind}", {
        "k, database": f"{found['k']}, {found['database']} ({found['rule']})",
        "searched / short": f"{found['searched']:,} / {found['short']:,}",
        "search, recall": f"{found['method']}, {found['recall']:.4f}",
    }
