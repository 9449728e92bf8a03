"""The one error of the engines."""

from pathlib import Path


class EngineError(Exception):
    """An engine cannot do what it was asked to; the message says what was wrong and what to do.

    `log` is the file that tells more, if there is one; the message names it already.
    """

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(f"{message}\nIts log: {log}" if log else message)
        self.log = log
