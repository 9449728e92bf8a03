"""The life and the end of an engine's child process: the child's side of `turnstile_cli.engines.process`."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

SHUTDOWN_GRACE = 5
"""Seconds that an orderly end may take after the parent has ended."""


def keep_developer_out() -> None:
    """Replace the developer's AWS settings by the engine's: every process that it starts inherits the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def end_with_parent() -> None:
    """End this process when stdin closes: in order, or at once if that takes more than `SHUTDOWN_GRACE` seconds."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SHUTDOWN_GRACE)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def run(name: str, main: Callable[[], None]) -> None:
    """Run `main`, then end the process, even if threads still run."""
    code = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except Exception:
        logging.getLogger(__name__).exception("%s ended", name)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
