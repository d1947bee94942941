"""Programs that some tests are about."""

from __future__ import annotations

import os
import shutil

import pytest


def find(name: str) -> str | None:
    """Path of a program, also one that only root's PATH leads to."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(("/usr/sbin", "/usr/local/sbin")))


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip without these programs; .ci/run installs them."""
    missing = [name for name in names if find(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
