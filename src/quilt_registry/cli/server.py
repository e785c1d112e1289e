"""How serving begins and ends: a socket that systemd may keep, word to it, and an end at which nobody is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import uvicorn
from uvicorn.config import Config
from uvicorn.supervisors import Multiprocess, multiprocess

INHERITED = 3  # the first descriptor that systemd hands over (sd_listen_fds)
LINGER = 1.0  # seconds for which connections that are open already are still answered
LOOK = 0.05  # seconds between two looks whether there are any
BACKLOG = 2048


class Server(uvicorn.Server):
    """Stops accepting, answers what comes on open connections for a moment and asks to close them, then ends.

    uvicorn alone closes connections at once, also those that it has accepted and not read yet; and those that the
    kernel has accepted for it are reset.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        waiting = [connection for listener in sockets or [] for connection in _waiting(listener)]
        for server in self.servers:
            server.close()
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        for _ in range(round(LINGER / LOOK)):
            await asyncio.sleep(LOOK)
            if not self.server_state.connections:
                break
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        """What speaks HTTP on one connection, made as uvicorn makes it."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def _waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that wait to be accepted."""
    listener.setblocking(False)
    with contextlib.suppress(OSError):
        while True:
            yield listener.accept()[0]


class Worker(multiprocess.Process):
    """A process that serves."""

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = Server(config=self.config)
        return self._server


class Supervisor(Multiprocess):
    """Keeps workers."""

    def terminate_all(self) -> None:
        """Nobody connects any more once the last worker stops to accept: who would, finds nobody and goes elsewhere."""
        for listener in self.sockets:
            listener.close()
        super().terminate_all()


# The supervisor makes its workers from this name, and offers no other way to say which.
multiprocess.Process = Worker  # type: ignore[misc]


def run(config: Config, listener: socket.socket) -> bool:
    """Serve until a signal ends it, with as many processes as the configuration says; False if it could not start."""
    if config.workers > 1:
        listener.listen(BACKLOG)
        Supervisor(config, sockets=[listener]).run()
        return True
    server = Server(config)
    server.run(sockets=[listener])
    return server.started


def inherited_socket() -> socket.socket | None:
    """The socket that systemd keeps listening on for this process, also between two of its lives; None without one."""
    count, process = os.environ.pop("LISTEN_FDS", None), os.environ.pop("LISTEN_PID", None)
    if count != "1" or process not in (None, str(os.getpid())):
        return None
    return socket.socket(fileno=INHERITED)


def notify(state: str) -> None:
    """Tell systemd how this service is (sd_notify); nothing where nobody asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
        teller.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
