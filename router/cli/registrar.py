"""`router registrar`: keeps the routes of a file registered, until a signal stops it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.registrar.registrar import Registrar


def registrar(path: str, check_only: bool, as_json: bool) -> int:
    """Register what the file at `path` says; gives the exit status: 0 after a signal, 1 when that can't be done."""
    from router.cli.check import print_json, report, report_notices
    from router.config.problems import ConfigError
    from router.observe.log import Log
    from router.registrar.address import AddressError
    from router.registrar.config import load
    from router.registrar.registrar import AccessError, Registrar

    try:
        config, warnings = load(path)
    except ConfigError as error:
        if as_json:
            print_json(error.name, error.problems, error.warnings)
        else:
            report(error)
        return 1
    if not as_json:
        report_notices(warnings)
    try:
        party = Registrar(config, Log("registrar"))
    except (AddressError, AccessError) as error:
        print(f"router registrar: {error}", file=sys.stderr)
        return 1
    if not check_only:
        asyncio.run(_run(party))
    elif as_json:
        print_json(path, (), warnings)
    else:
        print(f"{path}: ok")
        for each in (*party.routes, *party.read_files().values()):
            print(json.dumps(json.loads(each.payload)))
    return 0


async def _run(party: Registrar) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await party.run(stop)
