"""A process of an engine's: started by this one, and ended with it, however that ends."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from workflows.engines.errors import EngineError

HOST = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 6
"""How long an orderly end may take before the process is killed."""


class Child:
    """A child process with a log; `name` is what messages call it, as `the embedded engine`."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=Path(__file__).parents[2],
                env=environment,
                stdin=subprocess.PIPE,  # stays open as long as this process lives: the child watches it
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which then stops the child in order
            )
        self._stopped = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Raises an EngineError with its last words if it has ended."""
        status = self._process.poll()
        if status is not None:
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
            raise EngineError(f"{_sentence(self.name)} {how}; its last words:\n{self._last_words()}", self.log)

    def wait_until(self, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Waits for it to be ready. Raises an EngineError if it ends, or if that takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise EngineError(f"{_sentence(self.name)} did not come up within {seconds:.0f} seconds", self.log)
            time.sleep(0.05)
        self.check()

    def stop(self) -> None:
        """Ends it and every process of its session; does nothing the second time."""
        if self._stopped:
            return
        self._stopped = True
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody of its session is left
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()

    def _last_words(self, lines: int = 12) -> str:
        return "\n".join(self.log.read_text("utf-8", errors="replace").splitlines()[-lines:])


def answers(port: int) -> bool:
    """Whether anybody listens on a port of 127.0.0.1."""
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as server:
        server.bind((HOST, 0))
        port: int = server.getsockname()[1]
        return port


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
