"""The facts a figure is worthless without: machine, kernel, versions."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from .errors import Missing, find

VERSION_COMMANDS = {
    "nginx": ("nginx", "-v"),
    "HAProxy": ("haproxy", "-v"),
    "Envoy": ("envoy", "--version"),
    "Caddy": ("caddy", "version"),
    "wrk": ("wrk", "-v"),
}
PACKAGES = ("uvloop", "httptools", "aiohttp")


def facts() -> dict[str, str]:
    """Name and value of everything worth telling, in order."""
    found = {
        "cores": str(len(os.sched_getaffinity(0))),
        "CPU": _cpu_model(),
        "kernel": platform.release(),
        "Python": platform.python_version(),
    }
    found |= {package: version(package) for package in PACKAGES}
    return found | dict(_program_versions(VERSION_COMMANDS))


def _program_versions(commands: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in commands:
        program, flag = VERSION_COMMANDS[name]
        try:
            argv = [find(program, ""), flag]
        except Missing:
            continue
        said = subprocess.run(argv, capture_output=True, text=True, timeout=10)
        if match := re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr):
            yield name, match[0]


def _cpu_model() -> str:
    match = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return match[1] if match else platform.machine()
