"""Rows for what the service takes: time to start, memory when idle, bytes on disk."""

from __future__ import annotations

import time
from pathlib import Path

from bench import Bench
from processes import start_service
from table import Bound, Figure, Row

STARTS = 20
ENTRIES = 2000
STORED = (4000, 30_000, 150_000)


def start_rows(bench: Bench) -> list[Row]:
    """From exec to ready, on a new directory and on one that is there; and what an idle service holds."""
    fresh: list[float] = []
    known: list[float] = []
    resident: list[float] = []
    for number in range(STARTS):
        data_dir = bench.data_dir("start")
        for times in (fresh, known):
            process, seconds = start_service(bench.service, data_dir)
            with process as service:
                times.append(seconds * 1000)
                if number < 3:
                    time.sleep(0.5)
                    resident.append(service.resident_mib())
    return [
        Bound("start to ready, new directory", "ms", fresh, 100.0),
        Bound("start to ready, known directory", "ms", known, 100.0),
        Bound("idle memory", "MB", [mib * (1 << 20) / 1e6 for mib in resident], 30.0),
    ]


def disk_rows(bench: Bench) -> list[Row]:
    """What a result takes once its service has stopped."""
    bodies = {f"{size // 1000} KB stored": bench.bodies.stored(size) for size in STORED}
    bodies["pages of a real corpus"] = bench.bodies.whole()
    rows: list[Row] = []
    for name, folder in bodies.items():
        entries = ENTRIES if "150" not in name else ENTRIES // 4
        data_dir = bench.data_dir("disk")
        bench.fill(data_dir, folder, entries)
        process, _ = start_service(bench.service, data_dir)
        process.__exit__(None, None, None)
        sizes = [path.stat().st_size for path in sorted(folder.iterdir())]
        json_bytes = sum(sizes[number % len(sizes)] for number in range(entries)) / entries
        on_disk = disk_bytes(data_dir) / entries
        rows.append(Figure(f"disk a result, {name}", "KB", [on_disk / 1000],
                           f"of {json_bytes / 1000:,.1f} KB of JSON: {json_bytes / on_disk:.1f} times as much"))
    return rows


def disk_bytes(directory: Path) -> int:
    """What the files of a directory take on the disk."""
    return sum(file.stat().st_blocks * 512 for file in directory.rglob("*") if file.is_file())
