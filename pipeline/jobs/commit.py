"""The commit: every receipt against the plan, then the components' cards; the manifest is the caller's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.accounts.statistics import RunFold
from pipeline.components.base import Commit
from pipeline.components.shards import STAGE as SHARDS
from pipeline.units.stages import Stages
from storage import checked_json, errors
from storage.components import AnyComponent
from storage.files import FileEntry
from storage.folder import CorpusFolder


@contextmanager
def clearing(corpus: CorpusFolder) -> Iterator[None]:
    """A block that makes a commit ready, and makes it: if it fails, what is half written is taken away.

    Statistics and lists of files grow while receipts are read. No worker runs any more, so what bears the
    name of something half written is this job's own, or a killed one's.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # a disk that fails: then the rerun does it
            corpus.remove_leftovers()
        raise


def commit(
    stages: Stages, components: Sequence[Commit], *, run: str, version: str | None, **known: Any
) -> dict[str, dict[str, FileEntry]]:
    """Commit components, whose shards are all written, but for the manifest. All of it can be repeated.

    Each receipt is read once, and shown to whom it concerns.

    Args:
        stages: that have run.
        components: in the order in which their cards are written.
        run: the name of this run's statistics: "build", or the version's or table's.
        version: the memory version that is written; None: none is.
        known: what else `RunStatistics` is to hold.

    Returns:
        By a component's noun, its name and the entry of its card, for the manifest.

    Raises:
        CorpusError: a receipt is missing, a file is not as its receipt says, sums do not match.
        DamagedError: what a shard wrote does not go with the rest.
    """
    corpus = stages.corpus
    corpus.look()
    fold = RunFold(corpus, run)
    for name, (stage, units) in stages.ran.items():
        for receipt in corpus.work.receipts(name, range(units), stage.counts):
            fold.add(name, receipt)
            # Their bytes were checked when the receipt was made or found.
            for entry in receipt.files:
                if wrong := corpus.damage(entry, full=False):
                    raise errors.CorpusError(f"{wrong}; run the same command again")
            if stage == SHARDS:
                for component in components:
                    component.add(receipt)
    cards = {}
    for component in components:
        name, entry = component.finish()
        cards[component.component.noun] = {name: entry}
    fold.finish(
        version=version,
        stage_seconds=stages.seconds,
        engine=stages.engine.name,
        beam_options=stages.engine.options,
        **known,
    )
    corpus.remove_leftovers()
    return cards


def written(
    corpus: CorpusFolder, wanted: Sequence[tuple[AnyComponent, str]], run: str
) -> dict[str, dict[str, FileEntry]] | None:
    """The cards of components that an earlier run of an unfinished job has committed; None: not all of them.

    For who knows that they are of this job: statistics are written behind all cards.
    """
    found: dict[str, dict[str, FileEntry]] = {}
    for component, name in wanted:
        path = corpus.path(component.card_path(name))
        try:
            component.card.from_json(checked_json.read(path), str(path))
        except (FileNotFoundError, errors.CorpusError):
            return None
        found[component.noun] = {name: corpus.entry(path)}
    try:
        return found if corpus.run(run) is not None else None
    except errors.CorpusError:
        return None


def forget_others(corpus: CorpusFolder, folder: str, units: int) -> None:
    """Receipts of another version's shards must not be taken for those of the version in `folder`."""
    for receipt in corpus.work.there(SHARDS.name, range(units), SHARDS.counts):
        if any(entry.path.startswith(f"{folder}/") for entry in receipt.files):
            return
        break
    corpus.work.forget_stage(SHARDS.name)
