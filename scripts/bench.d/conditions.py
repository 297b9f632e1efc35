"""What figures depend on: the machine, the build and how it was measured."""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def conditions(options: argparse.Namespace) -> dict[str, str]:
    """Each with its name."""
    memory_kib = int(field("/proc/meminfo", r"^MemTotal:\s*(\d+)") or 0)
    return {
        "commit": "of the programs given" if options.programs else said("git", "describe", "--always", "--dirty"),
        "profile": "as given" if options.programs else options.profile,
        "rustc": said("rustc", "--version").removeprefix("rustc ").partition(" ")[0],
        "processor": field("/proc/cpuinfo", r"^model name\s*: (.*)$"),
        "cores": str(os.cpu_count()),
        "memory": f"{memory_kib / (1 << 20):.1f} GiB",
        "kernel": ".".join(platform.release().split(".")[:2]),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "rounds": f"{options.rounds} of {options.seconds:g} s, of {min(options.seconds, 1):g} s without a target",
        "clients": f"{options.clients} on {options.threads} wrk threads",
    }


def said(*command: str) -> str:
    """What a program prints; nothing where there is none."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def field(path: str, pattern: str) -> str:
    """The first match in a file of the kernel."""
    try:
        found = re.search(pattern, Path(path).read_text(), re.M)
    except OSError:
        return ""
    return found.group(1).strip() if found else ""
