"""Routes from files that come and go (`dynamic_config_globs`, contract §15.3): each file holds `routes: […]`.

A file that can't be used is told once for every version of it, and what it said before goes on to hold: half a file,
just being written, takes no route away. A file that is gone does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from glob import glob
from os import stat
from typing import Annotated

from pydantic import Field

from router.config.other_file import load_file
from router.config.problems import ConfigError
from router.config.section import Section
from router.observe.log import Log
from router.registrar.config import Route, RouteList


class DynamicFile(Section):
    """One of these files."""

    routes: Annotated[RouteList, Field(default=[])]
    """What to register, as in the main file."""


Version = tuple[int, int, int]


class DynamicFiles:
    """The files of some patterns, as last read."""

    def __init__(self, patterns: Sequence[str], log: Log) -> None:
        self._patterns = patterns
        self._log = log
        self._known: dict[str, tuple[Version | None, list[Route]]] = {}

    def routes(self) -> list[Route]:
        """What the files say now; each is read again only when it has changed."""
        self._known = dict(self._look())
        return [route for _, routes in self._known.values() for route in routes]

    def _look(self) -> Iterator[tuple[str, tuple[Version | None, list[Route]]]]:
        for path in sorted({path for pattern in self._patterns for path in glob(pattern, recursive=True)}):
            version, before = self._known.get(path, (None, []))
            try:
                found = stat(path)
                now = found.st_mtime_ns, found.st_size, found.st_ino
                if now != version:
                    yield path, (now, self._read(path, before))
                else:
                    yield path, (version, before)
            except OSError:
                continue  # gone since it was found

    def _read(self, path: str, before: list[Route]) -> list[Route]:
        try:
            loaded, _ = load_file(path, DynamicFile, {})
        except ConfigError as error:
            problems = [str(problem) for problem in error.problems]
            self._log.error("dynamic-file-not-used", path=path, problems=problems, routes_kept=len(before))
            return before
        self._log.info("dynamic-file-read", path=path, routes=len(loaded.routes))
        return list(loaded.routes)
