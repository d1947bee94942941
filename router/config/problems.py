"""What can be wrong with a configuration: problems stop the start, notices do not.

One error type, `ConfigError`, holds every problem found at once. Nothing here imports pydantic or YAML, so
the command line can name these types without paying for them. No text made here shows a secret: whoever
builds a `Problem` masks `value` first (`load.py`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written: a line of a file, or a `source` that has no lines."""

    source: str
    """Name of the file as the user gave it, or `environment NAME`, or `flag`."""
    line: int | None = None
    """1 is the first line; None outside files."""
    column: int | None = None
    """1 is the first column; None outside files."""

    def __str__(self) -> str:
        """`FILE:LINE` or the source alone: the form used for origins."""
        return self.source if self.line is None else f"{self.source}:{self.line}"

    def exact(self) -> str:
        """`FILE:LINE:COLUMN` or the source alone: the form editors jump to."""
        return str(self) if self.column is None else f"{self}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that must be mended before the router starts."""

    path: str
    """Dotted key (`nats.hosts[0].port`); empty when the whole file is meant."""
    place: Place
    value: str | None
    """The value as written, `***` for secrets; None when showing it would not help or might show a secret."""
    expected: str
    """What would be right in place of `value`; without a value, what is wrong."""
    hint: str = ""
    """The remedy: a nearest key, the other line of a duplicate, another key to use."""

    @property
    def file(self) -> str:
        return self.place.source

    @property
    def line(self) -> int | None:
        return self.place.line

    @property
    def column(self) -> int | None:
        return self.place.column

    def __str__(self) -> str:
        subject = f"{self.path}: " if self.path else ""
        value = f"{self.value} given, expected " if self.value is not None else ""
        remedy = f" ({self.hint})" if self.hint else ""
        return f"{self.place.exact()}: {subject}{value}{self.expected}{remedy}"

    def as_json(self) -> dict[str, object]:
        """The same as a flat JSON object."""
        fields = asdict(self)
        del fields["place"]
        return {"file": self.file, "line": self.line, "column": self.column, **fields}


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing the operator should know; the configuration is accepted all the same."""

    path: str
    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"

    def as_json(self) -> dict[str, object]:
        """The same as a flat JSON object."""
        return {
            "file": self.place.source,
            "line": self.place.line,
            "path": self.path,
            "message": self.message,
        }


class ConfigError(Exception):
    """The configuration cannot be used; `problems` says why, `warnings` what else was noticed on the way."""

    def __init__(self, name: str, problems: list[Problem], warnings: list[Notice]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.name = name
        """The file, or `configuration` when there is none."""
        self.problems = problems
        self.warnings = warnings
