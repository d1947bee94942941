"""The naive proxy of naive.py as a peer, run by the same Python as the bench."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .base import Place, Running, serving

SCRIPT = Path(__file__).parent.parent / "naive.py"


@contextmanager
def start(place: Place) -> Iterator[Running]:
    """An aiohttp server with an aiohttp client behind it."""
    argv = [sys.executable, str(SCRIPT), str(place.port), str(place.backend)]
    with serving(argv, place) as running:
        yield running
