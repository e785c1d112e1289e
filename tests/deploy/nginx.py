"""Debian's nginx with the documented file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.s3server import PATH, NotToBeHadError
from tests.waiting import wait_until

DOCUMENTED = Path(__file__).parents[2] / "deploy" / "proxy" / "nginx.conf"
# What Debian's nginx.conf has around the files of sites, with paths of its own; its OpenSSL may speak any TLS.
AROUND = """
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
    """A documented text with ports, paths and names of a test; each must be there to be replaced."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def site(plain: int, tls: int, certificate: Path, *registries: int) -> str:
    """The documented file with these ports: for HTTP, for HTTPS, of a registry, of a second one if there is one.

    The certificate's file has the key, too.
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
    """nginx with a file as it lies in /etc/nginx/sites-enabled. All that it writes is in `home`."""

    def __init__(self, home: Path, configuration: str):
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.process = home, None
        user = "user root;" if os.geteuid() == 0 else ""  # the homes of tests are closed to all others
        (home / "nginx.conf").write_text(AROUND.format(user=user, home=home))
        self._write(configuration)

    process: subprocess.Popen[bytes] | None

    def start(self) -> Nginx:
        """Start it and wait until it serves; it ends with this process. Raises NotToBeHadError if there is no nginx."""
        if not shutil.which("nginx", path=PATH):
            raise NotToBeHadError("There is no nginx. Install the Debian package nginx-light.")
        self._run("-t")
        with open(self.home / "out", "wb") as out:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *self._command()], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        wait_until(lambda: len(self._workers()) == 2, says=self.errors)
        return self

    def reload(self, configuration: str) -> None:
        """Serve by another configuration from now on, as `systemctl reload nginx` does; what runs comes to its end."""
        self._write(configuration)
        self._run("-t")
        before = self._workers()
        self._run("-s", "reload")
        wait_until(lambda: len(self._workers()) == 2 and not self._workers() & before, says=self.errors)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def errors(self) -> str:
        """The log of errors."""
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
        """The ids of the processes that take connections, not of those that only end what they have begun."""
        assert self.process is not None
        assert self.process.poll() is None, self.errors()
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {child for child in children if "shutting down" not in _title(child)}


def _title(process: str) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:  # it has ended
        return "shutting down"
