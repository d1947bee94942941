"""Help for the tables of configuration tests: a text in, a configuration or its problems out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from router.config.load import Loaded, load
from router.config.problems import ConfigError


@pytest.fixture
def load_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Loaded]:
    """Load a text as `router.yml`, with an empty environment unless one is given."""
    monkeypatch.chdir(tmp_path)

    def load_it(text: str, environ: Mapping[str, str] | None = None, **overrides: object) -> Loaded:
        Path("router.yml").write_text(text)
        return load("router.yml", environ or {}, overrides)

    return load_it


@pytest.fixture
def problems_of(load_text: Callable[..., Loaded]) -> Callable[..., list[str]]:
    """All problems of a text, as the lines that `router check` prints."""

    def problems(text: str, environ: Mapping[str, str] | None = None, **overrides: object) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_text(text, environ, **overrides)
        return [str(problem) for problem in caught.value.problems]

    return problems
