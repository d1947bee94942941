"""`router health`: whether the router is well, as an exit status; for health checks of containers and scripts.

With `--url` nothing is read but the answer, so that it may be asked every few seconds.
"""

from __future__ import annotations

import json
import ssl
import sys
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import NamedTuple

from router.cli.ask import AskError, Target, given_access, running_access, why

TIMEOUT = 2.0
"""Seconds for the router to answer."""


class Found(NamedTuple):
    """What the router said; `status` is 0 when it said nothing."""

    healthy: bool
    status: int
    reason: str


def health(target: Target, ready: bool, as_json: bool) -> int:
    """Ask, and say what came; gives the exit status: 0 when it is well. `ready`: fit for traffic (`/readyz`)."""
    try:
        found = _ask(target, "/readyz" if ready else "/health")
    except AskError as error:
        found = Found(False, 0, str(error))
    word = "ready" if ready else "healthy"
    if as_json:
        print(json.dumps(found._asdict()))
    elif found.healthy:
        print(word)
    else:
        print(f"router health: {f'not {word}: ' if found.status else ''}{found.reason}", file=sys.stderr)
    return 0 if found.healthy else 1


def _ask(target: Target, path: str) -> Found:
    context = None
    if target.url is not None:
        url = given_access(target.url).url
    else:
        url = running_access(target.config_path).health_url
        if url.startswith("https:"):
            context = ssl._create_unverified_context()  # it is our own machine, and its certificate is for another name
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    try:
        with urllib.request.build_opener(*handlers).open(f"{url}{path}", timeout=TIMEOUT) as answer:
            return Found(True, answer.status, "")
    except urllib.error.HTTPError as error:
        reason = error.read(1000).decode("utf-8", "replace").strip()
        return Found(False, error.code, reason or f"{url}{path} answers with status {error.code}")
    except OSError as error:
        raise AskError(f"the router does not answer at {url} ({why(error)})") from error
    except (ValueError, HTTPException) as error:
        raise AskError(f"{url} does not answer as a router ({error!r}); is it another program?") from error
