"""Tools for agents, asked by the protocol's own client over stdin and stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from retrieval import open_corpus

ROOT = Path(__file__).parents[1]


def asked(corpus: Path, calls: list[tuple[str, dict[str, Any]]]) -> tuple[list[str], list[Any]]:
    """The tools' names, and what each call gives."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    async def ask() -> tuple[list[str], list[Any]]:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "memcorpus", "serve", str(corpus), "--mcp"],
            env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
        )
        async with stdio_client(server) as (reading, writing), ClientSession(reading, writing) as session:
            await session.initialize()
            names = [tool.name for tool in (await session.list_tools()).tools]
            return names, [await session.call_tool(name, given) for name, given in calls]

    return anyio.run(ask)


@pytest.mark.slow
def test_an_agent_searches_and_reads(corpus: Path) -> None:
    local = open_corpus(corpus)
    expected = local.search("a river in Europe", 3)
    document = local.documents([5])
    names, (found, read, unknown, wrong) = asked(
        corpus,
        [
            ("search", {"query": "a river in Europe", "k": 3}),
            ("read", {"passage_ids": [5], "around": 1}),
            ("read", {"passage_ids": [99_999]}),
            ("search", {"query": "x", "k": 5000}),
        ],
    )
    assert sorted(names) == ["read", "search"]
    hits = json.loads(found.content[0].text)["passages"]
    assert [hit["passage_id"] for hit in hits] == expected.passage_ids[0].tolist()
    assert hits[0]["text"] == local.passages(expected.passage_ids[0][:1]).column("text")[0].as_py()
    ids = [row["passage_id"] for row in json.loads(read.content[0].text)["passages"]]
    assert ids == [i for i in (4, 5, 6) if int(document.firsts[0]) <= i < int(document.stops[0])]
    assert unknown.is_error
    assert "unknown passage id 99999" in unknown.content[0].text
    assert wrong.is_error
    assert str(corpus) not in str([found, read, unknown, wrong])
