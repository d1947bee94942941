"""`router config`: the values in effect with their origins, the reference page, the sample file."""

from __future__ import annotations

import json
from collections.abc import Mapping

from router.cli.check import load_or_report
from router.config.keys import LEAVES
from router.config.reference import reference_page, sample_file, yaml_value


def effective(config_path: str | None, overrides: Mapping[str, object], as_json: bool) -> int:
    """Write every value as a file would hold it, and where it came from; gives the exit status, 0 or 1."""
    loaded = load_or_report(config_path, overrides)
    if loaded is None:
        return 1
    values = {key: leaf.shown_in(loaded.config) for key, leaf in LEAVES.items()}
    if loaded.config.nats is None:
        values = {key: value for key, value in values.items() if not key.startswith("nats.")} | {"nats": None}
    if as_json:
        settings = {key: {"value": value, "origin": loaded.origins[key]} for key, value in values.items()}
        report = {"file": loaded.file, "dialect": loaded.dialect, "settings": settings}
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return 0
    lines = {f"{key}: {yaml_value(value)}": loaded.origins[key] for key, value in values.items()}
    width = min(max(map(len, lines)), 60)
    print(f"# dialect: {loaded.dialect}")
    for line, origin in lines.items():
        print(f"{line:{width}}  # {origin}")
    return 0


def reference() -> int:
    """Write docs/configuration.md; gives the exit status."""
    print(reference_page(), end="")
    return 0


def sample() -> int:
    """Write config/router.yml; gives the exit status."""
    print(sample_file(), end="")
    return 0
