"""`router run`: the router in the foreground, until a signal stops it."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.config.model import RouterConfig
    from router.control.app import Control


def run(config_path: str | None, overrides: dict[str, object]) -> int:
    """Run the router; gives the exit status: 0 after an orderly stop, 1 when it could not start."""
    from router.cli.check import load_or_report

    loaded = load_or_report(config_path, overrides)
    if loaded is None:
        return 1

    import setproctitle
    import uvloop

    from router.control.errors import StartError

    setproctitle.setproctitle(f"router: control {loaded.config.port}")
    try:
        uvloop.run(_serve(loaded.config))
    except StartError as error:
        print(f"router: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(config: RouterConfig) -> None:
    """From start to stop. A signal that comes while the router starts stops it too."""
    from router.control.app import Control
    from router.control.lifecycle import LATER_SIGNALS, STOP_SIGNALS

    loop = asyncio.get_running_loop()
    control = Control(config)
    stop = asyncio.Event()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, control.reopen_logs)
    for number, meaning in LATER_SIGNALS.items():
        loop.add_signal_handler(number, _not_yet, control, number.name, meaning)

    await control.start()
    try:
        stopping = loop.create_task(stop.wait())
        serving = loop.create_task(control.serving())
        await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            serving.result()
            await stopping
    finally:
        await control.stop()


def _not_yet(control: Control, name: str, meaning: str) -> None:
    control.log.warn("signal-not-supported-yet", signal=name, will=meaning)
