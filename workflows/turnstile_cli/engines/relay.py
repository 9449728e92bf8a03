"""A relay: it passes connections on, from an address that a container can reach to a port of 127.0.0.1."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from turnstile_cli.engines.process import HOST

CHUNK = 65_536


@contextmanager
def relay(address: str, port: int) -> Iterator[int]:
    """Listen on a free port of an address as long as the context is open. The context's value is that port.

    Raises:
        OSError: this machine does not have the address.
    """
    with socket.create_server((address, 0)) as server:
        threading.Thread(target=_accept, args=(server, port), daemon=True).start()
        yield server.getsockname()[1]


def _accept(server: socket.socket, port: int) -> None:
    with suppress(OSError):  # the server was closed
        while True:
            near, _ = server.accept()
            try:
                far = socket.create_connection((HOST, port))
            except OSError:
                near.close()
                continue
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # one side has closed the connection
        while data := source.recv(CHUNK):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
