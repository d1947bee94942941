"""The headers by which a client asks for one instance of an app (contract §3.5). Bytes in, a wish out; no I/O."""

from __future__ import annotations

import re
from typing import NamedTuple

from router.http import errors
from router.messages import EndpointSpec

APP_INSTANCE = b"x-cf-app-instance"
PROCESS_INSTANCE = b"x-cf-process-instance"

_GUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_APP = re.compile(f"({_GUID}):([0-9]+)")
_PROCESS = re.compile(f"({_GUID})(?::([0-9]+))?")


class Wanted(NamedTuple):
    """An app's instance, or a process's: all of them if `number` is None. `missing` answers when there is none."""

    process: bool
    guid: str
    number: str | None
    missing: errors.ErrorRow

    def matches(self, spec: EndpointSpec) -> bool:
        """This endpoint is meant."""
        if self.number is not None and spec.instance_index != self.number:
            return False
        if self.process:
            return ("process_id", self.guid) in (spec.tags or ())
        return spec.app == self.guid


def wanted(noted: dict[bytes, bytes]) -> Wanted | errors.ErrorRow | None:
    """What the request asks for; the error row of a header that can't be read; None when it asks for nothing.

    With both headers the one for apps decides; an empty header is none.
    """
    if value := noted.get(APP_INSTANCE):
        match = _APP.fullmatch(value.decode("latin-1"))
        if match is None:
            return errors.INVALID_APP_INSTANCE
        return Wanted(False, match[1], match[2], errors.UNKNOWN_INSTANCE)
    if value := noted.get(PROCESS_INSTANCE):
        match = _PROCESS.fullmatch(value.decode("latin-1"))
        if match is None:
            return errors.INVALID_PROCESS_INSTANCE
        missing = errors.UNKNOWN_PROCESS if match[2] is None else errors.UNKNOWN_PROCESS_INSTANCE
        return Wanted(True, match[1], match[2], missing)
    return None
