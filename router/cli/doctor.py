"""`router doctor`: mistakes of the set-up around the running router, each with its remedy."""

from __future__ import annotations

import time
from typing import Any

from router.cli.ask import AskError, Target, ask

SKEW = 2.0
"""Seconds by which two clocks may differ before that is a finding."""


def doctor(target: Target, as_json: bool) -> int:
    """Show the findings; gives the exit status: 1 when there is an error among them, or no answer."""
    import json
    import sys

    asked = time.time()
    try:
        answer = ask(target, "/api/doctor")
    except AskError as error:
        print(f"router doctor: {error}", file=sys.stderr)
        return 1
    findings: list[dict[str, Any]] = answer["findings"]
    if (skew := skew_of(answer["now"], asked, time.time())) > SKEW:
        findings.append(
            {
                "severity": "warning",
                "check": "clock",
                "what": f"the clock of the router's machine and the one of this machine differ by {skew:.0f} s",
                "remedy": "run a time service (NTP) on both: ages, logs and traces are told by these clocks",
            }
        )
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        _show(findings)
    return int(any(finding["severity"] == "error" for finding in findings))


def skew_of(theirs: float, asked: float, answered: float) -> float:
    """Seconds by which a clock read between these two moments of ours is certainly off."""
    return max(asked - theirs, theirs - answered, 0.0)


def _show(findings: list[dict[str, Any]]) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    for finding in findings:
        style = "red" if finding["severity"] == "error" else "yellow"
        console.print(f"{finding['severity']}: {finding['what']}", style=style)
        console.print(f"  remedy: {finding['remedy']}")
    errors = sum(finding["severity"] == "error" for finding in findings)
    console.print(f"{errors} errors, {len(findings) - errors} warnings")
