"""The garbage collector and large tables: what is in them is there to stay, and to walk it takes long."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def collect_seldom() -> None:
    """For a whole process: modules and tables are many objects that stay, and looking through them finds nothing."""
    gc.set_threshold(100_000, 20, 1000)


@contextmanager
def whole_table() -> Iterator[None]:
    """While a whole table comes in, nothing is collected; what there is at its end is never looked at again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
