"""`memcorpus serve`: a corpus over the network."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline.cli import options

_PATH = click.Path(path_type=Path)


@click.command()
@options.CORPUS
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=int, default=8321, show_default=True, help="0 takes a free one.")
@click.option("--workers", type=int, default=1, show_default=True, help="Processes, each with the index.")
@click.option(
    "--memory", "version", help="The memory version for requests that name none (default: follow current)."
)
@click.option("--retriever", help="The retriever, where it is not at the place that the build found it.")
@click.option("--reader", help="A reader's folder, what `memcorpus train` wrote: answers questions too.")
@click.option("--tokenizer", help="The memory encoder's folder, where it is not at the place of the build.")
@click.option("--token-file", type=_PATH, help="A file with the token that requests must bear.")
@click.option("--without-token", is_flag=True, help="Let anybody read who reaches HOST.")
@click.option(
    "--window", "window_ms", type=float, default=0.0, show_default=True,
    help="Milliseconds that a search waits for others, when none runs.",
)  # fmt: skip
@click.option(
    "--batch", type=int, default=64, show_default=True, help="Searches that go together; 1: each alone."
)
@click.option(
    "--follow", "follow_seconds", type=float, default=0.5, show_default=True,
    help="Seconds between two looks whether the corpus was switched or updated.",
)  # fmt: skip
@click.option(
    "--drain", "drain_seconds", type=float, default=1.0, show_default=True,
    help="Seconds for which requests are still taken after SIGTERM.",
)  # fmt: skip
@click.option(
    "--client-timeout", "client_seconds", type=float, default=30.0, show_default=True,
    help="Seconds for a client to send its request, and to take each MiB of its answer.",
)  # fmt: skip
@click.option("--connections", type=int, default=8192, show_default=True, help="Of a worker at a time.")
@click.option("--max-k", type=int, default=1000, show_default=True, help="Passages for a query.")
@click.option("--max-queries", type=int, default=1024, show_default=True, help="Queries of a request.")
@click.option("--max-ids", type=int, default=10_000, show_default=True, help="Passages of a request.")
@click.option("--max-body", type=int, default=16 << 20, show_default=True, help="Bytes of a request's body.")
@click.option("--max-answer", type=int, default=256 << 20, show_default=True, help="Bytes of memory.")
@click.option("--max-waiting", type=int, default=256, show_default=True, help="Searches that wait.")
@click.option("--mcp", is_flag=True, help="Instead of HTTP: tools for an agent, on stdin and stdout.")
def serve(
    corpus: str,
    token_file: Path | None,
    mcp: bool,
    max_k: int,
    max_queries: int,
    max_ids: int,
    max_body: int,
    max_answer: int,
    max_waiting: int,
    **given: object,
) -> None:
    """Serve CORPUS: search, passages and memory by id over HTTP, and a page to look at it.

    \b
    The page is at the address that is printed. In Python, memcorpus.open("http://HOST:PORT") is a corpus.
    """
    from pipeline.service.settings import Limits, ServiceSettings, read_token

    settings = ServiceSettings(
        corpus=corpus,
        token=None if mcp else read_token(token_file),
        limits=Limits(
            k=max_k,
            queries=max_queries,
            ids=max_ids,
            body_bytes=max_body,
            answer_bytes=max_answer,
            waiting=max_waiting,
        ),
        **given,  # type: ignore[arg-type] # the options above, by the settings' names
    )
    if mcp:
        from pipeline.service import tools

        tools.run(settings)
        return
    from pipeline.service import running

    sys.exit(running.run(settings, _started))


def _started(url: str) -> None:
    print(f"serves {url}", flush=True)
