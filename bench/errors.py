"""What can stop a bench, as messages for the person who runs it.

BenchError
└── Missing   a program is not installed; a missing peer is left out, a missing tool of the bench ends it
"""

import os
import shutil
import sys
from pathlib import Path


class BenchError(Exception):
    """The bench cannot go on; the text says why."""


class Missing(BenchError):
    """A program is not installed; the text says what to install."""


def find(program: str, install: str) -> str:
    """The path of a program: beside this Python, on PATH, or in the directories of system daemons."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"])
    if found := shutil.which(program, path=path):
        return found
    raise Missing(f"{program} not found: {install}")
