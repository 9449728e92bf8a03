"""The error of all engines."""

from pathlib import Path


class EngineError(Exception):
    """An engine cannot carry out a request; the message says what was wrong and what to do.

    `log` is the engine's log file, if there is one; the message names it.
    """

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(f"{message}\nIts log: {log}" if log else message)
        self.log = log
