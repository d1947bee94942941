"""What is asked of the proxies: one row a scenario.

A row is all there is to a scenario: the backend serves `/small` and `/bytes/N`, the load generator takes the
rest from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

HOST = "bench.localhost"
SMALL_BODY = b"Hello, world\n"

BROWSER_HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/141.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Cache-Control": "max-age=0",
    "Referer": f"http://{HOST}/orders?page=3",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Upgrade-Insecure-Requests": "1",
    "Cookie": "session=" + "0123456789abcdef" * 20 + "; theme=dark; consent=" + "ab" * 25,
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of request, and how many connections send it."""

    name: str
    about: str
    path: str = "/small"
    answer_bytes: int = len(SMALL_BODY)
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body_bytes: int = 0
    connections: int = 64
    default: bool = True

    @property
    def sent_headers(self) -> dict[str, str]:
        return {"Host": HOST, **self.headers}


def download(name: str, size: int, default: bool = True) -> Scenario:
    """A GET with a large answer."""
    about = f"GET with an answer of {size:,} bytes"
    return Scenario(name, about, f"/bytes/{size}", size, default=default)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("small", "tiny GET, few headers"),
        Scenario("browser", "tiny GET with ten browser headers and a 400-byte cookie", headers=BROWSER_HEADERS),
        download("1k", 1024, default=False),
        download("100k", 100 * 1024),
        download("10m", 10 * 1024 * 1024, default=False),
        Scenario("post", "POST of 10 KB, tiny answer", method="POST", body_bytes=10 * 1024, default=False),
        Scenario("close", "a new connection for every request", headers={"Connection": "close"}, default=False),
    )
}
