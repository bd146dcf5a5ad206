"""What a training run keeps: checkpoints by Orbax, and its curves as CSV, both cut back on resuming."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from storage import errors, files

if TYPE_CHECKING:
    from encoders.reader.training import TrainingState


class Checkpoints:
    """The last checkpoints of a run; a checkpoint is there whole or not at all.

    Args:
        folder: of the run's checkpoints.
        keep: how many of the last are kept.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        import orbax.checkpoint as orbax  # type: ignore[import-untyped]

        self._orbax = orbax
        self._manager = orbax.CheckpointManager(
            folder.resolve(),
            options=orbax.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False),
        )

    def latest(self) -> int | None:
        """The step of the last checkpoint; None if there is none."""
        step: int | None = self._manager.latest_step()
        return step

    def save(self, step: int, state: TrainingState) -> None:
        """Keep a state under its number of steps."""
        self._manager.save(step, args=self._orbax.args.StandardSave(_by_name(state)))
        self._manager.wait_until_finished()

    def restore(self, step: int, like: TrainingState) -> TrainingState:
        """The state of a checkpoint, on the devices where `like` is.

        Raises:
            DamagedError: the checkpoint cannot be read, or is of another model.
        """
        wanted = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call]
                leaf.shape, leaf.dtype, sharding=leaf.sharding
            ),
            _by_name(like),
        )
        try:
            found = self._manager.restore(step, args=self._orbax.args.StandardRestore(wanted))
        except (ValueError, KeyError, OSError) as error:
            raise errors.DamagedError(
                f"checkpoint {step} cannot be read ({' '.join(str(error).split())[:200]}); remove its folder "
                "to go on from the one before"
            ) from error
        leaves = [found[name] for name in _by_name(like)]
        restored: TrainingState = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return restored

    def close(self) -> None:
        """Wait for what is being written."""
        self._manager.close()


def _by_name(state: TrainingState) -> dict[str, Any]:
    """Arrays by their path, so that a checkpoint hangs on no class of ours or of the optimizer's."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


class Curve:
    """A CSV file with a row a step; the same run gives the same bytes, however often it was resumed.

    Args:
        path: of the file.
        columns: after "step".
        steps: rows beyond this step are removed: they were made after the checkpoint.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], *, steps: int) -> None:
        self._columns = ("step", *columns)
        kept = [row for row in read_curve(path) if int(row["step"]) <= steps] if path.exists() else []
        lines = [",".join(self._columns), *(",".join(row[c] for c in self._columns) for row in kept)]
        files.write_atomic(path, ("\n".join(lines) + "\n").encode())
        self._file = path.open("a", encoding="ascii", newline="")

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append a row; numbers are written so that they read back the same."""
        row = [str(step), *(repr(float(values[name])) for name in self._columns[1:])]
        self._file.write(",".join(row) + "\n")

    def flush(self) -> None:
        """Put the rows so far on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self.flush()
        self._file.close()


def read_curve(path: Path) -> list[dict[str, str]]:
    """The rows of a curve; a last line that a kill cut short is left out."""
    lines = path.read_text(encoding="ascii").splitlines(keepends=True)
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))
