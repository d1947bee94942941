"""The version of the installed package."""

from importlib import metadata


def version() -> str:
    """Such as `0.1.0`; `unknown` in a source tree that is not installed."""
    try:
        return metadata.version("router")
    except metadata.PackageNotFoundError:
        return "unknown"
