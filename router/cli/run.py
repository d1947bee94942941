"""`router run`: the router in the foreground, until a signal ends it; and what the other signals do.

An upgrade is an exec: the same process, with the program and the configuration as they are now. Workers serve on
meanwhile, offer themselves to the new control, and are replaced by it one by one. Signals that come while nobody
listens to them wait: they are blocked over the exec.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.config.load import Loaded
    from router.control.lifecycle import Order

UPGRADED = "ROUTER_UPGRADED"
"""In the environment of a control that takes over from the one before it in this process."""
CHECK_TIMEOUT = 30.0


def run(config_path: str | None, overrides: dict[str, object]) -> int:
    """Run the router; gives the exit status: 0 after an orderly end, 1 when it could not start, 3 after a drain that
    had to cut something."""
    from router.control.bulk import collect_seldom, whole_table

    collect_seldom()
    with whole_table():  # of modules, which stay as well
        from router.cli.check import load_or_report

        loaded = load_or_report(config_path, overrides)
        if loaded is None:
            return 1

        import setproctitle
        import uvloop

        _import_nats()
        import router.control.app  # noqa: F401
        from router.control.errors import StartError

    setproctitle.setproctitle(f"router: control {loaded.config.port}")
    try:
        status = uvloop.run(Running(loaded, config_path, overrides).serve())
    except StartError as error:
        print(f"router: {error}", file=sys.stderr)
        return 1
    if status is None:
        _exec()
    return status or 0


def _import_nats() -> None:
    """Import nats-py without aiohttp, which it would use for websockets, if it were there.

    It is, but takes a fifth of a second, and is wanted later only (`control.status`).
    """
    absent = "aiohttp" not in sys.modules
    if absent:
        sys.modules["aiohttp"] = None  # type: ignore[assignment]
    try:
        import nats.aio.client  # noqa: F401
    finally:
        if absent:
            del sys.modules["aiohttp"]


class Running:
    """One router in the foreground. Orders come by signal, one is carried out after the other."""

    def __init__(self, loaded: Loaded, config_path: str | None, overrides: dict[str, object]) -> None:
        from router.control.app import Control

        self._loaded = loaded
        self._path = config_path
        self._overrides = overrides
        self._control = Control(loaded.config)
        self._log = self._control.log

    async def serve(self) -> int | None:
        """From start to end; gives the exit status, None for an upgrade. A signal while it starts is heard too."""
        from router.control.lifecycle import EXIT_FORCED, SIGNALS, Order

        loop = asyncio.get_running_loop()
        orders: asyncio.Queue[Order] = asyncio.Queue()
        signals = SIGNALS[self._profile()]
        for number, order in signals.items():
            loop.add_signal_handler(number, orders.put_nowait, order)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

        await self._control.start()
        status: int | None = 0
        leaving = False
        try:
            after = loop.create_task(self._take_over()) if os.environ.pop(UPGRADED, "") else None
            while True:
                order = await self._next(orders)
                match order:
                    case Order.STOP:
                        break
                    case Order.DRAIN:
                        status = await self._drain(orders, EXIT_FORCED)
                        break
                    case Order.REOPEN:
                        self._control.reopen_logs()
                    case Order.RELOAD:
                        await self._reload()
                    case Order.UPGRADE if await self._may_upgrade():
                        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
                        leaving = True
                        break
            if after is not None:
                after.cancel()
        finally:
            if leaving:
                await self._control.leave()
                while not orders.empty():  # for who comes after us
                    order = orders.get_nowait()
                    os.kill(os.getpid(), next(number for number, means in signals.items() if means is order))
                status = None
            else:
                await self._control.stop()
        return status

    def _profile(self) -> str:
        chosen = self._loaded.config.signals
        return chosen or ("gorouter" if self._loaded.file and self._loaded.dialect == "gorouter" else "nginx")

    async def _next(self, orders: asyncio.Queue[Order]) -> Order:
        """The next order; raises what keeps the router from serving."""
        waiting = asyncio.ensure_future(orders.get())
        serving = asyncio.ensure_future(self._control.serving())
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            serving.result()
        serving.cancel()
        return await waiting

    async def _drain(self, orders: asyncio.Queue[Order], forced: int) -> int:
        """Drain; of further signals only a stop is heeded."""
        from router.control.lifecycle import Order

        draining = asyncio.ensure_future(self._control.drain())
        while not draining.done():
            another = asyncio.ensure_future(orders.get())
            await asyncio.wait({draining, another}, return_when=asyncio.FIRST_COMPLETED)
            if not another.done():
                another.cancel()
            elif another.result() is Order.STOP:
                draining.cancel()
                return 0
            else:
                self._log.info("gorouter.signal.ignored", order=another.result().value)
        return 0 if draining.result() else forced

    async def _reload(self) -> None:
        """Read the configuration again; a bad one is refused whole, with its problems in the log."""
        from router.config.load import load
        from router.config.problems import ConfigError
        from router.control.errors import StartError

        try:
            loaded = await asyncio.to_thread(load, self._path, overrides=self._overrides)
            for warning in loaded.warnings:
                self._log.warn("configuration-warning", text=str(warning))
            await self._control.reload(loaded.config)
            self._loaded = loaded
        except ConfigError as error:
            problems = [str(problem) for problem in error.problems]
            self._log.error("reload-refused", problems=problems, serving="with the configuration before")
        except StartError as error:
            self._log.error("reload-refused", problems=[str(error)], serving="with the configuration before")

    async def _may_upgrade(self) -> bool:
        """Whether the program as it is installed now can run with the configuration as it is now."""
        checked = [*_command(), "check"]
        if self._path is not None:
            checked += ["-c", self._path]
        process = await asyncio.create_subprocess_exec(
            *_program(checked), stdin=asyncio.subprocess.DEVNULL, stdout=-1, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                said, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            said = b"it does not answer"
        if process.returncode == 0:
            return True
        self._log.error("upgrade-refused", reason=said.decode(errors="replace").strip().splitlines()[-20:])
        return False

    async def _take_over(self) -> None:
        """Workers of the control before us run the old program: replace them."""
        await self._control.healthy()
        if await self._control.keeper.replace_all(self._control.config.effective_drain_timeout):
            self._log.info("upgraded")


def _command() -> list[str]:
    """What this program was started as, without its options: `python -m router`, or the console script."""
    given = sys.orig_argv
    if "-m" in given:
        return given[: given.index("-m") + 2]
    return given[: given.index(sys.argv[0]) + 1] if sys.argv[0] in given else [sys.executable, "-m", "router"]


def _program(argv: list[str]) -> list[str]:
    return [sys.executable, *argv[1:]]


def _exec() -> None:
    """Become the program as it is now installed."""
    os.environ[UPGRADED] = "1"
    os.execv(sys.executable, _program(sys.orig_argv))
