"""How an engine's child process lives and ends: the other side of `workflows.engines.process`."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

SHUTDOWN_GRACE = 5
"""Seconds that an orderly end may take once the parent is gone."""


def keep_developer_out() -> None:
    """Replaces the developer's AWS settings by the engine's: what it starts inherits the environment."""
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
    """Ends this process when stdin closes: in order if that succeeds in time, else at once."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SHUTDOWN_GRACE)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def run(name: str, main: Callable[[], None]) -> None:
    """Serves by `main`, and ends the process after it, whatever still runs in a thread."""
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
