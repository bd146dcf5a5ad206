"""Engines: what deals the units of a stage out to workers, on this machine or on many.

The contract is small. Ids of units go out, and receipts lie in the corpus folder when an engine comes back.
Whatever an engine says of them, the launcher believes the receipts alone; see `stages.Stages`.
"""

from pipeline.units.engines.base import AnyJob, Engine, WorkerDied
from pipeline.units.engines.choice import chosen

__all__ = ["AnyJob", "Engine", "WorkerDied", "chosen"]
