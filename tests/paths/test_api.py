"""The HTTP API as its callers see it: real requests, through the engine's API Gateway, to the real machines."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.unit.records import effect, state
from tests.world import World, scenario, waiting
from turnstile_agents.definition import definition_key
from turnstile_agents.items import Attributes, item_of, stored
from turnstile_agents.record import Status, child_id
from turnstile_cli.engines.faults import Fault

pytestmark = pytest.mark.xdist_group("api")

POOL = urllib3.PoolManager(retries=False, timeout=20)
ANSWER = "Between which cities can you book flights?"


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Door:
    """The HTTP API of a local stack."""

    url: str

    @classmethod
    def of(cls, world: World) -> "Door":
        api_id = urlsplit(world.stack.outputs.api_url).netloc.partition(".")[0]
        return cls(f"{world.stack.events.meta.endpoint_url}/_aws/execute-api/{api_id}")

    def send(
        self, method: str, path: str, body: Any = None, *, key: str = "", signed: bool = True, **headers: str
    ) -> Answer:
        """Send a request; a body that is not text goes as JSON. `content_type` and other headers are keywords."""
        data = body if isinstance(body, str | bytes | None) else json.dumps(body)
        request = AWSRequest(method, f"{self.url}{path}", data=data)
        if data is not None:
            request.headers["content-type"] = "application/json"
        for name, value in headers.items():
            request.headers.replace_header(name.replace("_", "-"), value)
        if key:
            request.headers["Idempotency-Key"] = key
        if signed:
            SigV4Auth(Credentials("test", "test"), "execute-api", "us-east-1").add_auth(request)
        answer = POOL.request(method, str(request.url), body=data, headers=dict(request.headers))
        lower = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, json.loads(answer.data) if answer.data else None, lower)

    def get(self, path: str) -> Any:
        """Return the body of a GET that succeeds."""
        answer = self.send("GET", path)
        assert answer.status == 200, answer
        return answer.body


def new(name: str = "api") -> str:
    """Return a name that no agent has had."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def assert_refused(answer: Answer, status: int, error: str, *words: str) -> None:
    """Check that the answer has the shape of every refusal, and that its message has these words."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.body.keys() == {"error", "message"}
    assert answer.body["error"] == error
    for word in words:
        assert word in answer.body["message"]


@pytest.fixture
def door(world: World) -> Door:
    return Door.of(world)


# ---- Starting and reading


def test_an_agent_is_started_and_read(world: World, door: Door) -> None:
    prompt = scenario("straight_booking").prompt
    agent_id = new("straight_booking")
    answer = door.send("POST", "/agents", {"prompt": prompt, "agentId": agent_id})
    assert (answer.status, answer.body) == (202, {"agentId": agent_id, "status": "INITIATED"})
    assert answer.headers["location"] == f"agents/{agent_id}"
    world.settle(agent_id, Status.COMPLETED)
    read = door.get(f"/agents/{agent_id}")
    assert read == world.stack.view(agent_id).dump()
    assert read["status"] == "COMPLETED"
    assert read["goal"] == prompt
    caller = {"by": "arn:aws:iam::000000000000:root", "source": "com.agent.api", "verified": True}
    assert read["caller"] == caller
    assert read["context"]["conversationHistory"][0] == {"role": "user", "content": prompt, "caller": caller}
    assert journal(door, agent_id)[0]["heard"] == [{"text": prompt, "caller": caller}]
    assert [entry["toolName"] for entry in read["plan"]] == ["book_flight"]


def test_an_agent_without_an_id_gets_one(world: World, door: Door) -> None:
    first, second = (door.send("POST", "/agents", {"prompt": ANSWER, "goal": "Cities"}).body for _ in range(2))
    assert first["agentId"] != second["agentId"]
    assert world.wait(first["agentId"], bool)["goal"] == "Cities"


def test_the_definition_is_the_one_that_was_named(world: World, door: Door) -> None:
    named = door.send("POST", "/agents", {"prompt": ANSWER, "agent": "travel"})
    assert world.wait(named.body["agentId"], bool)["agent"] == "travel"
    unknown = new("unknown")
    answer = door.send("POST", "/agents", {"prompt": ANSWER, "agent": unknown})
    assert_refused(answer, 404, "DefinitionUnknown", unknown, "turnstile register")
    assert world.item(definition_key(unknown), "LATEST") is None


def test_an_id_is_given_once(world: World, door: Door) -> None:
    agent_id = waiting(world)
    answer = door.send("POST", "/agents", {"prompt": ANSWER, "agentId": agent_id})
    assert_refused(answer, 409, "AgentExists", agent_id)


@pytest.mark.parametrize("agent_id", [child_id("a-1", 2, 0), "key-0123456789abcdef"])
def test_an_id_that_only_turnstile_gives_is_refused(door: Door, agent_id: str) -> None:
    answer = door.send("POST", "/agents", {"prompt": ANSWER, "agentId": agent_id})
    assert_refused(
        answer, 400, "RequestInvalid", "agentId begins with child- or key-", "Use another agentId, or leave it out"
    )


@pytest.mark.parametrize("path", ["", "/journal"])
def test_an_unknown_agent_cannot_be_read(door: Door, path: str) -> None:
    assert_refused(door.send("GET", f"/agents/unknown{path}"), 404, "AgentUnknown", "unknown")


# ---- Invalid requests


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, ["prompt is missing"]),
        ({"prompt": "  \n"}, ["prompt must not be blank"]),
        ({"prompt": ""}, ["prompt"]),
        ({"prompt": 7}, ["prompt", "string"]),
        ({"prompt": "Hello", "agentid": "x"}, ["agentid is no field"]),
        ({"prompt": "Hello", "agent_id": "x"}, ["agent_id is no field"]),
        ({"prompt": "Hello", "agentId": "a#b"}, ["agentId"]),
        ({"prompt": "x" * 4097}, ["4096 bytes", "give a short goal beside a long prompt"]),
        ({"prompt": "Hello", "goal": "é" * 2049}, ["4096 bytes", "give a short goal beside a long prompt"]),
        ("{", ["no valid JSON"]),
        ("[]", ["The body"]),
        ("null", ["The body is missing"]),
        ("", ["The body is missing"]),
        ("[" * 60000, ["The body"]),
    ],
)
def test_a_wrong_body_is_explained(door: Door, body: Any, words: list[str]) -> None:
    assert_refused(door.send("POST", "/agents", body), 400, "RequestInvalid", *words)


def test_a_long_prompt_with_a_short_goal_is_taken(world: World, door: Door) -> None:
    prompt = ANSWER + "é" * 25_000
    body = json.dumps({"prompt": prompt, "goal": "Cities"}, ensure_ascii=False).encode()
    agent_id = door.send("POST", "/agents", body).body["agentId"]
    world.wait(agent_id, lambda state: state["goal"] == "Cities")
    assert world.items(agent_id, "STEP#000001")[0]["text"] == prompt


def test_a_body_is_bounded(door: Door) -> None:
    def body(size: int) -> str:
        return json.dumps({"prompt": "x", "agent": new("none")}).ljust(size)

    assert_refused(door.send("POST", "/agents", body(65536)), 404, "DefinitionUnknown")
    assert_refused(door.send("POST", "/agents", body(65537)), 413, "BodyTooLarge", "65536")


def test_a_body_is_json(door: Door) -> None:
    answer = door.send("POST", "/agents", "prompt=Hello", content_type="application/x-www-form-urlencoded")
    assert_refused(answer, 415, "UnsupportedMediaType", "application/json")
    broken = door.send("POST", "/agents", b"\xff", content_type="")
    assert_refused(broken, 400, "RequestInvalid", "The body cannot be read")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/agents", "GET, POST"),
        ("PATCH", "/agents/some", "DELETE, GET"),
        ("DELETE", "/agents/some/journal", "GET"),
        ("GET", "/agents/some/input", "POST"),
        ("GET", "/agents/some/decisions", "POST"),
    ],
)
def test_a_wrong_method_is_refused(door: Door, method: str, path: str, allow: str) -> None:
    answer = door.send(method, path)
    assert_refused(answer, 405, "MethodNotAllowed", method)
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize("path", ["/", "/agent", "/agents/some/", "/agents/some/other", "/agents/a/b/c"])
def test_an_unknown_route_is_refused(door: Door, path: str) -> None:
    assert_refused(door.send("GET", path), 404, "RouteUnknown")


@pytest.mark.parametrize("path", ["/agents/a.b", "/agents/" + "a" * 65, "/agents?limit=0", "/agents?limit=101"])
def test_a_wrong_parameter_is_named(door: Door, path: str) -> None:
    assert_refused(door.send("GET", path), 400, "RequestInvalid", "limit" if "limit" in path else "agentId")


# ---- Permissions: a signature


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/agents"),
        ("GET", "/agents"),
        ("GET", "/agents/some"),
        ("GET", "/agents/some/journal"),
        ("POST", "/agents/some/input"),
        ("POST", "/agents/some/decisions"),
        ("DELETE", "/agents/some"),
        ("GET", "/anything/else"),
    ],
)
def test_no_request_comes_in_without_a_signature(door: Door, method: str, path: str) -> None:
    assert door.send(method, path, signed=False) == Answer(403, {"message": "Forbidden"}, ANY_HEADERS)
    assert door.send(method, path, {} if method == "POST" else None).status != 403


class _Anything(dict[str, str]):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict)


ANY_HEADERS = _Anything()


# ---- The same request again


def test_a_repeated_request_starts_one_agent(world: World, door: Door) -> None:
    key = new("key")
    first = door.send("POST", "/agents", {"prompt": ANSWER, "goal": "Cities"}, key=key)
    agent_id = first.body["agentId"]
    before = door.send("POST", "/agents", {"goal": "Cities", "prompt": ANSWER}, key=key)
    assert (before.status, before.body["agentId"]) == (202, agent_id)
    world.settle(agent_id, Status.COMPLETED)
    after = door.send("POST", "/agents", {"prompt": ANSWER, "goal": "Cities"}, key=key)
    assert (after.status, after.body) == (202, {"agentId": agent_id, "status": "COMPLETED"})
    assert [item["text"] for item in world.items(agent_id, "STEP") if item["who"] == "USER"] == [ANSWER]
    other = door.send("POST", "/agents", {"prompt": "Something else"}, key=key)
    assert_refused(other, 422, "KeyReused", key)
    assert door.send("POST", "/agents", {"prompt": "Something else"}, key=new("key")).status == 202


def test_two_requests_at_once_start_one_agent(world: World, door: Door) -> None:
    key, together = new("key"), threading.Barrier(2)
    seen = len(world.stack.execution_arns(world.stack.outputs.agent_start_arn))

    def ask() -> Answer:
        together.wait()
        return door.send("POST", "/agents", {"prompt": ANSWER}, key=key)

    with ThreadPoolExecutor(2) as threads:
        answers = [future.result() for future in [threads.submit(ask), threads.submit(ask)]]
    assert [answer.status for answer in answers] == [202, 202]
    (agent_id,) = {answer.body["agentId"] for answer in answers}
    world.settle(agent_id, Status.COMPLETED)
    started = world.stack.execution_arns(world.stack.outputs.agent_start_arn)[seen:]
    # The second request was told of the first, by the record or by the machine; neither is a failure.
    assert len(started) in (1, 2)
    assert {world.ended(arn)["status"] for arn in started} == {"SUCCEEDED"}


def test_a_given_id_and_a_key_go_together(world: World, door: Door) -> None:
    agent_id, key = new(), new("key")
    request = {"prompt": ANSWER, "agentId": agent_id}
    assert door.send("POST", "/agents", request, key=key).status == 202
    world.settle(agent_id, Status.COMPLETED)
    assert door.send("POST", "/agents", request, key=key).status == 202
    assert_refused(door.send("POST", "/agents", {**request, "prompt": "Other"}, key=key), 422, "KeyReused")
    assert_refused(door.send("POST", "/agents", request, key=new("key")), 409, "AgentExists")
    assert_refused(door.send("POST", "/agents", request), 409, "AgentExists")


def test_a_wrong_key_is_refused(door: Door) -> None:
    answer = door.send("POST", "/agents", {"prompt": ANSWER}, key="with a blank")
    assert_refused(answer, 400, "RequestInvalid", "idempotency-key")


# ---- Input


def test_a_question_is_answered(world: World, door: Door) -> None:
    played = scenario("ask_the_user")
    agent_id, key = waiting(world), new("key")
    answer = door.send("POST", f"/agents/{agent_id}/input", {"text": played.inputs[0]}, key=key)
    assert (answer.status, answer.body) == (202, {"agentId": agent_id, "status": "WAITING_FOR_INPUT"})
    world.settle(agent_id, Status.COMPLETED)
    heard = [words for entry in journal(door, agent_id) for words in entry["heard"]]
    assert [words["text"] for words in heard] == [played.prompt, played.inputs[0]]
    # The agent was started on the bus, and its input comes over HTTP.
    assert [words["caller"]["verified"] for words in heard] == [False, True]
    again = door.send("POST", f"/agents/{agent_id}/input", {"text": played.inputs[0]}, key=key)
    assert (again.status, again.body["status"]) == (202, "COMPLETED")
    assert len(world.items(agent_id, "INPUT")) == 1
    assert_refused(door.send("POST", f"/agents/{agent_id}/input", {"text": "Other"}, key=key), 422, "KeyReused", key)
    assert_refused(door.send("DELETE", f"/agents/{agent_id}", key=key), 422, "KeyReused", key)
    refused = door.send("POST", f"/agents/{agent_id}/input", {"text": "And now?"})
    assert_refused(refused, 409, "AgentFinished", agent_id, "COMPLETED")


@pytest.mark.parametrize("status", [Status.TOOL_EXECUTION_PENDING, Status.WAITING_FOR_AGENT])
def test_a_busy_agent_keeps_its_input(world: World, door: Door, status: Status) -> None:
    agent_id = new()
    put_state(world, agent_id, status, owner="another")
    assert door.send("POST", f"/agents/{agent_id}/input", {"text": "By the way"}).status == 202
    world.wait(agent_id, lambda state: state["inbox"] == "1")
    assert [json.loads(item["detail"])["text"] for item in world.items(agent_id, "INPUT")] == ["By the way"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.WAITING_FOR_APPROVAL, ["approval 3", "/decisions"]),
        (Status.WAITING_FOR_OPERATOR, ["operator", "/decisions"]),
    ],
)
def test_an_agent_that_waits_for_something_else_takes_no_input(
    world: World, door: Door, status: Status, words: list[str]
) -> None:
    agent_id = new()
    put_state(world, agent_id, status, waitsFor="3")
    answer = door.send("POST", f"/agents/{agent_id}/input", {"text": "Hello?"})
    assert_refused(answer, 409, "InputRefused", agent_id, *words)
    assert world.items(agent_id, "INPUT") == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/input", {"text": "Hello?"}),
        ("POST", "/decisions", {"decision": "APPROVE", "approvalId": "3"}),
        ("POST", "/decisions", {"decision": "RETRY", "questionId": "1"}),
        ("DELETE", "", None),
    ],
)
def test_an_unknown_agent_takes_nothing(door: Door, method: str, path: str, body: Any) -> None:
    assert_refused(door.send(method, f"/agents/unknown{path}", body), 404, "AgentUnknown", "unknown")


# ---- Decisions


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, ["decision is missing"]),
        ({"decision": "MAYBE"}, ["decision must be one of", "RETRY"]),
        ({"decision": "EXPIRE", "approvalId": "3"}, ["decision must be one of"]),
        ({"decision": "APPROVE"}, ["approvalId is missing"]),
        ({"decision": "RETRY", "approvalId": "3"}, ["approvalId is no field"]),
        ({"decision": "RETRY", "note": "x" * 4001}, ["note", "4000"]),
    ],
)
def test_a_wrong_decision_is_explained(door: Door, body: Any, words: list[str]) -> None:
    assert_refused(door.send("POST", "/agents/some/decisions", body), 400, "RequestInvalid", *words)


def test_a_call_is_approved(world: World, door: Door) -> None:
    agent_id, key = world.start(scenario("approved")), new("key")
    world.settle(agent_id, Status.WAITING_FOR_APPROVAL)
    approval = door.get(f"/agents/{agent_id}")["approval"]
    assert [call["toolName"] for call in approval["calls"]] == ["book_flight"]
    path = f"/agents/{agent_id}/decisions"
    decision = {"approvalId": approval["approvalId"], "decision": "APPROVE", "note": "The budget allows it."}
    answer = door.send("POST", path, decision, key=key)
    assert (answer.status, answer.body) == (202, {"agentId": agent_id, "status": "WAITING_FOR_APPROVAL"})
    world.settle(agent_id, Status.COMPLETED)
    assert len(world.bookings(agent_id)) == 1
    again = door.send("POST", path, decision, key=key)
    assert (again.status, again.body["status"]) == (202, "COMPLETED")
    decided = next(entry for entry in journal(door, agent_id) if entry["ruling"])
    assert decided["ruling"]["caller"]["by"] == "arn:aws:iam::000000000000:root"
    after = door.get(f"/agents/{agent_id}/journal?after={decided['step'] - 1}")
    assert after["entries"][0] == decided
    assert_refused(door.send("POST", path, {**decision, "decision": "REFUSE"}, key=key), 422, "KeyReused", key)
    assert_refused(door.send("POST", path, decision), 409, "DecisionRefused", "COMPLETED")


def test_an_operator_decides_once(world: World, door: Door) -> None:
    agent_id = world.play(scenario("done_in_words_only"))
    world.settle(agent_id, Status.WAITING_FOR_OPERATOR)
    world.wait(agent_id, lambda _: world.item(agent_id, "OPERATOR") is not None)
    asked = door.send("GET", f"/agents/{agent_id}").body["operator"]
    assert (asked["questionId"], asked["uncertain"]) == ("1", [])
    assert f"Agent {agent_id} needs a decision" in asked["text"]
    path = f"/agents/{agent_id}/decisions"
    decision = {"questionId": asked["questionId"], "decision": "ABORT", "note": "Enough."}
    assert_refused(door.send("POST", path, {"decision": "ABORT"}), 400, "RequestInvalid", "questionId is missing")
    other = door.send("POST", path, {**decision, "questionId": "0"})
    assert_refused(other, 409, "DecisionRefused", "is asking question 1 by now, and question 0 is closed")
    refused = door.send("POST", path, {"decision": "APPROVE", "approvalId": "3"})
    assert_refused(refused, 409, "DecisionRefused", "waits for no approval")
    answer = door.send("POST", path, decision)
    assert (answer.status, answer.body) == (202, {"agentId": agent_id, "status": "WAITING_FOR_OPERATOR"})
    world.settle(agent_id, Status.FAILED)
    assert_refused(door.send("POST", path, decision), 409, "DecisionRefused", "FAILED")
    assert any(entry["recovery"]["note"] == "Enough." for entry in journal(door, agent_id) if entry["recovery"])


def test_a_stale_question_cannot_be_answered(world: World, door: Door) -> None:
    agent_id = new()
    put_state(world, agent_id, Status.WAITING_FOR_OPERATOR)
    path, decision = f"/agents/{agent_id}/decisions", {"questionId": "7", "decision": "RETRY"}
    assert_refused(door.send("POST", path, decision), 409, "DecisionRefused", "in a moment")
    asked = {"questionId": "7", "question": "?", "askedAt": "2026-01-01T00:00:00Z", "reminders": "0"}
    put(world, {"agentId": agent_id, "record": "OPERATOR", "token": "used up long ago", **asked})
    assert_refused(door.send("POST", path, decision), 409, "DecisionRefused", "Nothing was changed")


def test_an_operator_says_of_each_uncertain_effect_whether_it_happened(world: World, door: Door) -> None:
    agent_id = new()
    world.faults.put(Fault(agent_id=agent_id, state="CallWriteTool", when="after", error="States.Timeout"))
    world.faults.put(Fault(agent_id=agent_id, state="LookUp", error="AccessDenied"))
    world.start(scenario("straight_booking"), agent_id)
    world.settle(agent_id, Status.WAITING_FOR_OPERATOR)
    world.wait(agent_id, lambda _: world.item(agent_id, "OPERATOR") is not None)
    asked = door.send("GET", f"/agents/{agent_id}").body["operator"]
    [effect] = asked["uncertain"]
    assert (effect["key"], effect["toolName"]) == ("EFFECT#000002#0", "book_flight")
    assert effect["parameters"]["from_city"] == "New York"
    path, decision = f"/agents/{agent_id}/decisions", {"questionId": asked["questionId"], "decision": "RETRY"}
    words = ["RETRY needs to know of each uncertain effect", "EFFECT#000002#0, book_flight", "Nothing was changed"]
    assert_refused(door.send("POST", path, decision), 409, "DecisionRefused", *words)
    unknown = {**decision, "effects": [{"key": "EFFECT#000009#0", "happened": True}]}
    assert_refused(door.send("POST", path, unknown), 409, "DecisionRefused", "no effect EFFECT#000009#0")
    wrong = {**decision, "effects": [{"key": effect["key"], "happened": "yes"}]}
    assert_refused(door.send("POST", path, wrong), 400, "RequestInvalid", "effects.0.happened")
    said = {**decision, "effects": [{"key": effect["key"], "happened": True, "result": {"booking_id": "BK-7"}}]}
    assert door.send("POST", path, said).status == 202
    world.settle(agent_id, Status.COMPLETED)
    assert [json.loads(item["result"]) for item in world.items(agent_id, "EFFECT")] == [{"booking_id": "BK-7"}]
    [recovery] = [entry["recovery"] for entry in journal(door, agent_id) if entry["recovery"]]
    assert (recovery["action"], recovery["source"]) == ("RETRY", "com.agent.api")
    assert recovery["by"]


def test_another_approval_cannot_be_decided(world: World, door: Door) -> None:
    agent_id = new()
    put_state(world, agent_id, Status.WAITING_FOR_APPROVAL, waitsFor="7")
    answer = door.send("POST", f"/agents/{agent_id}/decisions", {"decision": "APPROVE", "approvalId": "3"})
    assert_refused(answer, 409, "DecisionRefused", "approval 7, not on 3")
    put_state(world, agent_id, Status.PLANNING)
    answer = door.send("POST", f"/agents/{agent_id}/decisions", {"decision": "APPROVE", "approvalId": "7"})
    assert_refused(answer, 409, "DecisionRefused", "PLANNING")


# ---- Cancelling


def test_an_agent_is_cancelled_and_tells_what_stands(world: World, door: Door) -> None:
    agent_id, key = waiting(world), new("key")
    made = {"agentId": agent_id, "input": json.dumps({"date": "x" * 600}), "result": "{}"}
    put(world, effect("EFFECT#000002#0", "COMMITTED", "book_flight", **made))
    put(world, effect("EFFECT#000002#1", "COMPENSATED", "book_flight", **made))
    answer = door.send("DELETE", f"/agents/{agent_id}?note=Never%20mind,%20thanks", key=key)
    assert (answer.status, answer.body["status"]) == (202, "WAITING_FOR_INPUT")
    (stands,) = answer.body["standing"]
    assert (stands["tool"], stands["result"], len(stands["input"])) == ("book_flight", "{}", 500)
    world.wait(agent_id, lambda state: state["status"] == Status.CANCELLED)
    (item,) = world.items(agent_id, "INPUT")
    assert json.loads(item["detail"])["note"] == "Never mind, thanks"
    again = door.send("DELETE", f"/agents/{agent_id}?note=Never%20mind,%20thanks", key=key)
    assert (again.status, again.body["status"]) == (202, "CANCELLED")
    assert_refused(door.send("DELETE", f"/agents/{agent_id}"), 409, "AgentFinished", "CANCELLED")


# ---- Lists


def test_agents_are_listed_by_status_and_page(world: World, door: Door) -> None:
    ids = [new("listed") for _ in range(3)]
    for number, agent_id in enumerate(ids):
        # No agents of other tests have this status.
        put_state(world, agent_id, Status.COMPENSATING, lastUpdated=f"2126-01-0{number + 1}T00:00:00Z", owner="me")
    found, token, path = [], "", "/agents?status=COMPENSATING&limit=2"
    while token is not None:
        page = door.get(path + (f"&nextToken={token}" if token else ""))
        assert len(page["agents"]) <= 2
        found += page["agents"]
        token = page["nextToken"]
    assert [agent["agentId"] for agent in found if agent["agentId"] in ids] == ids[::-1]
    assert found[0].keys() == {"agentId", "status", "agent", "goal", "step", "createdAt", "lastUpdated", "error"}
    first = door.get(path)["nextToken"]
    for wrong in ("rubbish", "e30=", first[:-4], "é"):
        answer = door.send("GET", f"{path}&nextToken={wrong}")
        assert_refused(answer, 400, "RequestInvalid", "nextToken")
    assert_refused(door.send("GET", f"/agents?nextToken={first}"), 400, "RequestInvalid", "nextToken")
    assert_refused(door.send("GET", "/agents?status=ASLEEP"), 400, "RequestInvalid", "status", "PLANNING")


def test_all_agents_are_listed_page_by_page(world: World, door: Door) -> None:
    for _ in range(3):
        waiting(world)
    found: list[str] = []
    page = door.get("/agents?limit=2")
    while page["nextToken"]:
        found += [agent["agentId"] for agent in page["agents"]]
        page = door.get(f"/agents?limit=2&nextToken={page['nextToken']}")
    found += [agent["agentId"] for agent in page["agents"]]
    assert sorted(found) == sorted(agent.agent_id for agent in world.stack.agents())


def test_a_journal_is_read_page_by_page(world: World, door: Door) -> None:
    agent_id = world.play(scenario("straight_booking"))
    whole = door.get(f"/agents/{agent_id}/journal")
    assert whole["nextAfter"] is None
    assert [(entry["step"], entry["who"]) for entry in whole["entries"]] == [
        (1, "USER"),
        (2, "MODEL"),
        (3, "TOOLS"),
        (4, "MODEL"),
    ]
    assert whole["entries"][1]["decision"]["calls"][0]["name"] == "book_flight"
    page = door.get(f"/agents/{agent_id}/journal?limit=3")
    assert (page["entries"], page["nextAfter"]) == (whole["entries"][:3], 3)
    rest = door.get(f"/agents/{agent_id}/journal?limit=3&after=3")
    assert (rest["entries"], rest["nextAfter"]) == (whole["entries"][3:], None)
    assert door.get(f"/agents/{agent_id}/journal?after=4") == {"entries": [], "nextAfter": None}


# ----


def journal(door: Door, agent_id: str) -> list[dict[str, Any]]:
    """Return the entries of a journal."""
    entries: list[dict[str, Any]] = door.get(f"/agents/{agent_id}/journal?limit=100")["entries"]
    return entries


def put(world: World, item: Attributes) -> None:
    """Put an item into the table, without any machine."""
    world.stack.dynamodb.put_item(TableName=world.stack.outputs.table_name, Item=stored(item_of(item)))


def put_state(world: World, agent_id: str, status: Status, **more: str) -> None:
    """Put the STATE of an agent that no execution works on, and that agent_watch leaves alone for a hundred years."""
    later = "2126-01-01T00:00:00Z"
    about = {"agentId": agent_id, "status": str(status), "goal": "A test", "owner": "NONE", "createdBy": "a test"}
    put(world, state(**{**about, "createdAt": later, "lastUpdated": later, **more}))
