"""Tools for agents, over the Model Context Protocol on stdin and stdout: search the corpus, read passages."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from typing import Annotated, Any, Final

import numpy as np
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from pipeline.service import running
from pipeline.service.settings import ServiceSettings
from retrieval.corpus import Corpus
from storage import errors

INSTRUCTIONS: Final = (
    "An encyclopedia cut into passages. `search` finds the passages nearest to a question, `read` gives "
    "passages by their ids, and with `around` those before and after them in the same article."
)
MOST_HITS: Final = 50
MOST_IDS: Final = 50
MOST_AROUND: Final = 10
_COLUMNS: Final = ["passage_id", "page_id", "title", "section", "ordinal", "text"]


def run(settings: ServiceSettings) -> None:
    """Answer an agent until its end of stdin. What is logged goes to stderr; stdout is the protocol's.

    Raises:
        CorpusError: there is no corpus, or no retriever to read queries with.
    """
    running.log_plainly()
    logging.getLogger("mcp").setLevel(logging.WARNING)
    corpus = running.open_corpus(settings)
    corpus.retriever()
    corpus.open_index()
    server(corpus).run("stdio")
    sys.stderr.flush()


def server(corpus: Corpus) -> MCPServer[Any]:
    """The tools of one corpus."""
    made: MCPServer[Any] = MCPServer(
        "memcorpus", instructions=INSTRUCTIONS, version=importlib.metadata.version("memcorpus")
    )

    @made.tool()
    def search(
        query: Annotated[str, Field(min_length=1, max_length=8000, description="A question, or key words.")],
        k: Annotated[int, Field(ge=1, le=MOST_HITS, description="How many passages.")] = 5,
    ) -> dict[str, Any]:
        """Find the passages nearest to a query, best first: id, score, title, section, text."""
        try:
            found = corpus.search(query, min(k, len(corpus)))
            rows = corpus.passages(found.passage_ids[0], columns=_COLUMNS).to_pylist()
        except (errors.CorpusError, OSError) as e:
            raise _told(e) from None
        scores = found.scores[0].tolist()
        return {"passages": [{**row, "score": score} for row, score in zip(rows, scores, strict=True)]}

    @made.tool()
    def read(
        passage_ids: Annotated[
            list[int], Field(min_length=1, max_length=MOST_IDS, description="Ids that `search` gave.")
        ],
        around: Annotated[
            int, Field(ge=0, le=MOST_AROUND, description="Passages before and after, of the same article.")
        ] = 0,
    ) -> dict[str, Any]:
        """Read passages by their ids, in the order of their articles."""
        try:
            document = corpus.documents(passage_ids)
            ids = np.asarray(passage_ids, np.int64)
            firsts = np.maximum(document.firsts, ids - around)
            stops = np.minimum(document.stops, ids + around + 1)
            ranges = [np.arange(first, stop) for first, stop in zip(firsts, stops, strict=True)]
            wanted = np.unique(np.concatenate(ranges))
            return {"passages": corpus.passages(wanted, columns=_COLUMNS).to_pylist()}
        except (errors.CorpusError, OSError) as e:
            raise _told(e) from None

    return made


def _told(error: Exception) -> ToolError:
    """What an agent may know of an error: all of one about its ids, nothing of the machine's."""
    if isinstance(error, errors.UnknownPassageError):
        return ToolError(str(error))
    logging.getLogger(__name__).error("%s", error)
    return ToolError("the corpus cannot be read now")
