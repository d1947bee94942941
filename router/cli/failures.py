"""`router failures`: requests that lately ended in an error of the router's, and why."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

from router.cli.ask import Target, shown


def failures(target: Target, request_id: str, app: str, text: str, limit: int, as_json: bool) -> int:
    """Show them, the newest first; gives the exit status, 1 when the one that is asked for is not known."""
    path = "/api/failures?" + urlencode({"request_id": request_id, "app": app, "q": text, "limit": limit})

    def show(answer: dict[str, Any]) -> int:
        found = answer["failures"]
        if not found:
            print(
                f"No failed request with the id {request_id} is known." if request_id else "No request failed lately."
            )
            return 1 if request_id else 0
        for each in found:
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each["at"]))
            print(f"{at}  {each['status']}  {each['method']} {each['host']}{each['target']}  {each['request_id']}")
            whom = f" by {each['backend']} of {each['app'] or 'an unnamed app'}" if each["backend"] else ""
            print(f"    {each['error']}{whom}; attempts: {each['attempts']}, took {each['taken_ms']} ms")
        return 0

    return shown("failures", target, path, as_json, show)
