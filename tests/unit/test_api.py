"""The HTTP API without AWS: ids made from a key, messages of refusals, and descriptions that match it."""

import base64
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from tests.asl.support import ROOT
from tests.unit.records import came, read_state, record
from turnstile_agents.api import agents, keys, services
from turnstile_agents.api.handler import METHODS, handler
from turnstile_agents.api.problems import HttpRefusal
from turnstile_agents.api.shapes import Accepted, StartAgent
from turnstile_agents.environment import ApiEnvironment
from turnstile_agents.events import AgentRequested, GivenId
from turnstile_agents.record import AGENT_ID, Model
from turnstile_cli.engines.embedded import Connection, Running
from turnstile_cli.engines.template import load_template

FILE = ROOT / "docs" / "openapi.json"
DOCUMENT = json.loads(FILE.read_text("utf-8"))
TEMPLATE = load_template(ROOT / "template.yaml")
RESOURCES = TEMPLATE["Resources"]
LONGEST = "k" * 128

ENVIRONMENT = ApiEnvironment(TABLE_NAME="table", BUS_NAME="bus", DEFAULT_AGENT="travel")


class Ids(BaseModel):
    """The ids that the events accept."""

    given: GivenId


SIGNER = {"iam": {"userArn": "arn:aws:sts::000000000000:assumed-role/Orders/1", "callerId": None}}


def request(method: str, path: str, body: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a request in API Gateway's format."""
    http = {"method": method, "path": path}
    event = {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "requestContext": {"requestId": "request-7", "stage": "$default", "http": http, "authorizer": SIGNER},
        "isBase64Encoded": False,
        **more,
    }
    return event if body is None else {**event, "body": body}


def answer(event: dict[str, Any]) -> tuple[int, dict[str, str]]:
    """Return the answer's status and body."""
    context = SimpleNamespace(
        function_name="api",
        memory_limit_in_mb=512,
        invoked_function_arn="arn",
        aws_request_id="1",
        get_remaining_time_in_millis=lambda: 1,
    )
    answered = handler(event, context)
    return answered["statusCode"], json.loads(answered["body"])


# ---- Keys


def test_a_key_gives_the_same_ids_and_another_key_others() -> None:
    asked = StartAgent(prompt="Hello")
    assert keys.agent_id_for("a") == keys.agent_id_for("a") != keys.agent_id_for("b")
    assert keys.input_id("a") == keys.input_id("a") != keys.input_id("b")
    assert keys.request_id("a", asked) == keys.request_id("a", asked) != keys.request_id("b", asked)
    assert keys.request_id("a", asked) != keys.request_id("a", StartAgent(prompt="Hello?"))
    assert keys.request_id("a", asked).startswith(keys.request_prefix("a"))
    assert not keys.request_id("ab", asked).startswith(keys.request_prefix("a"))


def test_without_a_key_no_two_ids_are_the_same() -> None:
    asked = StartAgent(prompt="Hello")
    for make in (keys.agent_id_for, keys.input_id, lambda key: keys.request_id(key, asked)):
        assert make(None) != make(None)


@pytest.mark.parametrize("key", [None, "a", LONGEST])
def test_ids_are_what_the_events_take(key: str | None) -> None:
    assert re.match(AGENT_ID, keys.agent_id_for(key))
    for made in (keys.input_id(key), keys.request_id(key, StartAgent(prompt="Hello"))):
        Ids(given=made)


# ---- Refusals


@pytest.mark.parametrize("fault", [RuntimeError("the table burns"), HttpRefusal(418, "Teapot", "the table burns")])
def test_only_what_is_refused_tells_why(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def fail(*_arguments: Any) -> Accepted:
        raise fault

    monkeypatch.setattr(agents, "start", fail)
    status, body = answer(request("POST", "/agents", '{"prompt": "Hello"}'))
    assert body.keys() == {"error", "message"}
    assert ("burns" in body["message"]) == isinstance(fault, HttpRefusal)
    assert (status, body["error"]) == ((418, "Teapot") if isinstance(fault, HttpRefusal) else (500, "InternalError"))
    assert isinstance(fault, HttpRefusal) or "request-7" in body["message"]


def test_a_wrong_answer_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "start", lambda *_: SimpleNamespace(agent_id="a", status="ASLEEP"))
    status, body = answer(request("POST", "/agents", '{"prompt": "Hello"}'))
    assert (status, body["error"]) == (500, "InternalError")


def test_a_bus_that_takes_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [{"ErrorCode": "ThrottlingException", "ErrorMessage": "Slow down"}]
    events = SimpleNamespace(put_events=lambda **_: {"FailedEntryCount": 1, "Entries": entries})
    monkeypatch.setattr(services, "_events", lambda: events)
    monkeypatch.setattr(services, "environment", lambda: ENVIRONMENT)
    with pytest.raises(HttpRefusal, match="AgentRequested: ThrottlingException. Nothing was done") as refused:
        services.put(AgentRequested(prompt="Hello"))
    assert refused.value.status == 503


@pytest.mark.parametrize(
    ("authorizer", "name"),
    [
        (SIGNER, "arn:aws:sts::000000000000:assumed-role/Orders/1"),
        ({"jwt": {"claims": {"sub": "ana", "iss": "https://issuer"}, "scopes": None}}, "ana"),
    ],
)
def test_an_event_names_its_caller_under_the_source_of_the_api(
    monkeypatch: pytest.MonkeyPatch, authorizer: dict[str, Any], name: str
) -> None:
    entries: list[Any] = []

    def put_events(**request: Any) -> dict[str, int]:
        entries.extend(request["Entries"])
        return {"FailedEntryCount": 0}

    events = SimpleNamespace(put_events=put_events)
    monkeypatch.setattr(services, "_events", lambda: events)
    monkeypatch.setattr(agents, "table", lambda: SimpleNamespace(state=lambda _: read_state(status="PLANNING")))
    monkeypatch.setattr(services, "environment", lambda: ENVIRONMENT)
    event = request("POST", "/agents/a/input", '{"text": "Hello"}')
    assert answer({**event, "requestContext": {**event["requestContext"], "authorizer": authorizer}})[0] == 202
    assert entries[0]["Source"] == "com.agent.api"
    assert json.loads(entries[0]["Detail"])["by"] == name


@pytest.mark.parametrize(
    "authorizer",
    [
        {},
        {"iam": {"userArn": None}},
        {"iam": {"userArn": "a" * 257}},
        {"jwt": {"claims": {"iss": "https://issuer"}}},
        {"jwt": {"claims": {"sub": ""}}},
        {"jwt": {"claims": {"sub": 7}}},
        {"jwt": {"claims": {"sub": "a" * 257}}},
    ],
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/agents", '{"prompt": "Hello"}'),
        ("POST", "/agents/a/input", '{"text": "Hello"}'),
        ("POST", "/agents/a/decisions", '{"decision": "APPROVE", "approvalId": "3"}'),
        ("POST", "/agents/a/decisions", '{"questionId": "1", "decision": "ABORT"}'),
        ("DELETE", "/agents/a", None),
    ],
)
def test_without_a_caller_nothing_is_changed(
    authorizer: dict[str, Any], method: str, path: str, body: str | None
) -> None:
    event = request(method, path, body)
    refused = answer({**event, "requestContext": {**event["requestContext"], "authorizer": authorizer}})
    assert (refused[0], refused[1]["error"]) == (403, "CallerUnknown")


def test_another_caller_may_repeat_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that a repeated request from a service with a new session name puts nothing on the bus a second time."""
    kept = {"agentId": "a", "text": "Hello", "inputId": keys.input_id("order-7"), "by": "the session before"}
    [known] = record([came(kept["inputId"], "AgentInputReceived", **kept)]).inputs
    table = SimpleNamespace(state=lambda _: read_state(), input=lambda _, event_id: {kept["inputId"]: known}[event_id])
    monkeypatch.setattr(agents, "table", lambda: table)
    event = request("POST", "/agents/a/input", '{"text": "Hello"}')
    event["headers"] = {**event["headers"], "idempotency-key": "order-7"}
    assert answer(event)[0] == 202
    assert answer({**event, "body": '{"text": "Other"}'})[0] == 422


def test_a_large_body_is_not_even_parsed() -> None:
    status, body = answer(request("POST", "/agents", "[" * 65537))
    assert (status, body["error"]) == (413, "BodyTooLarge")
    status, body = answer(request("POST", "/agents", "WyJd" * 21846, isBase64Encoded=True))
    assert (status, body["error"]) == (413, "BodyTooLarge")


# ---- Descriptions of the API


def test_the_document_is_current() -> None:
    from scripts.openapi import text  # it takes long, and every process of the tests imports this module

    assert FILE.read_text("utf-8") == text(), "run .venv/bin/python scripts/openapi.py"


def test_the_document_is_whole() -> None:
    text = json.dumps(DOCUMENT)
    named = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert named == DOCUMENT["components"]["schemas"].keys()
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            problems = {status for status in operation["responses"] if status >= "400"} - {"401", "403", "429"}
            assert {"400", "500"} <= problems, (method, path)
            for status in problems:
                schema = operation["responses"][status]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}
            # A caller may repeat every request that writes.
            names = {parameter["name"] for parameter in operation["parameters"]}
            assert ("idempotency-key" in names) == (method != "get")


def test_the_template_has_its_routes() -> None:
    routes = {
        name: resource["Properties"]
        for name, resource in RESOURCES.items()
        if resource["Type"] == "AWS::ApiGatewayV2::Route"
    }
    documented = {f"{method.upper()} {path}" for path, operations in DOCUMENT["paths"].items() for method in operations}
    assert {route["RouteKey"] for route in routes.values()} == documented | {"$default"}
    for name, route in routes.items():
        assert route["AuthorizationType"] == {"Fn::If": ["HasJwt", "JWT", "AWS_IAM"]}, f"{name} is open"
        assert route["AuthorizerId"] == {"Fn::If": ["HasJwt", {"Ref": "ApiAuthorizer"}, {"Ref": "AWS::NoValue"}]}


def test_web_pages_may_send_what_the_document_names() -> None:
    cors = RESOURCES["HttpApi"]["Properties"]["CorsConfiguration"]["Fn::If"][1]
    operations = [operation for path in DOCUMENT["paths"].values() for operation in path.values()]
    sent = {each["name"] for operation in operations for each in operation["parameters"] if each["in"] == "header"}
    assert set(cors["AllowHeaders"]) == {"authorization", "content-type", *sent}
    assert set(cors["AllowMethods"]) == {method.upper() for path in DOCUMENT["paths"].values() for method in path}


def test_no_route_refuses_the_preflight_request_of_a_web_page() -> None:
    """Check that with CORS no route but those of the document is left: API Gateway then answers OPTIONS itself."""
    catching = [
        resource
        for resource in RESOURCES.values()
        if resource["Type"] == "AWS::ApiGatewayV2::Route"
        and resource["Properties"]["RouteKey"].startswith(("$default", "ANY ", "OPTIONS "))
    ]
    assert [resource["Condition"] for resource in catching] == ["HasNoCors"]
    has_cors, _, otherwise = RESOURCES["HttpApi"]["Properties"]["CorsConfiguration"]["Fn::If"]
    assert (has_cors, otherwise) == ("HasCors", {"Ref": "AWS::NoValue"})


@pytest.mark.parametrize(
    ("origins", "taken"),
    [
        ("", True),
        ("https://app.example.com", True),
        ("http://localhost:5173,https://app.example.com", True),
        ("https://app.example.com/", False),
        ("https://a.example.com, https://b.example.com", False),
        ("app.example.com", False),
        ("*", False),
    ],
)
def test_an_origin_is_written_as_browsers_send_it(origins: str, taken: bool) -> None:
    pattern = TEMPLATE["Parameters"]["CorsAllowOrigins"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, origins)) == taken


def test_the_methods_of_a_path_are_known() -> None:
    documented = {
        path.replace("{agentId}", "*"): ", ".join(sorted(method.upper() for method in operations))
        for path, operations in DOCUMENT["paths"].items()
    }
    assert documented == METHODS


def test_every_model_of_the_view_is_in_the_document() -> None:
    # The view's serializer hides its fields from pydantic.
    view = DOCUMENT["components"]["schemas"]["AgentView"]
    assert {"agentId", "status", "context", "plan", "metadata"} <= view["properties"].keys()
    assert "result" not in view["required"]
    assert "lastToolExecutionAt" not in DOCUMENT["components"]["schemas"]["Metadata"]["required"]


def test_the_url_of_an_embedded_engine() -> None:
    connection = Connection(Running(port=4566, pid=1, stack="turnstile", model=None, log=""))
    assert connection.api_url == ""
    connection.outputs = {"ApiId": "abcd1234"}
    assert connection.api_url == "http://127.0.0.1:4566/_aws/execute-api/abcd1234"


def test_a_request_is_written_in_camel_case_only() -> None:
    assert issubclass(StartAgent, Model)
    assert StartAgent.model_validate({"prompt": "Hello", "agentId": "a"}).agent_id == "a"
    with pytest.raises(ValueError, match="agent_id"):
        StartAgent.model_validate({"prompt": "Hello", "agent_id": "a"})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"prompt": ' + "9" * 5000 + "}", "The body cannot be read: Exceeds the limit"),
        ('{"prompt": "Fly", "limits": ' + "9" * 5000 + "}", "The body cannot be read: Exceeds the limit"),
        ('{"prompt": ' + "[" * 300 + "]" * 300 + "}", "The body nests more than 32 deep"),
        ('{"prompt": ' + "[" * 20_000 + "]" * 20_000 + "}", "The body cannot be read"),
        ('{"prompt": "Fly", "\\ud83d": 1}', "unicode"),
        ('{"prompt": 0.5}', "prompt"),
        ('{"prompt": "Fly", "agentId": "' + "a" * 65 + '"}', "agentId"),
        ('{"prompt": "Fly", "agent": "' + "a" * 5000 + '"}', "agent"),
    ],
    ids=["digits", "digits unasked", "deep", "endless", "half a character", "fraction", "long id", "long name"],
)
def test_an_unreadable_body_is_refused(body: str, words: str) -> None:
    status, told = answer(request("POST", "/agents", body))
    assert (status, told["error"]) == (400, "RequestInvalid")
    assert words in told["message"]
    assert len(told["message"]) < 1000


def test_a_body_that_is_not_even_text_is_refused() -> None:
    body = base64.b64encode(b'{"prompt": "\xff"}').decode()
    status, told = answer(request("POST", "/agents", body, isBase64Encoded=True))
    assert (status, told["error"]) == (400, "RequestInvalid")


def test_half_a_character_in_a_request_is_replaced() -> None:
    asked = StartAgent.model_validate({"prompt": "\ud83d", "goal": "\udc00"})
    assert (asked.prompt, asked.goal) == ("\ufffd", "\ufffd")
    assert keys.request_id("a", asked)


def test_half_a_character_in_a_path_is_answered() -> None:
    status, told = answer(request("GET", "/\ud83d"))
    assert (status, "/\ufffd" in told["message"]) == (404, True)
