"""Loading: layers to one checked configuration, with the origin of every value, or every problem at once.

Flag over environment over file over default. A key given replaces the default whole, lists too; sections are
merged key by key. Nothing in here prints, and no secret leaves here in a message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from router.config import document
from router.config.contradictions import contradictions
from router.config.dialects import Dialect
from router.config.duration import format_duration
from router.config.explain import explained, presentable, written_path
from router.config.keys import LEAVES, MBUS
from router.config.layers import (
    Findings,
    Given,
    Layer,
    merge,
    read_environment,
    read_file,
    read_overrides,
    warn_of_nanoseconds,
)
from router.config.model import RouterConfig
from router.config.problems import ConfigError, Notice, Place

CLASSIC_DIRECTORY = "CLOUD_FOUNDRY_CONFIG_PATH"  # contract 13.2: holds router.yml when no file is named


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration and what is to be said about it."""

    config: RouterConfig
    warnings: tuple[Notice, ...]
    origins: Mapping[str, str]
    """Dotted key -> `FILE:LINE`, `environment NAME`, `flag`, `default`, or from what it was derived."""
    dialect: Dialect
    """Which router the file was written for; `gorouter` when nothing in it tells."""
    file: str | None
    """The file that was read, None when there is none."""

    @property
    def name(self) -> str:
        """What to call this configuration in messages."""
        return self.file or "configuration"


def load(
    path: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Loaded:
    """The configuration of `path` (None = no file), `environ` (None = the process's) and flags.

    `overrides` maps dotted keys to values, None = not given. Raises ConfigError with all problems.
    """
    environ = os.environ if environ is None else environ
    if path is None and environ.get(CLASSIC_DIRECTORY):
        path = os.path.join(environ[CLASSIC_DIRECTORY], "router.yml")
    file = None if path is None else os.fspath(path)

    findings = Findings()
    of_file: Layer = {}
    dialect: Dialect = "gorouter"
    if file is not None:
        of_file, dialect = read_file(file, findings)
    layer = merge(of_file, read_environment(environ, findings), read_overrides(overrides or {}, findings))
    warn_of_nanoseconds(layer, findings)
    config = _validate(layer, findings)
    findings.sort()
    if findings.problems:
        raise ConfigError(file or "configuration", findings.problems, findings.warnings)

    origins = {key: str(layer[key].origin) if key in layer else "default" for key in LEAVES}
    if config.nats is None:
        origins["nats"] = str(layer["nats"].origin)
    config = _derive(config, origins, layer, findings)
    findings.sort()
    return Loaded(config, tuple(findings.warnings), origins, dialect, file)


def _validate(layer: Layer, findings: Findings) -> RouterConfig:
    """Check values one by one, then those that are good against one another."""
    bad: set[str] = set()
    try:
        config = RouterConfig.model_validate(_nested(layer))
    except ValidationError as error:
        for details in error.errors(include_url=False):
            bad.add(_explain(details, layer, findings))
        good = {key: given for key, given in layer.items() if key not in bad}
        config = RouterConfig.model_validate(_nested(good))
    for keys, wrong, remedy in contradictions(config):
        if not bad.intersection(keys):
            place = next((layer[key].place() for key in keys if key in layer), Place("default"))
            findings.problem(keys[0], place, None, wrong, remedy)
    return config


def _nested(layer: Layer) -> dict[str, Any]:
    """The layer as pydantic wants it: dictionaries in dictionaries."""
    root: dict[str, Any] = {}
    for path, given in layer.items():
        *parents, name = path.split(".")
        section = root
        for parent in parents:
            section = section.setdefault(parent, {})
        section[name] = given.value
    return root


def _explain(details: ErrorDetails, layer: Layer, findings: Findings) -> str:
    """Turn one of pydantic's errors into a problem; gives the key of the model it belongs to."""
    path = details["loc"]
    depth = next(n for n in range(len(path), 0, -1) if ".".join(map(str, path[:n])) in layer)
    key, inside = ".".join(map(str, path[:depth])), path[depth:]
    given = layer[key]
    found = explained(details)
    shown = None
    if found.about_value:
        shown = "***" if found.kind.secret or given.key == MBUS else _shown(given, inside, details["input"])
    findings.problem(_written_path(given.key, inside), given.place(inside), shown, found.expected, found.hint)
    return key


def _written_path(key: str, inside: tuple[str | int, ...]) -> str:
    """`nats.hosts[0].port`, under the name that was written; `mbus` has no insides."""
    if key == MBUS:
        return key
    return written_path((key, *inside))


def _shown(given: Given, inside: tuple[str | int, ...], value: object) -> str:
    """The value for a message: as written, cut short, credentials in URLs masked."""
    if given.node is not None:
        text = document.written(document.descend(given.node, inside)[0])
    else:
        text = f'"{value}"' if isinstance(value, str) else str(value)
    return presentable(text)


def _derive(config: RouterConfig, origins: dict[str, str], layer: Layer, findings: Findings) -> RouterConfig:
    """Settings that follow from others: routes must live at least until the router answers (contract 2.7)."""
    delay, threshold = "start_response_delay_interval", "droplet_stale_threshold"
    if config.start_response_delay_interval <= config.droplet_stale_threshold:
        return config
    place = next(layer[key].place() for key in (threshold, delay) if key in layer)
    raised = format_duration(config.start_response_delay_interval)
    findings.warn(threshold, place, f"`{threshold}` is raised to `{delay}`, {raised}")
    origins[threshold] = f"raised to {delay} ({origins[delay]})"
    return config.model_copy(update={threshold: config.start_response_delay_interval})
