"""The embedded engine: MiniStack in a child process on 127.0.0.1, with our own template.yaml deployed into it."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from workflows.engines.bridge import STEP_FUNCTIONS
from workflows.engines.errors import EngineError
from workflows.engines.ministack_child import MODEL_ENDPOINT
from workflows.engines.process import HOST, Child, answers, free_port
from workflows.engines.template import BUCKET, package

REGION = "us-east-1"
STACK = "turnstile"
FOLDER = Path(".turnstile")
DEPLOY_SECONDS = 120
NOT_HERE = "No embedded engine runs here; start one with `turnstile up`"

_SETTINGS = {
    "BIND_HOST": HOST,
    "MINISTACK_HOST": HOST,
    "DOCKER_HOST": f"unix://{os.devnull}/none",  # it would clean up among the containers of another MiniStack
    "IOT_MTLS_ENABLED": "0",  # these two would listen on ports of their own
    "SFTP_ENABLED": "0",
    "AUTH": "false",
    "LAMBDA_EXECUTOR": "local",
    "PERSIST_STATE": "0",
    "S3_PERSIST": "0",
    "USE_SSL": "0",
    "PYTHONUNBUFFERED": "1",
}
_FOREIGN = ("MINISTACK_", "LOCALSTACK_", "SFN_", "SERVICES", "EDGE_PORT", "AWS_ENDPOINT_URL")
"""Settings for another MiniStack that a developer may have in the environment."""
_KINDS = {
    "AWS::DynamoDB::Table": "tables",
    "AWS::Lambda::Function": "functions",
    "AWS::StepFunctions::StateMachine": "machines",
    "AWS::Events::Rule": "rules",
    "AWS::Pipes::Pipe": "pipe",
}


@dataclass(frozen=True)
class Running:
    """An embedded engine that runs, as `embedded.json` tells other processes."""

    port: int
    pid: int
    stack: str
    model: str | None
    """The URL that answers for the model; None for Bedrock itself."""
    log: str
    step_functions: str | None = None
    """The URL of another Step Functions that runs the machines; None if this engine does."""


class Connection:
    """What can be done with a running embedded engine, from whichever process."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.url = f"http://{HOST}:{running.port}"
        self.outputs: dict[str, str] = {}
        """The stack's outputs; empty until it is deployed."""
        # Nothing of the developer's AWS settings, neither a profile nor a proxy, is meant for an engine on 127.0.0.1.
        isolated = {
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
        self._session = botocore.session.Session(session_vars=isolated)
        self._session.set_credentials("test", "test")
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """The boto3 client of a service of this engine, or of the other Step Functions; the same one each time."""
        if service not in self._clients:
            other = self.running.step_functions if service == "stepfunctions" else None
            self._clients[service] = self._create_client(service, other or self.url)
        return self._clients[service]

    def own_client(self, service: str) -> Any:
        """A new boto3 client of a service of this engine itself."""
        return self._create_client(service, self.url)

    def _create_client(self, service: str, url: str) -> Any:
        config = Config(proxies={}, connect_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})
        return self._session.create_client(service, region_name=REGION, endpoint_url=url, config=config)

    @property
    def api_url(self) -> str:
        """Where the stack's HTTP API answers here, without a slash at its end; empty if the stack has none.

        Here a request must be signed too, but the signature is not verified.
        """
        api = self.outputs.get("ApiId", "")
        return f"{self.url}/_aws/execute-api/{api}" if api else ""

    def read_outputs(self) -> dict[str, str]:
        """Asks for the stack's outputs, keeps them as `outputs` and returns them.

        Raises:
            EngineError: the stack is not deployed, or the engine does not answer.
        """
        try:
            stacks = self.client("cloudformation").describe_stacks(StackName=self.running.stack)["Stacks"]
        except (BotoCoreError, ClientError) as error:
            log = Path(self.running.log)
            raise EngineError(
                f"The embedded engine tells nothing of the stack {self.running.stack}: {error}", log
            ) from error
        self.outputs = {item["OutputKey"]: item["OutputValue"] for item in stacks[0].get("Outputs", [])}
        return self.outputs


def attach(folder: Path = FOLDER) -> Connection:
    """Connects to the engine that another process started in `folder`.

    Raises:
        EngineError: none runs there, or it does not answer.
    """
    running = _read_running(folder)
    if running is None:
        raise EngineError(NOT_HERE)
    connection = Connection(running)
    connection.read_outputs()
    return connection


class Embedded(Connection):
    """An embedded engine that this process started and has to stop; a context manager does.

    It ends with this process, however that ends.
    """

    def __init__(self, child: Child, running: Running, folder: Path) -> None:
        super().__init__(running)
        self._child = child
        self._folder = folder

    @classmethod
    def start(
        cls,
        *,
        port: int | None = None,
        model: str | None = None,
        folder: Path = FOLDER,
        wait_scale: float = 1,
        step_functions: str | None = None,
    ) -> Self:
        """Starts the child process and waits until it answers.

        Args:
            port: where it serves on 127.0.0.1; a free port otherwise.
            model: the URL that answers Bedrock's Converse; Bedrock itself, with the developer's credentials, otherwise.
            folder: for the log, and for `embedded.json`, by which `attach` finds it.
            wait_scale: what retry intervals and waits for seconds are multiplied by. A wait until a moment is kept.
            step_functions: the URL of another Step Functions, on which rules and pipes then start the machines.

        Raises:
            EngineError: the port is taken, an engine runs in this folder already, or the child did not come up.
        """
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        other = _read_running(folder)
        if other:
            raise EngineError(f"An embedded engine runs here already, on port {other.port} (process {other.pid})")
        if port is not None and answers(port):
            raise EngineError(f"Port {port} on {HOST} is taken; name another one, or none for any that is free")
        port = port or free_port()
        log = folder / "embedded.log"
        temporary = _temporary(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        environment |= _SETTINGS | {"GATEWAY_PORT": str(port), "SFN_WAIT_SCALE": str(wait_scale)}
        environment |= {MODEL_ENDPOINT: model or "", "TMPDIR": str(temporary)}
        environment |= {STEP_FUNCTIONS: step_functions or ""}
        command = [sys.executable, "-m", "workflows.engines.ministack_child"]
        child = Child("the embedded engine", command, environment, log)
        engine = cls(child, Running(port, child.pid, STACK, model, str(log), step_functions), folder)
        try:
            child.wait_until(lambda: _healthy(port))
        except BaseException:
            engine.stop()
            raise
        engine._write_running()
        return engine

    def deploy(
        self,
        template: Path,
        *,
        stack: str = STACK,
        parameters: Mapping[str, str] | None = None,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> dict[str, str]:
        """Deploys the template as a new stack, waits for it, and returns its outputs, which `outputs` then has too.

        Args:
            template: the path of template.yaml; what it refers to is found beside it.
            stack: the stack's name.
            parameters: values for the template's parameters.
            on_progress: gets a word for each kind of resource once the first of it exists: `tables`, `functions`, …

        Raises:
            EngineError: a file is missing, or the stack could not be created; the message names the resources and why.
        """
        packaged = package(template)
        self.running = Running(**{**asdict(self.running), "stack": stack})
        try:
            self._create_stack(packaged.body, packaged.objects, parameters or {}, on_progress)
        except ClientError as error:
            reason = error.response["Error"]["Message"]
            raise EngineError(f"{template} was not deployed: {reason}", self._log) from error
        except BotoCoreError as error:
            self.check()
            raise EngineError(f"{template} was not deployed: {error}", self._log) from error
        self._write_running()
        return self.read_outputs()

    def check(self) -> None:
        """Raises an EngineError with its last words if the child has ended."""
        self._child.check()

    def stop(self) -> None:
        """Ends the child and every Lambda process of it; does nothing the second time."""
        self._child.stop()
        running = _load_running(self._folder)
        if running and running.pid == self._child.pid:
            _state_file(self._folder).unlink()
        shutil.rmtree(_temporary(self._folder), ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _log(self) -> Path:
        return Path(self.running.log)

    def _write_running(self) -> None:
        file = _state_file(self._folder)
        new = file.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(asdict(self.running), indent=2) + "\n", "utf-8")
        new.replace(file)

    def _create_stack(
        self,
        body: str,
        objects: Mapping[str, bytes],
        parameters: Mapping[str, str],
        on_progress: Callable[[str], None],
    ) -> None:
        stack = self.running.stack
        s3, cloudformation = self.client("s3"), self.client("cloudformation")
        s3.create_bucket(Bucket=BUCKET)
        for key, content in {**objects, "template.json": body.encode()}.items():
            s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        cloudformation.create_stack(
            StackName=stack,
            TemplateURL=f"{self.url}/{BUCKET}/template.json",  # a body in the request may have 51,200 bytes at most
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
            OnFailure="DO_NOTHING",
        )
        told: set[str] = set()
        deadline = time.monotonic() + DEPLOY_SECONDS
        status = "CREATE_IN_PROGRESS"
        while status == "CREATE_IN_PROGRESS":
            if time.monotonic() > deadline:
                raise EngineError(f"The stack {stack} was not there after {DEPLOY_SECONDS} seconds", self._log)
            time.sleep(0.05)
            status = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
            resources = cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
            there = {item["ResourceType"] for item in resources if item["ResourceStatus"] == "CREATE_COMPLETE"}
            for word in [word for kind, word in _KINDS.items() if kind in there and word not in told]:
                told.add(word)
                on_progress(word)
        if status != "CREATE_COMPLETE":
            raise EngineError(f"The stack {stack} is {status}:\n{self._failures()}", self._log)

    def _failures(self) -> str:
        events = self.client("cloudformation").describe_stack_events(StackName=self.running.stack)["StackEvents"]
        failed = [
            event
            for event in reversed(events)
            if event["ResourceStatus"] == "CREATE_FAILED" and event["ResourceType"] != "AWS::CloudFormation::Stack"
        ]
        return "\n".join(
            f"  {event['LogicalResourceId']} ({event['ResourceType']}): {event['ResourceStatusReason']}"
            for event in failed
        )


def _state_file(folder: Path) -> Path:
    return folder / "embedded.json"


def _temporary(folder: Path) -> Path:
    """Where MiniStack unpacks the Lambdas' code; what a killed one left goes with the next start."""
    return folder / "tmp"


def _load_running(folder: Path) -> Running | None:
    try:
        return Running(**json.loads(_state_file(folder).read_text("utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # TypeError: of another version
        return None


def _read_running(folder: Path) -> Running | None:
    """The engine that runs in the folder; one that ended without saying so does not count."""
    running = _load_running(folder)
    if running is None:
        return None
    try:
        os.kill(running.pid, 0)
    except (ProcessLookupError, PermissionError):
        return None
    return running if _healthy(running.port) else None


def _healthy(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
