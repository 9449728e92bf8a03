"""Register the machines of an embedded stack on another Step Functions, adapted so that it can run them.

The definitions come from the deployed stack, with their substitutions filled in. Each machine has the same ARN there as
here, so that no other part has to know of the move.
"""

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from turnstile_cli.engines import adapters
from turnstile_cli.engines.adapt import Adapted, adapt, function_name, lacking
from turnstile_cli.engines.embedded import REGION, STACK, Connection, Embedded
from turnstile_cli.engines.errors import EngineError
from turnstile_cli.engines.ministack_child import CONVERSE
from turnstile_cli.machines.definition import Machine

ACCOUNT = "000000000000"
"""The account of the embedded engine."""
FUNCTIONS = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
PACKAGE = Path(__file__).parents[1]
ADAPTER_FILES = ("__init__.py", "engines/__init__.py", "engines/adapters.py", "engines/casing.py")
ADAPTER = "turnstile-adapter"
"""The name of the adapter functions' role."""
TIMEOUT = 180
"""Seconds that an adapter may take: as long as the longest task that it replaces."""


@dataclass(frozen=True)
class Registered:
    """A registered machine, and its differences from the definition in the stack."""

    arn: str
    kind: str
    """STANDARD or EXPRESS."""
    role: str
    adapted: Adapted

    @property
    def name(self) -> str:
        return self.arn.rpartition(":")[2]

    @property
    def machine(self) -> Machine:
        return self.adapted.machine


class Elsewhere(Embedded):
    """An embedded engine whose machines run on another Step Functions: `deploy` registers them there."""

    def deploy(
        self,
        template: Path,
        *,
        stack: str = STACK,
        parameters: Mapping[str, str] | None = None,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> dict[str, str]:
        """Deploy the template, and then register its machines. Raise EngineError if either fails."""
        outputs = super().deploy(template, stack=stack, parameters=parameters, on_progress=on_progress)
        registered = register(self)
        redirected = sum(len(machine.adapted.redirected) for machine in registered)
        on_progress(f"{len(registered)} machines on {self.running.step_functions}, {redirected} tasks redirected")
        return outputs


def register(connection: Connection) -> list[Registered]:
    """Register every machine of the stack, and the adapter functions that they call.

    Raises:
        EngineError: an engine refused; the message names the engine and the reason.
    """
    machines = list(read_machines(connection))
    try:
        _create_adapters(connection, {call for each in machines for call in lacking(each.machine)})
    except (BotoCoreError, ClientError) as error:
        raise EngineError(f"The adapter functions could not be created: {error}") from error
    registered = [adapted(machine) for machine in machines]
    for machine in registered:
        create(connection.client("stepfunctions"), machine)
    return registered


def read_machines(connection: Connection) -> Iterator[Registered]:
    """Yield the machines that the stack deployed, without adaptation."""
    client = connection.own_client("stepfunctions")
    for page in client.get_paginator("list_state_machines").paginate():
        for listed in page["stateMachines"]:
            told = client.describe_state_machine(stateMachineArn=listed["stateMachineArn"])
            machine = Machine(told["name"], json.loads(told["definition"]))
            yield Registered(told["stateMachineArn"], told["type"], told["roleArn"], Adapted(machine, [], []))


def adapted(machine: Registered) -> Registered:
    """Return the machine, adapted for another Step Functions."""
    return replace(machine, adapted=adapt(machine.machine, FUNCTIONS))


def create(client: Any, machine: Registered) -> None:
    """Register a machine on a client's Step Functions; if it is registered already, update its definition.

    Raise EngineError if the Step Functions refuses it.
    """
    definition, url = json.dumps(machine.machine.definition), client.meta.endpoint_url
    try:
        try:
            arn = client.create_state_machine(
                name=machine.name, definition=definition, roleArn=machine.role, type=machine.kind
            )["stateMachineArn"]
        except client.exceptions.StateMachineAlreadyExists:
            client.update_state_machine(stateMachineArn=machine.arn, definition=definition)
            return
    except (BotoCoreError, ClientError) as error:
        raise EngineError(f"{url} refused the machine {machine.name}: {error}") from error
    if arn != machine.arn:
        raise EngineError(
            f"{url} gives the machine the ARN {arn}, but its ARN in the stack is {machine.arn}; "
            f"start it with AWS_ACCOUNT_ID={ACCOUNT} and AWS_DEFAULT_REGION={REGION}"
        )


def _create_adapters(connection: Connection, calls: set[str]) -> None:
    client = connection.client("lambda")
    role, code = _adapter_role(connection.client("iam")), _zip()
    there = {
        each["FunctionName"] for page in client.get_paginator("list_functions").paginate() for each in page["Functions"]
    }
    for call in sorted(calls):
        name = function_name(call)
        if name in there:
            continue
        variables = {adapters.RESOURCE: call}
        if CONVERSE.endswith(call) and connection.running.model:
            variables[adapters.ENDPOINT] = connection.running.model
        client.create_function(
            FunctionName=name,
            Runtime="python3.12",
            Role=role,
            Handler=f"{adapters.MODULE}.handler",
            Code={"ZipFile": code},
            Timeout=TIMEOUT,
            Environment={"Variables": variables},
        )


def _adapter_role(client: Any) -> str:
    """Return the ARN of the adapters' role. It may do anything: another Step Functions checks no role of a machine."""
    try:
        arn: str = client.get_role(RoleName=ADAPTER)["Role"]["Arn"]
    except client.exceptions.NoSuchEntityException:
        trusted = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        made = client.create_role(RoleName=ADAPTER, AssumeRolePolicyDocument=json.dumps({"Statement": [trusted]}))
        anything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        document = json.dumps({"Statement": [anything]})
        client.put_role_policy(RoleName=ADAPTER, PolicyName="anything", PolicyDocument=document)
        arn = made["Role"]["Arn"]
    return arn


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in ADAPTER_FILES:
            archive.write(PACKAGE / file, f"{PACKAGE.name}/{file}")
    return buffer.getvalue()
