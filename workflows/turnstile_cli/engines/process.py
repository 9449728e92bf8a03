"""The child process of an engine: it ends with this process, even if this process is killed."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from turnstile_cli.engines.errors import EngineError
from turnstile_cli.files import ROOT

HOST = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 6
"""Seconds that an orderly end may take before the process is killed."""


class ChildProcess:
    """A child process with a log; `name` is its name in messages, such as `the embedded engine`."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,  # open as long as this process lives: the child watches it
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C ends only this process, which then stops the child in order
            )
        self._stopped = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise an EngineError with the last lines of its log if the process has ended."""
        status = self._process.poll()
        if status is not None:
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
            raise EngineError(f"{_sentence(self.name)} {how}; its last lines:\n{self._last_words()}", self.log)

    def wait_until(self, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Wait until `ready` returns True. Raise EngineError if the process ends, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise EngineError(f"{_sentence(self.name)} did not start within {seconds:.0f} seconds", self.log)
            time.sleep(0.05)
        self.check()

    def stop(self) -> None:
        """End the process and every process of its session. A second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # no process of its session is left
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()

    def _last_words(self, lines: int = 12) -> str:
        return "\n".join(self.log.read_text("utf-8", errors="replace").splitlines()[-lines:])


def answers(port: int) -> bool:
    """Return True if a process listens on this port of 127.0.0.1."""
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


def free_port() -> int:
    """Return a port of 127.0.0.1 on which no process listens."""
    with socket.socket() as server:
        server.bind((HOST, 0))
        port: int = server.getsockname()[1]
        return port


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
