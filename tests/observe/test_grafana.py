"""The dashboard and alert rules in deploy/ speak of series, and labels of them, that /metrics has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.observe.metrics import Renderer
from router.observe.varz import Figures
from tests.observe.test_figures import Clock, did, stats, taken

DEPLOY = Path(__file__).parents[2] / "deploy"
WORDS = set("sum by rate max_over_time histogram_quantile topk max label_values le".split())  # noqa: SIM905


def series() -> dict[str, set[str]]:
    """Name → labels, of a router that has seen something of everything."""
    figures, clock = Figures(), Clock()
    figures.apps._clock = clock
    endpoint = did("a", failures=1, state="failed", failed_for=5.0)
    endpoint.classes[3] = 1
    report = stats([endpoint], BAD_GATEWAYS=1)
    report.reasons = {"EOF": 1}
    figures.received(0, report)
    clock.now += 1
    found: dict[str, set[str]] = {}
    for line in Renderer().render(taken(figures, max_endpoints=9)).decode().splitlines():
        if match := re.match(r"([a-z_]+)(?:\{(.*)\})? ", line):
            found.setdefault(match[1], {"instance"}).update(re.findall(r"(\w+)=\"", match[2] or ""))
    return found


def expressions() -> Iterator[str]:
    dashboard: dict[str, Any] = json.loads((DEPLOY / "grafana/router.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield dashboard["templating"]["list"][1]["query"]["query"]
    rules = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())
    yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])


KNOWN = series()


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_what_is_asked_for_is_there(expression: str) -> None:
    plain = re.sub(r'"[^"]*"|\[[^]]*\]', "", expression)
    names = set(re.findall(r"[a-z_]{2,}", re.sub(r"\{[^}]*\}|by \([^)]*\)", "", plain))) - WORDS
    names -= {"app"} if expression.startswith("label_values") else set()
    assert names
    assert names <= KNOWN.keys(), names - KNOWN.keys()
    labels = set(re.findall(r"(\w+)(?:=~|=)", "".join(re.findall(r"\{([^}]*)\}", expression))))
    labels |= {name.strip() for group in re.findall(r"by \(([^)]*)\)", plain) for name in group.split(",")}
    assert labels <= set.union(*(KNOWN[name] for name in names)), labels
