"""Api: the routes of the HTTP API. `agents.py` and `pages.py` do their work."""

import base64
import json
from collections.abc import Mapping
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from aws_lambda_powertools.event_handler.openapi.params import Body, Header, Path, Query

from turnstile_agents.api import agents, pages
from turnstile_agents.api.caller import caller
from turnstile_agents.api.problems import HttpRefusal, complaints, invalid, unknown_agent
from turnstile_agents.api.shapes import (
    BODY_LIMIT,
    LIMIT,
    LONGEST,
    Accepted,
    AgentPage,
    ApprovalDecision,
    Cancelling,
    GatewayProblem,
    GiveInput,
    JournalPage,
    OperatorDecisionBody,
    Problem,
    StartAgent,
)
from turnstile_agents.border import DEPTH, clean_text, nests_deeper
from turnstile_agents.events import AgentId as Id
from turnstile_agents.log import logger
from turnstile_agents.operator import NOTE_LIMIT
from turnstile_agents.record import Status
from turnstile_agents.store import read_definition, table
from turnstile_agents.table import LAST_STEP
from turnstile_agents.view import AgentView, public_view

# An answer of the wrong shape is an error of this function, not of the request: 500.
app = APIGatewayHttpResolver(enable_validation=True, response_validation_error_http_code=500)
METHODS = {
    "/agents": "GET, POST",
    "/agents/*": "DELETE, GET",
    "/agents/*/decisions": "POST",
    "/agents/*/input": "POST",
    "/agents/*/journal": "GET",
}
"""The methods of each path, for `Allow`; a star is an agent's id."""

AgentId = Annotated[Id, Path(alias="agentId", description="1 to 64 of A-Z a-z 0-9 _ -")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[A-Za-z0-9_.:-]{1,128}$",
        description="An id that you choose, the same if you send the same request again: it is carried out once",
    ),
]
Limit = Annotated[int, Query(ge=1, le=LONGEST, description="Most entries of a page")]

_PROBLEMS = {
    400: "The request cannot be understood",
    404: "There is no such agent, or no such definition",
    409: "The agent's status does not allow this; the message says why",
    413: f"The body has more than {BODY_LIMIT} bytes",
    415: "The body is not JSON",
    422: "The Idempotency-Key was used for another request before",
    503: "The bus did not take the event",
}
_GATEWAY: dict[int, tuple[Any, str]] = {
    401: (GatewayProblem, "The token is missing or refused (where a JWT authoriser is used)"),
    403: (
        GatewayProblem | Problem,
        "The request is not signed, its signer may not do this, its token lacks the scope, or it names no caller",
    ),
    429: (GatewayProblem, "Too many requests"),
}


def _responses(status: int, model: type, description: str, *problems: int) -> Any:
    """Describe the answers of a route, for the OpenAPI document."""
    answers: dict[int, tuple[Any, str]] = {status: (model, description), **_GATEWAY}
    answers |= {each: (Problem, _PROBLEMS[each]) for each in problems}
    return {
        each: {"description": text, "content": {"application/json": {"model": answer}}}
        for each, (answer, text) in sorted(answers.items())
    }


@app.post(
    "/agents",
    summary="Start an agent",
    description="Its record exists a moment later, at `Location`; until then, GET answers 404.",
    operation_id="startAgent",
    responses=_responses(202, Accepted, "The agent is requested", 400, 404, 409, 413, 415, 422, 503),
)
def start_agent(request: StartAgent, key: Key = None) -> Response[Accepted]:
    """Request an agent."""
    accepted = agents.start(request, key, _caller())
    # Relative, so that it is correct behind any base path.
    return _accepted(accepted, {"Location": f"agents/{accepted.agent_id}", "Retry-After": "1"})


@app.get(
    "/agents",
    summary="List agents",
    description="The agents in a status, the last updated first; without a status all agents, in no order.",
    operation_id="listAgents",
    responses=_responses(200, AgentPage, "A page", 400),
)
def list_agents(
    status: Annotated[Status | None, Query(description="The status of the agents")] = None,
    limit: Limit = LIMIT,
    next_token: Annotated[str | None, Query(alias="nextToken", description="From the page before")] = None,
) -> AgentPage:
    """Return a page of agents."""
    return pages.list_agents(status, limit, next_token)


@app.get(
    "/agents/<agentId>",
    summary="Read an agent",
    description="Its status, conversation, plan, calls and cost.",
    operation_id="readAgent",
    responses=_responses(200, AgentView, "The agent", 400, 404),
)
def read_one(agent_id: AgentId) -> AgentView:
    """Return the public view of an agent."""
    record = table().record(agent_id)
    if record.state is None:
        raise unknown_agent(agent_id)
    return public_view(record.state, record, read_definition(record.state.agent, record.state.definition_version))


@app.get(
    "/agents/<agentId>/journal",
    summary="Read an agent's journal",
    description="Step by step: inputs, the model's texts, decisions and results.",
    operation_id="readJournal",
    responses=_responses(200, JournalPage, "Some of its entries", 400, 404),
)
def read_journal(
    agent_id: AgentId,
    after: Annotated[int, Query(ge=0, le=LAST_STEP - 1, description="Entries after this step")] = 0,
    limit: Limit = LIMIT,
) -> JournalPage:
    """Return entries of the journal."""
    return pages.read_journal(agent_id, after, limit)


@app.post(
    "/agents/<agentId>/input",
    summary="Say something to an agent",
    description="An agent that waits for it goes on; an agent that works or waits for others reads it later.",
    operation_id="giveInput",
    responses=_responses(202, Accepted, "The input is on its way", 400, 404, 409, 413, 415, 422, 503),
)
def give_input(agent_id: AgentId, request: GiveInput, key: Key = None) -> Response[Accepted]:
    """Send a user's text to an agent."""
    return _accepted(agents.give_input(agent_id, request.text, key, _caller()))


@app.post(
    "/agents/<agentId>/decisions",
    summary="Decide",
    description="APPROVE or REFUSE calls that wait for approval; RETRY, REPLAN, COMPENSATE or ABORT if the operator is "
    "asked.",
    operation_id="decide",
    responses=_responses(202, Accepted, "The decision is on its way", 400, 404, 409, 413, 415, 422, 503),
)
def decide(
    agent_id: AgentId,
    request: Annotated[ApprovalDecision | OperatorDecisionBody, Body(discriminator="decision")],
    key: Key = None,
) -> Response[Accepted]:
    """Take a decision of an approver or of the operator."""
    if isinstance(request, ApprovalDecision):
        return _accepted(agents.decide_approval(agent_id, request, key, _caller()))
    return _accepted(agents.decide_operator(agent_id, request, _caller()))


@app.delete(
    "/agents/<agentId>",
    summary="Cancel an agent",
    description="It stops at its next checkpoint, and so do its children. Its effects stand, and are listed.",
    operation_id="cancelAgent",
    responses=_responses(202, Cancelling, "The agent is being stopped", 400, 404, 409, 422, 503),
)
def cancel_agent(
    agent_id: AgentId,
    note: Annotated[str, Query(max_length=NOTE_LIMIT, description="Why; kept in the record")] = "",
    key: Key = None,
) -> Response[Cancelling]:
    """Stop an agent."""
    return _accepted(agents.cancel(agent_id, note, key, _caller()))


# ---- Refusals


def _refuse_shape(error: RequestValidationError) -> Response[Problem]:
    """Refuse a request that does not have the shape of its route."""
    return _problem(invalid(complaints(error.errors())))


def _refuse_route(_error: NotFoundError) -> Response[Problem]:
    """Refuse a path or a method that does not exist."""
    method, path = app.current_event.http_method, app.current_event.path
    parts = path.split("/")
    allowed = METHODS.get("/".join([*parts[:2], *("*" for part in parts[2:3] if part), *parts[3:]]))
    if allowed and method not in allowed.split(", "):
        message = f"{path} takes no {method}; it takes {allowed}"
        return _problem(HttpRefusal(405, "MethodNotAllowed", message, {"Allow": allowed}))
    return _problem(HttpRefusal(404, "RouteUnknown", f"There is no {path} here; the routes begin with /agents"))


def _fail(error: Exception) -> Response[Problem]:
    """Answer 500 after an error of this function, or of a service that it uses."""
    logger.exception("Failed", exc_info=error)
    request = app.current_event["requestContext"]["requestId"]
    message = (
        f"The request could not be carried out; the log tells why, under the request's id {request}. Send it again"
    )
    return _problem(HttpRefusal(500, "InternalError", message))


def _problem(refused: HttpRefusal) -> Response[Any]:
    answer = _as_dict(refused)
    return Response(answer["statusCode"], None, answer["body"], answer["headers"])


def _as_dict(refused: HttpRefusal) -> dict[str, Any]:
    # A message may repeat a part of the request.
    problem = Problem(error=refused.error, message=clean_text(str(refused)))
    return {
        "statusCode": refused.status,
        "headers": {"content-type": "application/json", **refused.headers},
        "body": problem.model_dump_json(),
    }


app.exception_handler(HttpRefusal)(_problem)
app.exception_handler(RequestValidationError)(_refuse_shape)
app.exception_handler(NotFoundError)(_refuse_route)
app.exception_handler(Exception)(_fail)


# ----


@logger.inject_lambda_context(correlation_id_path="requestContext.requestId")
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer a request from API Gateway, in payload format 2.0."""
    try:
        _check_body(event)
    except HttpRefusal as refused:
        return _as_dict(refused)
    return app.resolve(event, context)


def _check_body(event: Mapping[str, Any]) -> None:
    """Check a body's size, its content type, and whether it can be read. Raises HttpRefusal."""
    text = event.get("body") or ""
    body = base64.b64decode(text) if event.get("isBase64Encoded") else text.encode(errors="surrogatepass")
    if len(body) > BODY_LIMIT:
        message = f"The body has {len(body)} bytes; {BODY_LIMIT} are allowed. Let a tool fetch longer data"
        raise HttpRefusal(413, "BodyTooLarge", message)
    kind = event["headers"].get("content-type", "").partition(";")[0].strip().lower()
    if body and kind and kind != "application/json":
        raise HttpRefusal(
            415, "UnsupportedMediaType", f"The body is {kind}; send JSON, with content-type: application/json"
        )
    try:
        deep = nests_deeper(json.loads(body)) if body else False
    except json.JSONDecodeError:
        return  # the parser of the body says what is wrong
    except (ValueError, RecursionError) as error:
        # Not UTF-8, a number of 5,000 digits, or lists nested without end.
        raise invalid(f"The body cannot be read: {error}") from error
    if deep:
        raise invalid(f"The body nests more than {DEPTH} deep")


def _caller() -> str:
    return caller(app.current_event.request_context)


def _accepted(body: Any, headers: dict[str, str] | None = None) -> Response[Any]:
    return Response(202, "application/json", body, dict(headers or {}))
