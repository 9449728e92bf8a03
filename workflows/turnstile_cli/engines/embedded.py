"""The embedded engine: MiniStack in a child process on 127.0.0.1, with our template.yaml deployed into it."""

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

from turnstile_cli.engines.bridge import STEP_FUNCTIONS
from turnstile_cli.engines.errors import EngineError
from turnstile_cli.engines.iam import FILE as PERMISSIONS
from turnstile_cli.engines.iam import Asked
from turnstile_cli.engines.ministack_child import MODEL_ENDPOINT
from turnstile_cli.engines.process import HOST, ChildProcess, answers, free_port
from turnstile_cli.engines.template import BUCKET, package

REGION = "us-east-1"
STACK = "turnstile"
FOLDER = Path(".turnstile")
DEPLOY_SECONDS = 120
PERMISSIONS_FILE = "permissions.jsonl"
NOT_HERE = "No embedded engine runs here; start one with `turnstile up`"

_SETTINGS = {
    "BIND_HOST": HOST,
    "MINISTACK_HOST": HOST,
    "DOCKER_HOST": f"unix://{os.devnull}/none",  # with Docker, it would remove containers of another MiniStack
    "IOT_MTLS_ENABLED": "0",  # IoT and SFTP would listen on further ports
    "SFTP_ENABLED": "0",
    "AUTH": "true",
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
    """A running embedded engine: the content of `embedded.json`, for other processes."""

    port: int
    pid: int
    stack: str
    model: str | None
    """The URL that answers in place of Bedrock; None: Bedrock itself."""
    log: str
    step_functions: str | None = None
    """The URL of another Step Functions that runs the machines; None: this engine runs them."""


class Connection:
    """The connection to a running embedded engine, from any process."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.url = f"http://{HOST}:{running.port}"
        self.outputs: dict[str, str] = {}
        """The stack's outputs; empty until it is deployed."""
        # Ignore the developer's AWS settings, such as a profile or a proxy: they are not for an engine on 127.0.0.1.
        isolated = {
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
        self._session = botocore.session.Session(session_vars=isolated)
        self._session.set_credentials("test", "test")
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Return a service's boto3 client, cached; for Step Functions, the client of the other one if it is named."""
        if service not in self._clients:
            other = self.running.step_functions if service == "stepfunctions" else None
            self._clients[service] = self._create_client(service, other or self.url)
        return self._clients[service]

    def own_client(self, service: str) -> Any:
        """Make a new boto3 client of a service of this engine itself."""
        return self._create_client(service, self.url)

    def _create_client(self, service: str, url: str) -> Any:
        # Without a prefix: `sync-127.0.0.1`, to which boto3 sends TestState, is no name of this machine.
        config = Config(
            proxies={},
            connect_timeout=5,
            retries={"mode": "standard", "total_max_attempts": 2},
            inject_host_prefix=False,
            user_agent="turnstile",  # botocore's own text takes a tenth of the time of a request
        )
        return self._session.create_client(service, region_name=REGION, endpoint_url=url, config=config)

    @property
    def api_url(self) -> str:
        """The URL of the stack's HTTP API on this engine, without a slash at its end; empty if the stack has none.

        A request must be signed, as on AWS; the engine verifies the signature.
        """
        api = self.outputs.get("ApiId", "")
        return f"{self.url}/_aws/execute-api/{api}" if api else ""

    def asked(self) -> list[Asked]:
        """Return every permission that the engine was asked for, in the order of the first time."""
        try:
            lines = self._permissions.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [Asked.model_validate_json(line) for line in lines]

    def forget_asked(self) -> None:
        """Begin the list of `asked` again."""
        self._permissions.unlink(missing_ok=True)

    @property
    def _permissions(self) -> Path:
        return Path(self.running.log).with_name(PERMISSIONS_FILE)

    def read_outputs(self) -> dict[str, str]:
        """Read the stack's outputs, keep them as `outputs` and return them.

        Raises:
            EngineError: the stack is not deployed, or the engine does not answer.
        """
        try:
            stacks = self.client("cloudformation").describe_stacks(StackName=self.running.stack)["Stacks"]
        except (BotoCoreError, ClientError) as error:
            log = Path(self.running.log)
            raise EngineError(f"The outputs of the stack {self.running.stack} cannot be read: {error}", log) from error
        self.outputs = {item["OutputKey"]: item["OutputValue"] for item in stacks[0].get("Outputs", [])}
        return self.outputs


def attach(folder: Path = FOLDER) -> Connection:
    """Connect to the engine that another process started in `folder`.

    Raises:
        EngineError: no engine runs there, or it does not answer.
    """
    running = _read_running(folder)
    if running is None:
        raise EngineError(NOT_HERE)
    connection = Connection(running)
    connection.read_outputs()
    return connection


class Embedded(Connection):
    """An embedded engine that this process started and must stop; as a context manager it stops itself.

    It ends with this process, even if this process is killed.
    """

    def __init__(self, child: ChildProcess, running: Running, folder: Path) -> None:
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
        """Start the child process and wait until it answers.

        Args:
            port: its port on 127.0.0.1; a free port otherwise.
            model: the URL that answers Bedrock's Converse; Bedrock itself, with the developer's credentials, otherwise.
            folder: for the log, and for `embedded.json`, by which `attach` finds the engine.
            wait_scale: the factor for retry intervals and waits for seconds. A wait until a time is not scaled.
            step_functions: the URL of another Step Functions, on which rules and pipes then start the machines.

        Raises:
            EngineError: the port is in use, an engine already runs in this folder, or the child did not start.
        """
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        other = _read_running(folder)
        if other:
            raise EngineError(f"An embedded engine runs here already, on port {other.port} (process {other.pid})")
        if port is not None and answers(port):
            raise EngineError(f"Port {port} on {HOST} is in use; name another port, or no port to get a free one")
        port = port or free_port()
        log = folder / "embedded.log"
        temporary = _temporary(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        environment |= _SETTINGS | {"GATEWAY_PORT": str(port), "SFN_WAIT_SCALE": str(wait_scale)}
        environment |= {MODEL_ENDPOINT: model or "", "TMPDIR": str(temporary)}
        environment |= {STEP_FUNCTIONS: step_functions or "", PERMISSIONS: str(folder / PERMISSIONS_FILE)}
        (folder / PERMISSIONS_FILE).unlink(missing_ok=True)
        command = [sys.executable, "-m", "turnstile_cli.engines.ministack_child"]
        child = ChildProcess("the embedded engine", command, environment, log)
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
        """Deploy the template as a new stack, wait for it, and return its outputs, which are then in `outputs` too.

        Args:
            template: the path of template.yaml; the files that it names are beside it.
            stack: the stack's name.
            parameters: values for the template's parameters.
            on_progress: gets a word for each kind of resource when the first of it exists: `tables`, `functions`, …

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
        """Raise an EngineError with the last lines of the log if the child has ended."""
        self._child.check()

    def stop(self) -> None:
        """End the child and all its Lambda processes. A second call does nothing."""
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
            TemplateURL=f"{self.url}/{BUCKET}/template.json",  # a template in the request may have only 51,200 bytes
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
            OnFailure="DO_NOTHING",
        )
        told: set[str] = set()
        deadline = time.monotonic() + DEPLOY_SECONDS
        status = "CREATE_IN_PROGRESS"
        while status == "CREATE_IN_PROGRESS":
            if time.monotonic() > deadline:
                raise EngineError(f"The stack {stack} was not complete after {DEPLOY_SECONDS} seconds", self._log)
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
    """Return the folder where MiniStack unpacks the Lambdas' code. The next start deletes what a killed engine left."""
    return folder / "tmp"


def _load_running(folder: Path) -> Running | None:
    try:
        return Running(**json.loads(_state_file(folder).read_text("utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # TypeError: another version wrote the file
        return None


def _read_running(folder: Path) -> Running | None:
    """Return the engine that runs in the folder, or None. The file of a killed engine does not count."""
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
