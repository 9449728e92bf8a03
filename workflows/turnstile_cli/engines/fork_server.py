"""A fork server for Lambda functions: it imports once what every function imports, and forks a process for each.

A new Python process takes 0.3 seconds of a processor to import boto3, pydantic and Powertools; a forked process has
them at once. Functions share nothing else: each has its own code, environment, working directory and streams.

The server runs this file as a script, so that a function's process has no module of `turnstile_cli`.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

PRELOADED = (
    "aws_lambda_powertools.logging",
    "aws_lambda_powertools.utilities.idempotency",
    "boto3.dynamodb.types",
    "botocore.handlers",
    "jsonschema.validators",
    "pydantic.alias_generators",
    "pydantic.fields",
    "pydantic.functional_serializers",
    "pydantic.json_schema",
    "pydantic.root_model",
    "pydantic.types",
)
"""Modules that most functions import. None of them reads the environment when it is imported."""
PID_BYTES = 8


class Forked:
    """A process that the fork server made: the part of `subprocess.Popen` that MiniStack uses."""

    def __init__(self, pid: int, streams: Sequence[int], life: socket.socket) -> None:
        self.pid = pid
        stdin, stdout, stderr = streams
        self.stdin = os.fdopen(stdin, "w", buffering=1, encoding="utf-8")
        self.stdout = os.fdopen(stdout, encoding="utf-8")
        self.stderr = os.fdopen(stderr, encoding="utf-8")
        self._life = life
        """A socket that closes when the process ends: the process is no child of this one."""
        self._end = select.poll()
        self._end.register(life, select.POLLIN)

    def poll(self) -> int | None:
        """Return None while the process runs."""
        return 0 if self._end.poll(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process. Raise subprocess.TimeoutExpired after `timeout` seconds."""
        if not self._end.poll(None if timeout is None else timeout * 1000):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return 0

    def terminate(self) -> None:
        """Send SIGTERM to the process, if it runs."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the process, if it runs."""
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class ForkServer:
    """The fork server, from the engine's side. It starts with the first process, and ends with the engine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: socket.socket | None = None

    def start(self, script: str, folder: str, environment: Mapping[str, str]) -> Forked:
        """Run a Python script in a new process, with its standard streams as pipes.

        Raises:
            OSError: the fork server has ended.
        """
        (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = (os.pipe() for _ in range(3))
        life, their_life = socket.socketpair()
        theirs = [theirs_in, theirs_out, theirs_err, their_life.detach()]
        try:
            with self._lock:
                self._server = self._server or _start_server()
                socket.send_fds(self._server, [b"."], theirs)
                pid = int.from_bytes(self._server.recv(PID_BYTES, socket.MSG_WAITALL), sys.byteorder)
        finally:
            for end in theirs:
                os.close(end)
        if not pid:
            raise ConnectionError("The fork server of the Lambda functions has ended")
        life.sendall(json.dumps([script, folder, dict(environment)]).encode() + b"\n")
        return Forked(pid, (ours_in, ours_out, ours_err), life)


def _start_server() -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen([sys.executable, "-P", __file__], stdin=theirs.fileno())
    return ours


def serve() -> None:
    """Fork a process for each request, until the engine ends."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # so that no collection writes to memory that all processes share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets an ended process at once
    requests = socket.socket(fileno=os.dup(0))
    while True:
        data, ends, _, _ = socket.recv_fds(requests, 1, 4)
        if not data:
            return
        pid = os.fork()
        if not pid:
            requests.close()
            _become(ends)
            return
        for end in ends:
            os.close(end)
        requests.sendall(pid.to_bytes(PID_BYTES, sys.byteorder))


def _become(ends: Sequence[int]) -> None:
    """Run the requested script as a new Python process would."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, life = ends
    for number, end in enumerate(streams):
        os.dup2(end, number)
        os.close(end)
    with os.fdopen(life, encoding="utf-8", closefd=False) as request:
        script, folder, environment = json.loads(request.readline())
    os.chdir(folder)
    if any(path.stem in sys.modules for path in Path(folder).iterdir()):
        # The function brings its own copy of a package that this process has imported.
        os.set_inheritable(life, True)
        os.execve(sys.executable, [sys.executable, script], environment)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [script]
    sys.path.insert(0, str(Path(script).parent))
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    serve()
