"""Running nginx from a directory of its own: shared by the backend and the peer."""

import grp
import os
import pwd
from pathlib import Path

from .errors import find

MAIN = """\
daemon off;
user {user} {group};
worker_processes {workers};
worker_rlimit_nofile {files};
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
{http}
}}
"""


def command(directory: Path, http: str, connections: int = 4096, workers: int = 1) -> list[str]:
    """Write a configuration around the http block and give the command line that runs it."""
    program = find("nginx", "apt-get install nginx")
    user = pwd.getpwuid(os.geteuid()).pw_name
    group = grp.getgrgid(os.getegid()).gr_name
    path = directory / "nginx.conf"
    text = MAIN.format(
        directory=directory,
        user=user,
        group=group,
        http=http,
        connections=connections,
        files=connections * 2,
        workers=workers,
    )
    path.write_text(text)
    return [program, "-e", "stderr", "-p", str(directory), "-c", str(path)]
