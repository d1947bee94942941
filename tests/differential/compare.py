"""The same odd requests through the router, nginx and HAProxy, to a backend that records what reaches it.

Behind every request stands a probe, a plain request that asks for the connection to be closed: it ends the
conversation, and it shows what became of the bytes behind the odd one. An outcome is what complete requests the backend
got, and which statuses but 200 the client.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import free_port, running
from tests.support.wire import serving

CORPUS = Path(__file__).with_name("corpus.txt")
PROBE = b"GET /probe HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n"
SECONDS = 10.0
"""For one conversation; all of them end by themselves."""

_ADDED = re.compile(
    rb"(?:host|content-length|transfer-encoding|x-forwarded-for|x-forwarded-proto|x-request-start|x-vcap-request-id"
    rb"|x-cf-[a-z]+|connection: (?:close|keep-alive)?\Z)"
)
"""Lines that are the proxies' own, in lower case; a value that says `spoofed` never is."""


@dataclass(frozen=True)
class Section:
    """A kind of odd requests, and why the proxies treat them differently."""

    title: str
    why: str
    requests: list[bytes] = field(default_factory=list)


def corpus() -> list[Section]:
    """The sections of the corpus file."""
    sections: list[Section] = []
    for line in CORPUS.read_text().splitlines():
        if line.startswith("== "):
            title = line.removeprefix("== ")
        elif line.startswith("> "):
            sections.append(Section(title, line.removeprefix("> ")))
        elif line and not line.startswith("#"):
            sections[-1].requests.append(_unescaped(line))
    return sections


def _unescaped(line: str) -> bytes:
    long = re.sub(r"(.)\{(\d+)\}", lambda match: match[1] * int(match[2]), line)
    return long.encode().decode("unicode_escape").encode("latin-1")


def escaped(message: bytes) -> str:
    """A message as it stands in the corpus file."""
    text = message.decode("latin-1").encode("unicode_escape").decode()
    return re.sub(r"(.)\1{99,}", lambda match: f"{match[1]}{{{len(match[0])}}}", text)


def find(program: str) -> str | None:
    """The path of a program, also of a system daemon."""
    return shutil.which(program, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


class Recorder:
    """A backend that takes canonical HTTP/1.1, answers 200, and remembers every complete request."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Recorder]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await self._body(head.lower(), reader)
                self.requests.append(_told(head, body))
                entity = b"" if head.startswith(b"HEAD ") else b"ok"
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + entity)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _body(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        if b"\r\ntransfer-encoding:" not in head:
            length = re.search(rb"\r\ncontent-length: *(\d+)", head)
            return await reader.readexactly(int(length[1])) if length else b""
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            body += b" trailer " + line.strip()
        return body


def _told(head: bytes, body: bytes) -> str:
    """One request as it reached the backend, without what proxies add to every one."""
    first, *lines = head[:-4].split(b"\r\n")
    told = first.removesuffix(b" HTTP/1.1")
    host = [line.partition(b":")[2].strip() for line in lines if line.lower().startswith(b"host:")]
    if host != [b"app.test"]:
        told += b" Host: " + b", ".join(host)
    for line in lines:
        name, _, value = line.partition(b":")
        line = name.lower() + b": " + value.strip()
        if not _ADDED.match(line) or b"spoofed" in line:
            told += b" + " + line
    if body:
        told += b" + body " + body
    text = told.decode("latin-1").encode("unicode_escape").decode()
    return text if len(text) < 90 else text[:60] + "…"


async def converse(port: int, recorder: Recorder, message: bytes) -> str:
    """Send one message and the probe; gives the outcome."""
    recorder.requests.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = b""
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(message + PROBE)
            while piece := await reader.read(1 << 16):
                data += piece
    except ConnectionError:
        pass
    finally:
        writer.close()
    statuses = re.findall(rb"HTTP/1\.[01] ([2-5]\d\d) ", data)
    outcome = [told for told in recorder.requests if told != "GET /probe"]
    outcome += [status.decode() for status in statuses if status != b"200"]
    return ", ".join(outcome) or ("200" if b"200" in statuses else "closed")


async def outcomes(port: int, recorder: Recorder, messages: Sequence[bytes]) -> list[str]:
    """What becomes of the messages behind one port, one after the other."""
    return [await converse(port, recorder, message) for message in messages]


async def through_router(messages: Sequence[bytes]) -> list[str]:
    async with Recorder().serving() as recorder, serving() as (bench, _):
        bench.route("app.test", recorder.port)
        return await outcomes(bench.port, recorder, messages)


NGINX = """\
daemon off;
pid {directory}/nginx.pid;
error_log /dev/null crit;
worker_processes 1;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  client_header_buffer_size 64k;
  server {{ listen 127.0.0.1:{port} default_server; location / {{ return 404; }} }}
  server {{
    listen 127.0.0.1:{port};
    server_name app.test;
    location / {{
      proxy_pass http://127.0.0.1:{backend};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
    }}
  }}
}}
"""


async def through_nginx(program: str, directory: Path, messages: Sequence[bytes]) -> list[str]:
    async with Recorder().serving() as recorder:
        port, path = free_port(), directory / "nginx.conf"
        path.write_text(NGINX.format(directory=directory, port=port, backend=recorder.port))
        async with running([program, "-e", "/dev/null", "-p", str(directory), "-c", str(path)], port):
            return await outcomes(port, recorder, messages)


VERSION = re.compile(r"\d+\.\d+")


async def version(program: str) -> str:
    """Major and minor version of nginx or HAProxy."""
    said = await asyncio.create_subprocess_exec(
        program, "-v", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    found = VERSION.search((await said.communicate())[0].decode())
    assert found is not None
    return found[0]


HAPROXY = """\
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  http-reuse always
frontend front
  bind 127.0.0.1:{port}
  acl ours hdr(host),field(1,:) -i app.test app.test.
  use_backend back if ours
  default_backend nowhere
backend back
  server one 127.0.0.1:{backend}
backend nowhere
  http-request return status 404
"""


async def through_haproxy(program: str, directory: Path, messages: Sequence[bytes]) -> list[str]:
    async with Recorder().serving() as recorder:
        port, path = free_port(), directory / "haproxy.cfg"
        path.write_text(HAPROXY.format(port=port, backend=recorder.port))
        async with running([program, "-db", "-f", str(path)], port):
            return await outcomes(port, recorder, messages)
