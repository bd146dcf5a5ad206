"""Which engine a command's arguments name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pipeline.units.engines.base import Engine
from storage import errors

BEAM: Final = "beam"
DASK: Final = "dask"


def chosen(engine: str | None = None, beam_options: Sequence[str] = ()) -> Engine:
    """The engine of a name.

    Args:
        engine: "beam", the default: this machine, or one of Beam's portable runners, by its options;
            or "dask:SCHEDULER", an address or a scheduler file.
        beam_options: what Beam is told, such as `--direct_num_workers=4`.

    Raises:
        CorpusError: there is no such engine, or options that it does not know.
    """
    name, _, where = (engine or BEAM).partition(":")
    if name == DASK:
        if not where:
            raise errors.CorpusError(
                "engine dask: no scheduler given; name its address or its file, such as "
                "dask:tcp://host:8786 or dask:scheduler.json"
            )
        if beam_options:
            raise errors.CorpusError(
                f"engine dask: option {beam_options[0]!r} is Beam's, which this engine does without; "
                "leave it out"
            )
        from pipeline.units.engines.dask import Dask

        return Dask(where)
    if engine not in (None, BEAM):
        raise errors.CorpusError(f"no engine {engine!r}; there are beam and dask:SCHEDULER")
    from pipeline.units.engines import beam, local

    options = beam.parse_options(beam_options)
    if beam.is_local(options):
        return local.Local(options, beam_options)
    return beam.Portable(options, beam_options)
