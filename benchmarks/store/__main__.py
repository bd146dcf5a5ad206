"""Command line of the store's benchmark; `python -m benchmarks.store --help`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import benchmarks.store
from benchmarks.store import limits, ours, page_cache, peers, reading, report, writing
from benchmarks.store.contender import Contender
from benchmarks.store.reading import Setting
from benchmarks.store.truth import Truth
from storage import codecs, native

# What Python modules the distributions bring, where the name is another.
_MODULES: Final = {"pylance": "lance"}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run, print the tables, and return what `--json` writes."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="memcorpus-store-") as folder:
        return run(Path(folder), options)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.store",
        description=benchmarks.store.__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--passages", type=int, default=2000, help="about 0.55 MB each, a dozen times over")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--fetched", type=int, default=20, help="passages of a fetch")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 8], help="clients at once")
    parser.add_argument("--folder", type=Path, help="where to put the files, on the disk to be measured")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contenders whose name has one of these")
    parser.add_argument("--warm", action="store_true", help="reading from the page cache only")
    parser.add_argument(
        "--cpu", action="store_true", help="CPU time of a client, where the cores have other work"
    )
    parser.add_argument("--cold", action="store_true", help="reading from the disk only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(arguments)
    if options.passages < options.fetched:
        parser.error(f"--passages {options.passages} is less than the {options.fetched} of one fetch")
    return options


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Write all stores, compare them with the truth, and measure."""
    truth = Truth.create(folder, passages=options.passages, width=options.width)
    print(
        f"{options.fetched} random of {truth.passages:,} passages, {truth.lengths.mean():.0f} tokens of "
        f"{truth.width} bfloat16: {truth.lengths.mean() * options.fetched * truth.row_bytes / 1e6:.1f} MB "
        f"a fetch of {truth.raw_bytes / 1e9:.2f} GB"
    )
    root = folder / "corpus"
    coded = {
        name: ours.Coded(truth, codecs.by_name(name), folder)
        for name in codecs.NAMES
        # bfloat16 is what others read, and what is compared with.
        if name == ours.BASE_CODEC
        or any(_wanted(ours.contender_name(name, check), options.only) for check in ours.checks(name))
    }
    ours.write_corpus(root, truth, coded.values())
    contenders, skipped = _contenders(folder, root, coded, options.only)
    for name, reason in skipped.items():
        print(f"skipped: {name}: {reason}")
    parity = {c.name: reading.check(c, truth, options.fetched) for c in contenders}
    print(f"all {truth.passages:,} passages of {len(contenders)} contenders compared with the truth\n")
    checked = {c.name: c.checked for c in contenders}
    every_path = {path for c in contenders for path in c.paths}
    result: dict[str, Any] = {
        "machine": report.machine(),
        "options": {
            name: getattr(options, name) for name in ("passages", "width", "fetched", "rounds", "threads")
        },
        "tokens": int(truth.starts[-1]),
        "raw_bytes": truth.raw_bytes,
        "skipped": skipped,
        "checked": checked,
        "reading": [],
    }

    def read(cold: bool, kept: page_cache.Kept | None = None) -> None:
        for threads in options.threads:
            setting = Setting(
                cold=cold,
                threads=threads,
                rounds=options.rounds,
                fetched=options.fetched,
                cpu=options.cpu,
            )
            timings = reading.measure(contenders, truth, setting, parity=parity, kept=kept)
            limit = limits.Pread.name if cold else limits.Memmap.name
            figures = report.reading(setting, timings, parity, limit if limit in timings else None)
            result["reading"].append(figures)
            print(f"{setting.name}\n{report.reading_table(figures, checked)}\n")

    if options.warm or not options.cold:
        kept = page_cache.Kept(every_path)
        result["locked"] = kept.locked
        print(f"warm: files {'locked in memory' if kept.locked else 'touched again and again'}")
        read(cold=False, kept=kept)
        kept.release()
    if options.cold or not options.warm:
        page_cache.write_back(every_path)
        page_cache.evict(every_path)
        result["resident_share_when_cold"] = page_cache.resident_share(every_path)
        print(f"cold: {result['resident_share_when_cold']:.1%} of the bytes stay in the page cache")
        read(cold=True)
    result |= _written(folder, root, coded, contenders, options.rounds)
    for contender in contenders:
        contender.close()
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _wanted(name: str, only: list[str] | None) -> bool:
    return only is None or any(part.lower() in name.lower() for part in only)


def _contenders(
    folder: Path, root: Path, coded: dict[str, ours.Coded], only: list[str] | None
) -> tuple[list[Contender], dict[str, str]]:
    """Those that were asked for and whose packages are here, and why others are not."""
    truth = coded[ours.BASE_CODEC].truth
    base = root / ours.version_folder(ours.BASE_CODEC)
    made: list[Contender] = [
        kind(truth) for kind in (limits.Memmap, limits.MemmapAhead, limits.Pread) if _wanted(kind.name, only)
    ]
    made += [contender for contender in ours.contenders(root, coded) if _wanted(contender.name, only)]
    skipped: dict[str, str] = {}
    others: list[tuple[type[Contender], Callable[..., Contender], Path]] = [
        *((kind, kind, base) for kind in peers.ON_OUR_ARRAYS),
        *((kind, kind, folder) for kind in peers.WITH_OWN_FILES),
    ]
    for kind, make, path in others:
        if not _wanted(kind.name, only):
            continue
        if importlib.util.find_spec(_MODULES.get(kind.package, kind.package)) is None:
            skipped[kind.name] = f"{kind.package} is not installed (pip install 'memcorpus[bench]')"
        else:
            made.append(make(truth, path))
    return made, skipped


def _written(
    folder: Path, root: Path, coded: dict[str, ours.Coded], contenders: list[Contender], rounds: int
) -> dict[str, Any]:
    """Writing, decoding and bytes on the disk."""
    base = coded[ours.BASE_CODEC]
    times = max(3, rounds // 4)
    written = report.rates(
        writing.write_rates(folder / "written", coded.values(), rounds=times), writing.PLAIN
    )
    print(f"writing the first shard, checksums and fsync included\n{report.rates_table(written)}\n")
    decoded = report.rates(writing.decode_rates(base.truth, coded.values(), rounds=times), writing.MEMCPY)
    if len(decoded["contenders"]) > 1:
        print(f"decoded by {native.description()}, bytes of the values\n{report.rates_table(decoded)}\n")
    disk = {c.name: asdict(writing.disk_use(c)) for c in contenders}
    print(f"on the disk\n{report.disk_table(disk)}\n")
    counted = writing.count_files(root / ours.version_folder(ours.BASE_CODEC), base)
    print(
        f"files: {counted.files} here, {counted.files_per_shard:g} for each of {counted.shards} shards; "
        f"at width {writing.XXL_WIDTH:,} shards of {counted.xxl_shard_passages} passages, "
        f"{counted.xxl_shard_bytes / 1e6:,.0f} MB: {counted.files_per_terabyte:,.0f} files a TB"
    )
    return {"writing": written, "decoding": decoded, "disk": disk, "files": asdict(counted)}


if __name__ == "__main__":
    main()
