"""What all sections of a configuration share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping of a configuration file: unknown keys are errors, and nothing changes after loading."""

    model_config = ConfigDict(
        defer_build=True,  # all of it is built with the whole, when that is used
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_by_name=True,
        validate_by_alias=True,
    )
