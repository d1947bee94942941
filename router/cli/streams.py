"""Standard output and error, as every way in wants them. Nothing is imported here but what costs nothing."""

from __future__ import annotations

import io
import sys


def forgive_names() -> None:
    """A file name need not be text of this locale: what can't be written comes out escaped, and is no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
