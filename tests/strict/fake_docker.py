#!/usr/bin/env python3
"""A `docker` that runs `fake_image` in place of the image of Step Functions Local."""

import os
import sys
from itertools import pairwise
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Answer the few commands that are needed, and append each to the file `calls`."""
    with (Path(__file__).parent / "calls").open("a", encoding="utf-8") as calls:
        calls.write(" ".join(arguments) + "\n")
    if arguments[0] == "network":
        print("127.0.0.2")  # an address of this machine where the engine does not serve
    if arguments[0] != "run":
        return
    settings = dict(value.split("=", 1) for flag, value in pairwise(arguments) if flag == "--env")
    published = arguments[arguments.index("--publish") + 1]
    os.environ["TURNSTILE_STRICT_PORT"] = published.split(":")[1]
    os.environ["TURNSTILE_STRICT_ENDPOINT"] = settings["LAMBDA_ENDPOINT"]
    os.environ["TURNSTILE_STRICT_WAIT_SCALE"] = settings["WAIT_TIME_SCALE"]
    python = os.environ["FAKE_DOCKER_PYTHON"]
    os.execv(python, [python, "-m", "tests.strict.fake_image"])


main(sys.argv[1:])
