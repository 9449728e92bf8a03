"""Start, find and end the embedded engine, and its messages when one of these fails."""

import json
import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engines.sample_stack import TEMPLATE, Sample, wait_for
from turnstile_cli.engines.embedded import Embedded, attach
from turnstile_cli.engines.errors import EngineError
from turnstile_cli.engines.process import HOST

pytestmark = pytest.mark.xdist_group("engines")


def is_gone(pid: int) -> bool:
    """Return whether no process has the id. An ended process whose status was not collected counts as gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


def call_worker(engine: Embedded, action: str = "work") -> dict[str, Any]:
    answer = engine.client("lambda").invoke(
        FunctionName="sample-worker", Payload=json.dumps({"action": action, "note": ""})
    )
    result: dict[str, Any] = json.loads(answer["Payload"].read())
    return result


def test_it_runs_apart_from_the_developer_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Settings that could mislead the engine: for AWS, for a proxy and for another emulator.
    monkeypatch.setenv("AWS_PROFILE", "unknown")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SFN_MOCK_CONFIG", "/nowhere")
    words: list[str] = []
    with socket.socket() as silent:
        silent.bind((HOST, 0))  # and does not listen: the model is unreachable
        with Embedded.start(folder=tmp_path, model=f"http://{HOST}:{silent.getsockname()[1]}") as engine:
            outputs = engine.deploy(TEMPLATE, stack="sample", on_progress=words.append)
            assert words == ["tables", "functions", "machines", "rules", "pipe"]
            assert outputs["TableName"] == "Notes"
            assert "AnyAlarmName" not in outputs  # MiniStack does not know its type
            worker = call_worker(engine)
            assert worker["profile"] is None
            request = {"ModelId": "m", "Messages": [{"Role": "user", "Content": [{"Text": "Hi"}]}]}
            assert Sample(engine).run("Ask", {"request": request})["error"] == "BedrockRuntime.SdkClientException"

            attached = attach(tmp_path)
            assert attached.outputs == outputs
            assert attached.client("dynamodb").describe_table(TableName="Notes")["Table"]["TableStatus"] == "ACTIVE"
            assert attached.running == engine.running

            child = engine.running.pid
            assert os.getsid(child) == child  # Ctrl-C at a terminal does not reach the child
    assert is_gone(child)
    wait_for(lambda: is_gone(worker["process"]), "the end of the Lambda's process")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["embedded.log", "permissions.jsonl"]
    with pytest.raises(EngineError, match="No embedded engine runs here; start one with `turnstile up`"):
        attach(tmp_path)


def test_a_rule_starts_a_machine(sample: Sample) -> None:
    entry = {
        "EventBusName": sample.engine.outputs["BusName"],
        "Source": "sample",
        "DetailType": "WorkRequested",
        "Detail": json.dumps({"items": [{"action": "work", "note": "by event"}]}),
    }
    assert sample.engine.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0
    wait_for(lambda: "by event" in sample.notes(), "the work that the event asked for")


def test_parameters_reach_the_stack_and_pauses_are_scaled_but_moments_are_waited_for(tmp_path: Path) -> None:
    template = yaml.safe_load("""
        Parameters: { Name: { Type: String } }
        Resources:
          Wait:
            Type: AWS::StepFunctions::StateMachine
            Properties:
              RoleArn: arn:aws:iam::000000000000:role/none
              StateMachineName: !!str wait
              DefinitionString: '{"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 600, "End": true}}}'
          Moment:
            Type: AWS::StepFunctions::StateMachine
            Properties:
              RoleArn: arn:aws:iam::000000000000:role/none
              StateMachineName: !!str moment
              DefinitionString: >-
                {"StartAt": "W", "States": {"W": {"Type": "Wait", "TimestampPath": "$.at", "End": true}}}
          Queue: { Type: AWS::SQS::Queue, Properties: { QueueName: { Ref: Name } } }
        Outputs:
          WaitArn: { Value: { Ref: Wait } }
          MomentArn: { Value: { Ref: Moment } }
          Queue: { Value: { "Fn::GetAtt": [Queue, QueueName] } }
    """)
    (tmp_path / "template.yaml").write_text(json.dumps(template))
    with Embedded.start(folder=tmp_path, wait_scale=0) as engine:
        assert engine.deploy(tmp_path / "template.yaml", parameters={"Name": "given"})["Queue"] == "given"
        assert Sample(engine).run("Wait", {})["status"] == "SUCCEEDED"
        # A stop date has milliseconds.
        moment = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
        ended = Sample(engine).run("Moment", {"at": moment.isoformat()})
        assert (ended["status"], ended["stopDate"] >= moment) == ("SUCCEEDED", True)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(EngineError, match=f"Port {port} on 127.0.0.1 is in use"):
            Embedded.start(folder=tmp_path, port=port)


def test_a_second_engine_in_one_folder_is_refused(sample: Sample) -> None:
    running = sample.engine.running
    with pytest.raises(EngineError, match=f"runs here already, on port {running.port}"):
        Embedded.start(folder=Path(running.log).parent)


def test_a_crash_tells_how_and_where_to_look(tmp_path: Path) -> None:
    with Embedded.start(folder=tmp_path) as engine:
        os.kill(engine.running.pid, signal.SIGKILL)
        with pytest.raises(EngineError) as error:
            engine.deploy(TEMPLATE)
        assert "was killed by SIGKILL; its last lines:" in str(error.value)
        assert "Running on http://127.0.0.1" in str(error.value)
        assert str(error.value).endswith(f"Its log: {tmp_path / 'embedded.log'}")


def test_a_child_that_does_not_come_up_is_noticed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnstile_cli.engines.embedded.free_port", lambda: 99_999)
    with pytest.raises(EngineError, match="ended with exit status 1; its last lines") as error:
        Embedded.start(folder=tmp_path)
    assert "99999" in str(error.value) or "0-65535" in str(error.value)


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        (
            {
                "Type": "AWS::Serverless::Function",
                "Properties": {"Handler": "a.b", "Runtime": "python3.12", "InlineCode": "", "Layers": ["no-arn"]},
            },
            "  Broken (AWS::Lambda::Function): ",
        ),
        ({"Type": "AWS::Nothing::AtAll"}, "AWS::Nothing::AtAll"),
        ({"Type": "AWS::Serverless::Function", "Properties": {"Runtime": "python3.12"}}, "Broken"),
    ],
)
def test_a_failed_deployment_names_the_resource_and_why(
    sample: Sample, tmp_path: Path, resource: dict[str, Any], reason: str
) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(
        json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": {"Broken": resource}}), "utf-8"
    )
    running, outputs = sample.engine.running, sample.engine.outputs
    try:
        with pytest.raises(EngineError) as error:
            sample.engine.deploy(template, stack=f"broken-{tmp_path.name.replace('_', '-')[-20:]}")
    finally:
        sample.engine.running, sample.engine.outputs = running, outputs
    assert reason in str(error.value)
    assert "Its log: " in str(error.value)


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from turnstile_cli.engines.embedded import Embedded
engine = Embedded.start(folder=Path({str(tmp_path)!r}))
print(engine.running.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    finished = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    assert finished.returncode == -signal.SIGKILL
    wait_for(lambda: is_gone(int(finished.stdout)), "the end of the engine")
    with pytest.raises(EngineError, match="No embedded engine runs here"):
        attach(tmp_path)
