"""`router top`: apps by rate, errors, latency, live in the terminal; one app's endpoints with their states.

Asks the running router once a second. `State` is what keys change and `picture` what is drawn of it and of the last
answers, both without a terminal; `_live` alone knows keyboard and screen.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from router.cli.ask import AskError, Target, ask

if TYPE_CHECKING:
    from rich.console import RenderableType

INTERVAL = 1.0
"""Seconds between two questions."""
SORT_KEYS = {"r": "rate", "e": "errors", "l": "p99", "m": "p50", "i": "instances", "f": "in_flight", "a": "app"}
HELP = (
    "r rate  e errors  l p99  m p50  i instances  f in flight  a app   space reverse   / filter   "
    "arrows, Enter one app   Esc back   q quit"
)
_BARS = " ▁▂▃▄▅▆▇█"
_SPARK = 20
_COLOURS = {"in": "green", "full": "yellow", "draining": "yellow"}
"""Of an endpoint's state; others are red."""
_ENTER, _ESCAPE, _BACKSPACE = ("\r", "\n"), "\x1b", ("\x7f", "\b")
_ARROWS = {"\x1b[A": -1, "\x1b[B": 1, "\x1bOA": -1, "\x1bOB": 1}


@dataclass
class State:
    """What is looked at."""

    sort: str = "rate"
    descending: bool = True
    text: str = ""
    typing: bool = False
    """Keys go into the filter."""
    selected: int = 0
    offset: int = 0
    rows: int = 20
    app: str | None = None
    """The one app that is open."""
    done: bool = False

    def path(self) -> str:
        """What to ask for besides the overview."""
        if self.app is not None:
            return f"/api/app?app={quote(self.app, safe='')}"
        order = "desc" if self.descending else "asc"
        return (
            f"/api/apps?sort={self.sort}&order={order}&q={quote(self.text, safe='')}"
            f"&offset={self.offset}&limit={self.rows}"
        )

    def press(self, key: str, apps: list[str], total: int) -> None:
        """A key: a character, or the escape sequence of one; `apps` are those shown, of `total`."""
        if self.typing:
            self._type(key)
        elif key in ("q", "\x03", "\x04"):
            self.done = True
        elif self.app is not None:
            if key in (_ESCAPE, *_BACKSPACE):
                self.app = None
        elif key in SORT_KEYS:
            sort = SORT_KEYS[key]
            self.descending = not self.descending if sort == self.sort else sort != "app"
            self.sort, self.offset, self.selected = sort, 0, 0
        elif key == " ":
            self.descending = not self.descending
        elif key == "/":
            self.typing = True
        elif key == _ESCAPE:
            self.text, self.offset, self.selected = "", 0, 0
        elif key in _ENTER:
            if self.selected < len(apps):
                self.app = apps[self.selected]
        else:
            self._move(_ARROWS.get(key, {"j": 1, "k": -1}.get(key, 0)), len(apps), total)

    def _type(self, key: str) -> None:
        if key in _ENTER or key == _ESCAPE:
            self.typing = False
        elif key in _BACKSPACE:
            self.text = self.text[:-1]
        elif key.isprintable():
            self.text += key
        self.offset = self.selected = 0

    def _move(self, step: int, shown: int, total: int) -> None:
        wanted = self.selected + step
        if wanted >= shown and self.offset + shown < total:
            self.offset += 1
        elif wanted < 0 and self.offset:
            self.offset -= 1
        self.selected = min(max(wanted, 0), max(shown - 1, 0))


def top(target: Target, *, as_json: bool, once: bool, app: str | None, sort: str, text: str) -> int:
    """Show apps, live or `once`; gives the exit status."""
    from router.admin.views import SORTS

    if sort not in SORTS:
        print(f"router top: --sort: one of {', '.join(SORTS)} expected, not {sort!r}", file=sys.stderr)
        return 2
    state = State(sort=sort, descending=sort != "app", text=text, app=app)
    try:
        if as_json or once:
            return _once(target, state, as_json)
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            print("router top: this is no terminal; give --once or --json", file=sys.stderr)
            return 2
        return _live(target, state)
    except AskError as error:
        print(f"router top: {error}", file=sys.stderr)
        return 1


def _once(target: Target, state: State, as_json: bool) -> int:
    state.rows = 500
    overview, view = ask(target, "/api/overview"), ask(target, state.path())
    if as_json:
        print(json.dumps({"overview": overview, "app" if state.app is not None else "apps": view}, indent=2))
        return 0
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 120
    state.selected = -1
    console.print(picture(state, overview, view, hints=False))
    return 0


def _live(target: Target, state: State) -> int:
    import termios
    import tty

    from rich.console import Console
    from rich.live import Live

    console = Console()
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    trouble = ""
    overview: dict[str, Any] = ask(target, "/api/overview")
    view: dict[str, Any] = ask(target, state.path())
    try:
        tty.setcbreak(keyboard)
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while not state.done:
                live.update(picture(state, overview, view, trouble), refresh=True)
                if not _pressed(keyboard, state, view):
                    overview, trouble = _ask_again(target, "/api/overview", overview, trouble="")
                state.rows = max(console.height - 9, 5)
                view, trouble = _ask_again(target, state.path(), view, trouble)
    except KeyboardInterrupt:
        pass
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
    return 0


def _ask_again(target: Target, path: str, last: dict[str, Any], trouble: str) -> tuple[dict[str, Any], str]:
    """The new answer, or the last one and why there is no new one."""
    try:
        return ask(target, path), trouble
    except AskError as error:
        return last, str(error)


def _pressed(keyboard: int, state: State, view: dict[str, Any]) -> bool:
    """Wait for a key, at most until it is time to ask again."""
    if not select.select([keyboard], [], [], INTERVAL)[0]:
        return False
    data = os.read(keyboard, 64).decode("utf-8", "replace")
    apps = [row["app"] for row in view.get("apps", ())]
    keys = [data] if data.startswith(_ESCAPE) else list(data)
    for key in keys:
        state.press(key, apps, view.get("total", 0))
    return True


# ---------------------------------------------------------------- drawing


def picture(
    state: State, overview: dict[str, Any], view: dict[str, Any], trouble: str = "", *, hints: bool = True
) -> RenderableType:
    """What the terminal shows."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_summary(overview)]
    if trouble:
        parts.append(Text(trouble, style="bold red"))
    if state.app is not None:
        parts += _one(view) if "endpoints" in view else [Text(f"{state.app}: no figures yet")]
    elif "apps" in view:
        parts.append(_table(state, view))
        last = view["offset"] + len(view["apps"])
        shown = f"{view['offset'] + 1} to {last} of {view['total']}" if view["total"] else "no app"
        wanted = f"   filter: {state.text}{'_' if state.typing else ''}" if state.text or state.typing else ""
        parts.append(Text(f"{shown}{wanted}", style="dim"))
    if hints:
        parts.append(Text(HELP, style="dim"))
    return Group(*parts)


def _summary(overview: dict[str, Any]) -> RenderableType:
    from rich.text import Text

    router, totals, bus, table = (overview[name] for name in ("router", "totals", "bus", "table"))
    text = Text()
    text.append(" healthy " if router["healthy"] else f" {router['reason']} ", "green" if router["healthy"] else "red")
    state = "NATS connected" if bus["connected"] else "NATS lost" if bus["configured"] else "no bus"
    text.append(f"{router['ip']}:{router['port']}  up {_span(router['uptime'])}  {state}  ")
    text.append(f"{len(overview['workers'])} workers  {table['apps']} apps  {table['endpoints']} endpoints\n")
    times = totals["latency"]["total"]
    text.append(f" {_number(totals['rate_10s'])} requests a second  ", "bold")
    text.append(f"{_number(totals['errors_10s'])} 5xx  ", "bold red" if totals["errors_10s"] else "")
    text.append(f"p50 {_ms(times['p50'])}  p99 {_ms(times['p99'])}  {totals['in_flight']} in flight  ")
    text.append(spark(totals["spark"]), "cyan")
    return text


def _table(state: State, view: dict[str, Any]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, expand=True)
    arrow = "↓" if state.descending else "↑"
    for key, title, justify in (
        ("app", "app", "left"),
        ("", "last 20 s", "left"),
        ("rate", "rate", "right"),
        ("errors", "5xx", "right"),
        ("p50", "p50", "right"),
        ("p99", "p99", "right"),
        ("instances", "instances", "right"),
        ("in_flight", "in flight", "right"),
    ):
        name = f"{title} {arrow}" if key == state.sort else title
        shown.add_column(Text(name), justify=justify, no_wrap=True, ratio=1 if key == "app" else None)  # type: ignore[arg-type]
    for number, row in enumerate(view["apps"]):
        there = row["instances"] - row["ejected"]
        shown.add_row(
            Text(row["app"]),
            Text(spark(row["spark"]), "cyan"),
            _number(row["rate"]),
            Text(_number(row["errors"]), "bold red" if row["errors"] else "dim"),
            _ms(row["p50"]),
            _ms(row["p99"]),
            Text(f"{there}/{row['instances']}" if row["ejected"] else str(there), "bold red" if row["ejected"] else ""),
            str(row["in_flight"]),
            style="reverse" if number == state.selected else None,
        )
    return shown


def _one(app: dict[str, Any]) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    times = app["latency"]["10s"]
    head = Text(f"\n{app['app']}  ", "bold")
    head.append(", ".join(app["routes"][:5]), "dim")
    head.append(f"\n{_number(app['rate']['10s'])} requests a second  {_number(app['errors']['10s'])} 5xx  ")
    head.append(spark(app["spark"], 60), "cyan")
    head.append(
        "\n" + "  ".join(f"{kind}: p50 {_ms(t['p50'])} p99 {_ms(t['p99'])}" for kind, t in times.items()) + "\n"
    )
    endpoints = Table(
        "state", "backend", "instance", "rate", "p50", "p99", "in flight", "5xx", "failed", "why", box=None
    )
    for each in app["endpoints"]:
        endpoints.add_row(
            Text(each["state"], _COLOURS.get(each["state"], "bold red")),
            each["backend"],
            each["index"],
            _number(each["rate"]),
            _ms(each["p50"]),
            _ms(each["p99"]),
            str(each["in_flight"]),
            str(each["responses"]["5xx"]),
            str(each["failed_attempts"]),
            Text(each["why"]),
        )
    failed = Text("\n")
    for each in app["failures"][:8]:
        clock = time.strftime("%H:%M:%S", time.localtime(each["at"]))
        failed.append(f"{clock} {each['status']} {each['method']} {each['host']}{each['target']}  {each['error']}\n")
    return [head, endpoints, failed]


def spark(values: list[float], width: int = _SPARK) -> str:
    """The last values as a line of bars."""
    last = values[-width:]
    most = max(last, default=0) or 1
    return "".join(_BARS[min(int(value / most * 8 + 0.999), 8)] for value in last)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value else "0"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def _span(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours // 24} d {hours % 24} h" if hours >= 24 else f"{hours}:{rest // 60:02}:{rest % 60:02}"
