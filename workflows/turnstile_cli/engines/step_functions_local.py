"""Step Functions Local, the official image, in place of Step Functions; everything else runs on the embedded engine.

Docker runs it, or it already runs, from the image or from its jar, on a given URL. Its last version, 2.0.0, is from
May 2024, and AWS calls it unsupported: it supports neither JSONata nor most SDK integrations.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from turnstile_cli.engines.elsewhere import ACCOUNT, Elsewhere
from turnstile_cli.engines.embedded import REGION
from turnstile_cli.engines.errors import EngineError
from turnstile_cli.engines.process import HOST, ChildProcess, free_port
from turnstile_cli.engines.relay import relay

IMAGE = "amazon/aws-stepfunctions-local:2.0.0"
PORT = 8083
"""Its port in the container."""
EMBEDDED_PORT = 4566
"""The embedded engine's port if Step Functions Local was started first, with this port in its settings."""
SERVICES = ("LAMBDA", "DYNAMODB", "SNS", "SQS")
MOCKS = "/home/StepFunctionsLocal/MockConfigFile.json"
PULL_SECONDS = 600
ANSWER_SECONDS = 15
"""Seconds that a Step Functions Local that was just started may refuse connections."""
OTHERWISE = (
    "start its jar and give its URL to `python scripts/step_functions_local.py --url`, "
    "or take --engine strict, which needs no Docker"
)


@contextmanager
def start(model: str, folder: Path, wait_scale: float = 1) -> Iterator[Elsewhere]:
    """Start an embedded engine whose machines run on its own Step Functions Local, in Docker.

    Raises:
        EngineError: there is no Docker, or one of the two did not start.
    """
    check_docker()
    port = free_port()
    with (
        Elsewhere.start(model=model, folder=folder, step_functions=f"http://{HOST}:{port}") as engine,
        run_image(port, folder, engine.running.port, wait_scale),
    ):
        yield engine


@contextmanager
def attach(url: str, port: int, model: str, folder: Path, wait_scale: float = 1) -> Iterator[Elsewhere]:  # noqa: ARG001
    """Start an embedded engine on a port; its machines run on the Step Functions Local at a URL. Waits are not scaled.

    Raises:
        EngineError: no Step Functions Local answers there; the message says how to start one.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    while not (up := _is_up(url)) and time.monotonic() < deadline:
        time.sleep(0.5)
    if not up:
        settings = " ".join(f"{name}={value}" for name, value in settings_for(f"http://{HOST}:{port}").items())
        raise EngineError(f"No Step Functions Local answers on {url}; start its jar with {settings}")
    with Elsewhere.start(port=port, model=model, folder=folder, step_functions=url) as engine:
        yield engine


def await_start(url: str, mocks: Path, on_progress: Callable[[str], None], seconds: float = PULL_SECONDS) -> None:
    """Ask the user to start a Step Functions Local with mocks, which it reads only at its start. Wait for its answer.

    Raises:
        EngineError: the user has not started it within `seconds`.
    """
    settings = f"SFN_MOCK_CONFIG={mocks.resolve()} AWS_ACCOUNT_ID={ACCOUNT} AWS_DEFAULT_REGION={REGION}"
    on_progress(f"Start Step Functions Local on {url} now, with {settings}")
    deadline = time.monotonic() + seconds
    while not _is_up(url):
        if time.monotonic() > deadline:
            raise EngineError(f"No Step Functions Local has answered on {url} within {seconds:.0f} seconds")
        time.sleep(0.5)


def check_stopped(url: str) -> None:
    """Raise an EngineError if a Step Functions Local runs there: it reads its mocks only when it starts."""
    if _is_up(url):
        raise EngineError(f"Step Functions Local runs on {url}, but reads mocks only when it starts; stop it first")


@contextmanager
def run_image(
    port: int, folder: Path, embedded: int, wait_scale: float = 1, mocks: Path | None = None
) -> Iterator[ChildProcess]:
    """Run the image as long as the context is open.

    Args:
        port: its port on 127.0.0.1; it must be free.
        folder: for the log.
        embedded: the port of 127.0.0.1 on which its tasks reach the embedded engine.
        wait_scale: the factor for waits in the machines.
        mocks: a MockConfigFile; `...:stateMachine:NAME#CASE` then runs on mocks.

    Raises:
        EngineError: there is no Docker, or the image did not start.
    """
    check_docker()
    folder.mkdir(parents=True, exist_ok=True)
    name = f"turnstile-step-functions-{os.getpid()}"
    with ExitStack() as stack:
        settings = settings_for(_endpoint(stack, embedded)) | {"WAIT_TIME_SCALE": str(wait_scale)}
        command = docker_command(name, port, settings, mocks)
        child = ChildProcess(
            "Step Functions Local", command, os.environ, (folder / "step_functions_local.log").resolve()
        )
        stack.callback(_docker, "rm", "--force", name)
        stack.callback(child.stop)
        child.wait_until(lambda: _is_up(f"http://{HOST}:{port}"), PULL_SECONDS)
        yield child


def docker_command(name: str, port: int, settings: Mapping[str, str], mocks: Path | None) -> list[str]:
    """Build the command that starts the container."""
    command = ["docker", "run", "--rm", "--name", name, "--publish", f"{HOST}:{port}:{PORT}"]
    command += ["--add-host", "host.docker.internal:host-gateway"]
    for key, value in settings.items():
        command += ["--env", f"{key}={value}"]
    if mocks:
        command += ["--env", f"SFN_MOCK_CONFIG={MOCKS}"]
        command += ["--mount", f"type=bind,readonly,source={mocks.resolve()},destination={MOCKS}"]
    return [*command, IMAGE]


def settings_for(endpoint: str) -> dict[str, str]:
    """Return its environment: the services' endpoint, and the account, the Region and the credentials of the stack."""
    return {
        **{f"{service}_ENDPOINT": endpoint for service in SERVICES},
        "AWS_ACCOUNT_ID": ACCOUNT,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def check_docker() -> None:
    """Raise an EngineError with a message of one line if no Docker runs here."""
    if shutil.which("docker") is None:
        raise EngineError(f"Step Functions Local needs Docker, which is not installed: {OTHERWISE}")
    found = _docker("info", "--format", "{{.ServerVersion}}")
    if found.returncode:
        raise EngineError(f"Step Functions Local needs Docker, whose daemon does not answer: {OTHERWISE}")


def _endpoint(stack: ExitStack, port: int) -> str:
    """Return the URL by which a container reaches a port of 127.0.0.1.

    Docker Desktop has a host name for this machine. On Linux, the container reaches this machine only by the address of
    Docker's bridge, so a relay listens there.
    """
    found = _docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    address = found.stdout.strip()
    if address:
        with suppress(OSError):  # with Docker Desktop, the bridge is inside its virtual machine
            return f"http://{address}:{stack.enter_context(relay(address, port))}"
    return f"http://host.docker.internal:{port}"


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


def _is_up(url: str) -> bool:
    """Return True if a Step Functions answers ListStateMachines; the image has no health route."""
    config = Config(proxies={}, connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 1})
    client = boto3.client(
        "stepfunctions",
        region_name=REGION,
        endpoint_url=url,
        config=config,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    try:
        client.list_state_machines()
    except (BotoCoreError, ClientError):
        return False
    return True
