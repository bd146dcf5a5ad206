"""What a training run keeps: checkpoints by Orbax, and its curves as CSV, both cut back on resuming."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from storage import errors, files

if TYPE_CHECKING:
    from encoders.reader.training import TrainingState

# Beside the state's arrays in a checkpoint: their checksums.
_CHECKS = "crc32c"


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
        kept = _by_name(state)
        checked = kept | {_CHECKS: _checks(kept)}
        self._manager.save(step, args=self._orbax.args.StandardSave(checked))
        self._manager.wait_until_finished()

    def restore(self, step: int, like: TrainingState) -> TrainingState:
        """The state of a checkpoint, on the devices where `like` is.

        Raises:
            DamagedError: the checkpoint cannot be read, is not what was saved, or is of another model.
        """
        names = sorted(_by_name(like))
        wanted = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call]
                leaf.shape, leaf.dtype, sharding=leaf.sharding
            ),
            _by_name(like),
        )
        wanted[_CHECKS] = np.zeros(len(names), np.uint32)
        remedy = f"remove {self._manager.directory / str(step)} to go on from the one before"
        try:
            found = self._manager.restore(step, args=self._orbax.args.StandardRestore(wanted))
        except Exception as error:  # Orbax and TensorStore have no error of their own for damage
            raise errors.DamagedError(
                f"checkpoint {step} cannot be read ({' '.join(str(error).split())[:200]}); {remedy}"
            ) from error
        checks = found.pop(_CHECKS)
        if wrong := [n for n, a, b in zip(names, _checks(found), checks, strict=True) if a != b]:
            raise errors.DamagedError(
                f"checkpoint {step} does not match its checksums in {wrong[0]} and {len(wrong) - 1} more; "
                f"{remedy}"
            )
        leaves = [found[name] for name in _by_name(like)]
        restored: TrainingState = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return restored

    def close(self) -> None:
        """Wait for what is being written."""
        self._manager.close()


def _by_name(state: TrainingState) -> dict[str, Any]:
    """Arrays by their path, so that a checkpoint hangs on no class of ours or of the optimizer's."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _checks(kept: Mapping[str, Any]) -> npt.NDArray[np.uint32]:
    """CRC-32C of each array, by name: Orbax keeps none that covers what it reads back."""
    arrays = (np.ascontiguousarray(jax.device_get(kept[name])) for name in sorted(kept))
    return np.array([crc32c(files.bytes_of(array)) for array in arrays], np.uint32)


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
