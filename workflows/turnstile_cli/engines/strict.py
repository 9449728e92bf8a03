"""The strict engine: moto's interpreter in place of Step Functions; everything else runs on the embedded engine.

It is a second check of the definitions: it is an independent interpreter, and it fails where the embedded engine's
interpreter is lenient, for example on a missing path.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from turnstile_cli.engines.elsewhere import Elsewhere
from turnstile_cli.engines.errors import EngineError
from turnstile_cli.engines.process import HOST, ChildProcess, answers, free_port
from turnstile_cli.engines.strict_child import ENDPOINT, MOCKS, PORT, WAIT_SCALE

NEEDED = ("moto", "antlr4", "jsonpath_ng")


@contextmanager
def start(model: str, folder: Path, wait_scale: float = 1) -> Iterator[Elsewhere]:
    """Start an embedded engine whose machines run on its own strict engine.

    Raises:
        EngineError: moto is not installed, or one of the two did not start.
    """
    check_installed()
    port = free_port()
    with (
        Elsewhere.start(model=model, folder=folder, step_functions=f"http://{HOST}:{port}") as engine,
        serve(port, engine.url, folder, wait_scale=wait_scale),
    ):
        yield engine


@contextmanager
def serve(
    port: int, endpoint: str, folder: Path, *, wait_scale: float = 1, mocks: Path | None = None
) -> Iterator[ChildProcess]:
    """Serve Step Functions on a port of 127.0.0.1, as long as the context is open.

    Args:
        port: its port; it must be free.
        endpoint: the URL of all other services, which tasks call.
        folder: for the log.
        wait_scale: the factor for retry intervals and waits for seconds. A wait until a time is not scaled.
        mocks: a MockConfigFile; `...:stateMachine:NAME#CASE` then runs on mocks.

    Raises:
        EngineError: moto is not installed, or the process did not start.
    """
    check_installed()
    folder.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOTO_")}
    environment |= {PORT: str(port), ENDPOINT: endpoint, WAIT_SCALE: str(wait_scale), MOCKS: str(mocks or "")}
    command = [sys.executable, "-m", "turnstile_cli.engines.strict_child"]
    child = ChildProcess("the strict engine", command, environment, (folder / "strict.log").resolve())
    try:
        child.wait_until(lambda: answers(port))
        yield child
    finally:
        child.stop()


def check_installed() -> None:
    """Raise an EngineError if moto's interpreter is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise EngineError(
            f"The strict engine needs moto, and {', '.join(missing)} cannot be imported; "
            "install it with `pip install --group dev`, or leave --engine out"
        )
