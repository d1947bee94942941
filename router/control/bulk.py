"""While a whole table comes in, the garbage collector rests: what comes is there to stay, and to walk it takes long."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def whole_table() -> Iterator[None]:
    """For as long as this lasts nothing is collected; what there is at its end is never looked at again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
