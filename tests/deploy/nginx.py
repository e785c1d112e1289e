"""Debian's nginx with the documented configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.s3server import PATH, NotToBeHadError
from tests.waiting import wait_until

DOCUMENTED = Path(__file__).parents[2] / "deploy" / "proxy" / "nginx.conf"
# What surrounds site files in Debian's nginx.conf, with the test's paths. Its OpenSSL accepts any TLS version.
MAIN_CONFIG = """
{user}
daemon off;
worker_processes 2;
error_log {home}/error.log warn;
pid {home}/pid;
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    default_type application/octet-stream;
    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
    ssl_prefer_server_ciphers on;
    ssl_ciphers DEFAULT:@SECLEVEL=0;
    access_log {home}/access.log;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    gzip on;
    include {home}/site.conf;
}}
"""


def replaced(text: str, *changes: tuple[str, str]) -> str:
    """Replace ports, paths and names in a documented text. Fail if one of them is not there."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def site(plain: int, tls: int, certificate: Path, *registries: int) -> str:
    """Return the documented site file with ports for HTTP, for HTTPS, and for one or two registries.

    The certificate's file must also contain the key.
    """
    servers = ("server 127.0.0.1:5000 ", "# server 127.0.0.1:5001 ")
    return replaced(
        DOCUMENTED.read_text(),
        *((f"listen {port} ", f"listen 127.0.0.1:{here} ") for port, here in ((80, plain), (443, tls))),
        *((f"listen [::]:{port} ", f"listen 127.0.0.2:{here} ") for port, here in ((80, plain), (443, tls))),
        ("/etc/ssl/certs/quilt.pem", str(certificate)),
        ("/etc/ssl/private/quilt.key", str(certificate)),
        *((server, f"server 127.0.0.1:{port} ") for server, port in zip(servers, registries, strict=False)),
    )


class Nginx:
    """nginx with a file as in /etc/nginx/sites-enabled. It writes only below `home`."""

    def __init__(self, home: Path, configuration: str):
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.process = home, None
        user = "user root;" if os.geteuid() == 0 else ""  # other users cannot read the directories of tests
        (home / "nginx.conf").write_text(MAIN_CONFIG.format(user=user, home=home))
        self._write(configuration)

    process: subprocess.Popen[bytes] | None

    def start(self) -> Nginx:
        """Start it and wait until it serves. It ends with this process. Raise NotToBeHadError if nginx is missing."""
        if not shutil.which("nginx", path=PATH):
            raise NotToBeHadError("There is no nginx. Install the Debian package nginx-light.")
        self._run("-t")
        with open(self.home / "out", "wb") as out:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *self._command()], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        wait_until(lambda: len(self._workers()) == 2, explain=self.errors)
        return self

    def reload(self, configuration: str) -> None:
        """Switch to another configuration as `systemctl reload nginx` does. Requests under way are completed."""
        self._write(configuration)
        self._run("-t")
        before = self._workers()
        self._run("-s", "reload")
        wait_until(lambda: len(self._workers()) == 2 and not self._workers() & before, explain=self.errors)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def errors(self) -> str:
        """Return the error log."""
        return (self.home / "error.log").read_text()

    def _write(self, configuration: str) -> None:
        (self.home / "site.conf").write_text(configuration)

    def _command(self) -> list[str]:
        program = shutil.which("nginx", path=PATH) or "nginx"
        return [program, "-e", f"{self.home}/error.log", "-p", f"{self.home}", "-c", f"{self.home}/nginx.conf"]

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([*self._command(), *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def _workers(self) -> set[str]:
        """Return the PIDs of the workers that accept connections, without those that are shutting down."""
        assert self.process is not None
        assert self.process.poll() is None, self.errors()
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {child for child in children if "shutting down" not in _title(child)}


def _title(process: str) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:  # the process has ended
        return "shutting down"
