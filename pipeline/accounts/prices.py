"""Prices and devices: rows of a TOML file, each with its date and its source.

The defaults lie beside this module. A file given with `--prices` replaces them as a whole, so that no
figure is ever computed from two lists.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypedDict, TypeVar

from storage import errors

DEFAULTS: Final = Path(__file__).with_name("prices.toml")


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """An accelerator. `tflops` is its peak in hardware FLOPs, price in dollars."""

    name: str
    description: str
    tflops: float
    memory_gb: float
    price_per_hour: float
    date: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Storage:
    """A class of storage. Prices in dollars, speeds in 10⁶ bytes a second, 0 meaning no known limit."""

    name: str
    description: str
    price_per_gb_month: float
    price_per_1000_writes: float
    price_per_1000_reads: float
    price_per_gb_read: float
    write_mb_per_second: float
    write_mb_per_second_total: float
    gb_bytes: float
    date: str
    source: str

    def month(self, stored_bytes: float) -> float:
        """Dollars a month for so many bytes."""
        return stored_bytes / self.gb_bytes * self.price_per_gb_month

    def writes(self, files: float) -> float:
        """Dollars for writing so many files, a request each."""
        return files / 1000 * self.price_per_1000_writes

    def reads(self, requests: float, read_bytes: float) -> float:
        """Dollars for so many reads of so many bytes altogether."""
        return (
            requests / 1000 * self.price_per_1000_reads + read_bytes / self.gb_bytes * self.price_per_gb_read
        )

    def write_bytes_per_second(self, workers: int) -> float:
        """Bytes a second that `workers` together can write."""
        alone = workers * self.write_mb_per_second * 1e6
        return min(alone, self.write_mb_per_second_total * 1e6) if self.write_mb_per_second_total else alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """One list of prices. `origin` names the file."""

    origin: str
    devices: Mapping[str, Device]
    storage: Mapping[str, Storage]

    def device(self, name: str) -> Device:
        return _named("device", name, self.devices)

    def storage_class(self, name: str) -> Storage:
        return _named("storage class", name, self.storage)


_Row = TypeVar("_Row", Device, Storage)


def _named(what: str, name: str, rows: Mapping[str, _Row]) -> _Row:
    try:
        return rows[name]
    except KeyError:
        raise errors.CorpusError(f"unknown {what} {name!r}; known are {', '.join(rows)}") from None


def read(path: Path | None = None) -> Prices:
    """Read a list of prices, or the default one.

    Raises:
        CorpusError: no such file, no TOML, a row without a key, of the wrong kind, or below zero.
    """
    file = DEFAULTS if path is None else path
    try:
        value = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise errors.CorpusError(f"price list {file} cannot be read: {e}") from e
    return parse(value, "memcorpus" if path is None else str(path))


def parse(value: Mapping[str, Any], origin: str) -> Prices:
    """Prices of a parsed TOML document; see `read`."""
    if unknown := sorted(set(value) - {"device", "storage"}):
        raise errors.CorpusError(f"price list {origin} has a table {unknown[0]!r}; known are device, storage")
    return Prices(
        origin=origin,
        devices={name: _row(Device, name, row, origin) for name, row in value.get("device", {}).items()},
        storage={name: _row(Storage, name, row, origin) for name, row in value.get("storage", {}).items()},
    )


def _row(kind: type[_Row], name: str, row: object, origin: str) -> _Row:
    where = f"price list {origin}, {kind.__name__.lower()} {name}"
    if not isinstance(row, Mapping):
        raise errors.CorpusError(f"{where} is {row!r}, wanted a table")
    wanted = {field.name: str(field.type) for field in fields(kind) if field.name != "name"}
    for what, keys in (("lacks", set(wanted) - set(row)), ("has an unknown", set(row) - set(wanted))):
        if keys:
            raise errors.CorpusError(f"{where} {what} {sorted(keys)[0]!r}; wanted {', '.join(wanted)}")
    values: dict[str, Any] = {"name": name}
    for key, written in wanted.items():
        found = row[key]
        if key == "date" and isinstance(found, datetime.date):
            found = found.isoformat()
        if written == "float":
            if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 1e18:
                raise errors.CorpusError(f"{where} has {key} = {found!r}, wanted a number of 0 or more")
            found = float(found)
        elif not isinstance(found, str) or not found:
            raise errors.CorpusError(f"{where} has {key} = {found!r}, wanted a text that is not empty")
        values[key] = found
    for key in ("tflops", "write_mb_per_second", "gb_bytes"):
        if values.get(key) == 0:
            raise errors.CorpusError(f"{where} has {key} = 0, wanted more")
    return kind(**values)


class DeviceRow(TypedDict):
    """A `Device` as JSON."""

    name: str
    description: str
    tflops: float
    memory_gb: float
    price_per_hour: float
    date: str
    source: str


class StorageRow(TypedDict):
    """A `Storage` as JSON."""

    name: str
    description: str
    price_per_gb_month: float
    price_per_1000_writes: float
    price_per_1000_reads: float
    price_per_gb_read: float
    write_mb_per_second: float
    write_mb_per_second_total: float
    gb_bytes: float
    date: str
    source: str


class Listed(TypedDict):
    """The prices that a plan or a report was computed with."""

    origin: str
    devices: list[DeviceRow]
    storage: list[StorageRow]


def listed(origin: str, devices: Iterable[Device], storage: Iterable[Storage]) -> Listed:
    return {
        "origin": origin,
        "devices": [_device_row(device) for device in devices],
        "storage": [_storage_row(row) for row in storage],
    }


def _device_row(row: Device) -> DeviceRow:
    return {
        "name": row.name,
        "description": row.description,
        "tflops": row.tflops,
        "memory_gb": row.memory_gb,
        "price_per_hour": row.price_per_hour,
        "date": row.date,
        "source": row.source,
    }


def _storage_row(row: Storage) -> StorageRow:
    return {
        "name": row.name,
        "description": row.description,
        "price_per_gb_month": row.price_per_gb_month,
        "price_per_1000_writes": row.price_per_1000_writes,
        "price_per_1000_reads": row.price_per_1000_reads,
        "price_per_gb_read": row.price_per_gb_read,
        "write_mb_per_second": row.write_mb_per_second,
        "write_mb_per_second_total": row.write_mb_per_second_total,
        "gb_bytes": row.gb_bytes,
        "date": row.date,
        "source": row.source,
    }
