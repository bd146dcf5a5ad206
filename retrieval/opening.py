"""Whatever names a corpus, opened: a folder, an object store, a web server's files, or a service."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from retrieval.corpus import Corpus
from storage import errors, remote, stored_folder
from storage.folder import CorpusFolder

_WEB: Final = ("http", "https")

# What a command writes to, checks or reports on, as `open_corpus` is for what reads.
writable_folder = stored_folder.open_for_writing


def local_folder(url: str | Path) -> CorpusFolder:
    """The local folder that a path or a file:// URL names, for what cannot be done in an object store.

    Raises:
        CorpusError: it names an object store.
    """
    if remote.is_remote(url):
        raise errors.CorpusError(
            f"corpus {url}: this is done on a local disk; copy the corpus there, and back again"
        )
    return remote.open_folder(url)


def open_corpus(
    url: str | Path,
    *,
    retriever: str | None = None,
    cache: Path | None = None,
    token: str | None = None,
    generation: int | None = None,
) -> Corpus:
    """Open a finished corpus. It stays as it was opened, whatever is written beside it later.

    An http:// or https:// address is asked what it is, at `v1/corpus` below it: a service (`memcorpus
    serve`) says so, and is opened as a `ServedCorpus`. Whatever else answers is a web server with the files.

    Args:
        url: a folder, as a path or a file:// URL; or s3://, gs://, http:// or https://.
        retriever: name or folder of the retriever for text queries; default is the one that the
            corpus was built with, where the build found it.
        cache: where the small files of a remote corpus are kept; see `remote.open_folder`.
        token: of a service that asks for one; None: the environment's MEMCORPUS_TOKEN.
        generation: as it was after that update, 0 as it was built; None: as it is now.

    Raises:
        UnreadableError: nothing answers at the address.
        CorpusError: no corpus there, an unfinished one, one of another format, or no such generation.
        DamagedError: the manifest does not match its checksum.
    """
    if isinstance(url, str) and url.partition("://")[0] in _WEB:
        # The client of a service is for those alone who have one.
        from retrieval.served_corpus import open_service

        if (served := open_service(url, token=token, retriever=retriever)) is not None:
            if generation is not None:
                raise errors.CorpusError(
                    f"{url} is a service, which serves the corpus as it is now, wanted generation "
                    f"{generation}; open the corpus's own folder for that"
                )
            return served
    return Corpus(remote.open_folder(url, cache), retriever=retriever, generation=generation)
