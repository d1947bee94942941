"""Asking the running router: what all commands share that do.

Where it is and how to be let in stands in `run_dir/status.json`, which the router leaves there while it runs; or it is
given: `--url http://USER:PASSWORD@HOST:PORT`.
"""

from __future__ import annotations

import base64
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from router.control.state import StatusAccess

TIMEOUT = 15.0
"""Seconds for the router to answer."""


class AskError(Exception):
    """Why there is no answer, in words for the user."""


class Target(NamedTuple):
    """Which router is meant: the one with this configuration, or the one at `url`."""

    config_path: str | None
    url: str | None


class Access(NamedTuple):
    """Base URL, and how to be let in."""

    url: str
    user: str
    password: str


def ask(target: Target, path: str) -> Any:
    """The decoded answer to a GET. Raises AskError."""
    access = _access(target)
    credentials = base64.b64encode(f"{access.user}:{access.password}".encode()).decode()
    request = urllib.request.Request(f"{access.url}{path}", headers={"Authorization": f"Basic {credentials}"})
    # A proxy of the environment is not meant for this machine's own loopback interface.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise AskError(_refusal(access, error)) from error
    except OSError as error:
        doubt = "is it the status port of a router?" if target.url else "was it killed? Start it again"
        raise AskError(f"the router does not answer at {access.url} ({why(error)}); {doubt}") from error
    except (ValueError, HTTPException) as error:
        raise AskError(f"{access.url} does not answer as a router; is it another program?") from error


def shown(command: str, target: Target, path: str, as_json: bool, show: Callable[[Any], int]) -> int:
    """Ask and show, or say why not; gives the exit status, with JSON 0 for every answer."""
    try:
        answer = ask(target, path)
    except AskError as error:
        print(f"router {command}: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return 0
    return show(answer)


def _access(target: Target) -> Access:
    if target.url is not None:
        return given_access(target.url)
    told = running_access(target.config_path)
    return Access(told.url, told.user, told.password)


def given_access(text: str) -> Access:
    """What `--url` says. Raises AskError."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AskError(f"--url: {error}") from error
    if not host or parts.scheme not in ("http", "https"):
        raise AskError("--url: expected http://USER:PASSWORD@HOST:PORT of a status port")
    shown_host = f"[{host}]" if ":" in host else host
    address = f"{parts.scheme}://{shown_host}" + (f":{port}" if port else "")
    return Access(address, unquote(parts.username or ""), unquote(parts.password or ""))


def running_access(config_path: str | None) -> StatusAccess:
    """Word left by the router that runs with this configuration. Raises AskError."""
    from router.cli.check import load_or_report
    from router.control.state import load_status

    loaded = load_or_report(config_path)
    if loaded is None:
        raise AskError("the configuration can't be used")
    run_dir = loaded.config.effective_run_dir
    access = load_status(run_dir)
    if access is None:
        raise AskError(
            f"no router runs on port {loaded.config.port} with the run_dir {run_dir}; start it with `router run`, "
            "name its configuration with -c FILE, or its status port with --url"
        )
    return access


def why(error: OSError) -> str:
    """Why there is no answer, in the system's words."""
    from router.control.errors import reason

    cause = getattr(error, "reason", error)  # urllib hides it in an error of its own
    return reason(cause) if isinstance(cause, BaseException) else str(cause)


def _refusal(access: Access, error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        pass
    if error.code == 401:
        wrong = "user or password is wrong" if access.user or access.password else "it wants user and password"
        return (
            f"{access.url} does not let us in, {wrong}: "
            "give status.user and status.pass as --url http://USER:PASSWORD@HOST:PORT"
        )
    return f"{access.url} refused with status {error.code}; is it another program, or an older router?"
