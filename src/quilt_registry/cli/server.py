"""uvicorn with systemd socket activation, readiness notification, and a shutdown that answers accepted connections.

The subclasses use internals of uvicorn, so pyproject.toml pins its minor version. tests/cli/test_server.py says what to
try before another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import uvicorn
from uvicorn.config import Config
from uvicorn.supervisors import Multiprocess, multiprocess

BACKLOG = 2048
FIRST_INHERITED_DESCRIPTOR = 3  # SD_LISTEN_FDS_START of systemd
LINGER_TIMEOUT = 1.0  # seconds for which requests on open connections are still answered at the end
LINGER_POLL_INTERVAL = 0.05  # seconds


class Server(uvicorn.Server):
    """A server that answers requests on open connections for a moment before it stops, and asks clients to close them.

    uvicorn alone closes connections at once, including accepted ones that it has not read yet. The kernel resets those
    that wait in the socket's queue.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        waiting = [connection for listener in sockets or [] for connection in _accept_waiting(listener)]
        for server in self.servers:
            server.close()
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        for _ in range(round(LINGER_TIMEOUT / LINGER_POLL_INTERVAL)):
            await asyncio.sleep(LINGER_POLL_INTERVAL)
            if not self.server_state.connections:
                break
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        """Return the HTTP protocol of one connection, created as uvicorn does."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def _accept_waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept the connections that wait in the socket's queue."""
    listener.setblocking(False)
    with contextlib.suppress(OSError):
        while True:
            yield listener.accept()[0]


class Worker(multiprocess.Process):
    """A worker process that runs Server."""

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = Server(config=self.config)
        return self._server


class Supervisor(Multiprocess):
    """A supervisor of worker processes."""

    def terminate_all(self) -> None:
        """Close the listening sockets first, so that new connections are refused instead of hanging."""
        for listener in self.sockets:
            listener.close()
        super().terminate_all()


# The supervisor creates its workers from this name, because it has no parameter for their class.
multiprocess.Process = Worker  # type: ignore[misc]


def run(config: Config, listener: socket.socket) -> bool:
    """Serve until a signal stops it, with the configured number of workers. Return False if it could not start."""
    if config.workers > 1:
        listener.listen(BACKLOG)
        Supervisor(config, sockets=[listener]).run()
        return True
    server = Server(config)
    server.run(sockets=[listener])
    return server.started


def inherited_socket() -> socket.socket | None:
    """Return the socket that systemd passes to this process and keeps open across restarts, or None."""
    count, pid = os.environ.pop("LISTEN_FDS", None), os.environ.pop("LISTEN_PID", None)
    if count != "1" or pid not in (None, str(os.getpid())):
        return None
    return socket.socket(fileno=FIRST_INHERITED_DESCRIPTOR)


def notify(state: str) -> None:
    """Report a state to systemd (sd_notify). Do nothing without NOTIFY_SOCKET."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.sendto(state.encode(), path.replace("@", "\0", 1) if path.startswith("@") else path)
