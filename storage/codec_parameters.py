"""Trained parameters of a memory version's codec: Zarr v3 arrays in `codec/<parameter>/`, one chunk each.

Their SHA-256, over the values as they are stored (little-endian, C order), stand in the version's card and
decide its fingerprint: codes mean nothing without the very parameters they were made with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from storage import codecs, descriptors, errors, files, shard_files, zarr_arrays
from storage.aliases import AnyArray

FOLDER: Final = "codec"


def digests(parameters: Mapping[str, AnyArray]) -> dict[str, str]:
    """SHA-256 of each parameter, by name, names in order."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(parameters[name]).view(np.uint8).data).hexdigest()
        for name in sorted(parameters)
    }


def write(folder: Path, codec: codecs.Codec, parameters: Mapping[str, AnyArray]) -> list[Path]:
    """Write parameters into a version's folder, whole; the same ones again change nothing.

    Returns:
        The files: metadata and data of each array. None for a codec that is not trained.
    """
    paths = []
    for name in sorted(parameters):
        array = np.ascontiguousarray(parameters[name])
        paths.append(
            zarr_arrays.create(
                folder / FOLDER / name,
                shape=array.shape,
                dtype=array.dtype,
                chunk=array.shape,
                dimension_names=tuple(f"{name}_{i}" for i in range(array.ndim)),
                attributes={"codec": codec.to_json()},
            )
        )
        path = zarr_arrays.shard_path(folder / FOLDER / name, 0, array.ndim)
        path.parent.mkdir(parents=True, exist_ok=True)
        # A chunk as Zarr stores it: the values, and their CRC-32C.
        data = array.tobytes()
        files.write_atomic(path, data + files.crc32c(data).to_bytes(shard_files.CRC_BYTES, "little"))
        paths.append(path)
    return paths


def files_of(folder: Path, codec: codecs.Codec, width: int) -> list[Path]:
    """The files that `write` left in a version's folder."""
    paths = []
    for name, (shape, _) in sorted(codec.parameter_shapes(width).items()):
        array = folder / FOLDER / name
        paths += [array / zarr_arrays.METADATA, zarr_arrays.shard_path(array, 0, len(shape))]
    return paths


def load(folder: Path, codec: codecs.Codec, width: int) -> dict[str, AnyArray]:
    """The parameters in a version's folder, whatever they are.

    Raises:
        DamagedError: one is missing, does not have the size that codec and width ask for, or does not match
            its checksum.
        UnreadableError: one cannot be read.
    """
    parameters = {}
    for name, (shape, dtype) in sorted(codec.parameter_shapes(width).items()):
        path = zarr_arrays.shard_path(folder / FOLDER / name, 0, len(shape))
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        file = descriptors.OpenFile(str(path), str(folder.resolve()))
        # Before anything is allocated: a card may claim any width.
        if file.size != size + shard_files.CRC_BYTES:
            raise errors.DamagedError(
                f"{path} has {file.size:,} bytes, wanted {size + shard_files.CRC_BYTES:,}"
            )
        # A file of one chunk is read as it is: TensorStore could not in a forked process.
        data = shard_files.read_chunk(file.descriptor, 0, size, path)
        parameters[name] = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    return parameters


def read(folder: Path, codec: codecs.Codec, width: int, sums: Mapping[str, str]) -> codecs.Coder:
    """The coder of a version, its parameters read and checked against their SHA-256 in the card.

    Raises:
        CorpusError: the card names other parameters than the codec has.
        DamagedError: a parameter is missing, or is not the one that the version was written with.
    """
    shapes = codec.parameter_shapes(width)
    if set(shapes) != set(sums):
        raise errors.CorpusError(
            f"the card of {folder} has codec parameters {sorted(sums)}, "
            f"codec {codec.name} has {sorted(shapes)}"
        )
    parameters = load(folder, codec, width)
    for name, found in digests(parameters).items():
        if found != sums[name]:
            raise errors.DamagedError(
                f"codec parameter {name} in {folder / FOLDER} is not the one that this version was written "
                "with; run `memcorpus verify`"
            )
    return codec.bind(width, parameters)
