"""With an issuer in the template's parameters, the HTTP API accepts the issuer's tokens, and nothing else."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import urllib3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.unit.records import read_state
from turnstile_agents.items import stored
from turnstile_cli.engines.embedded import Embedded
from turnstile_cli.engines.errors import EngineError
from turnstile_cli.files import TEMPLATE

pytestmark = pytest.mark.xdist_group("api")

KEY = rsa.generate_private_key(65537, 2048)
NUMBERS = KEY.public_key().public_numbers()


def text(data: bytes) -> str:
    """Return base64 in the form of a token."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    """Return a number in the form of a key."""
    return text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Issuer(BaseHTTPRequestHandler):
    """A server that publishes the issuer's public key."""

    def do_GET(self) -> None:
        if self.path == "/jwks":
            answer: dict[str, Any] = {
                "keys": [{"kty": "RSA", "kid": "1", "n": number(NUMBERS.n), "e": number(NUMBERS.e)}]
            }
        else:
            answer = {"jwks_uri": f"http://{self.headers['host']}/jwks"}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_arguments: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Issuer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def engine(issuer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with Embedded.start(folder=tmp_path_factory.mktemp("engine")) as engine:
        # The audience is required: otherwise a token for another service would open this API too.
        with pytest.raises(EngineError, match="JwtIssuer needs JwtAudience"):
            engine.deploy(TEMPLATE, stack="half", parameters={"JwtIssuer": issuer})
        # A scope is refused without an issuer, for no route would demand it; so are web pages, which cannot sign.
        half = {"JwtDecisionScope": "decide", "JwtCancelScope": "cancel", "CorsAllowOrigins": "https://app.example.com"}
        for parameter, value in half.items():
            with pytest.raises(EngineError, match=f"{parameter} needs JwtIssuer"):
                engine.deploy(TEMPLATE, stack="half", parameters={parameter: value})
        scopes = {"JwtDecisionScope": "agents/decide", "JwtCancelScope": "agents/cancel"}
        engine.deploy(TEMPLATE, parameters={"JwtIssuer": issuer, "JwtAudience": "turnstile", **scopes})
        yield engine


def token(issuer: str, audience: str = "turnstile", lasts: int = 60, **more: str) -> str:
    """Return a token that the issuer has signed; `more` are claims beyond the required ones."""
    claims = {"iss": issuer, "aud": audience, "sub": "ana", "exp": int(time.time()) + lasts, **more}
    signed = ".".join(text(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1"}, claims))
    return f"{signed}.{text(KEY.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def status(engine: Embedded, authorization: str = "", path: str = "/agents") -> int:
    """Return the status of a request's answer."""
    headers = {"authorization": authorization} if authorization else {}
    return urllib3.request("GET", engine.api_url + path, headers=headers, retries=False, timeout=20).status


def test_a_token_opens(engine: Embedded, issuer: str) -> None:
    assert status(engine, f"Bearer {token(issuer)}") == 200
    assert status(engine, f"Bearer {token(issuer)}", "/agents/unknown") == 404


@pytest.mark.parametrize("path", ["/agents", "/agents/some", "/agents/some/journal", "/anything/else"])
def test_nothing_else_opens(engine: Embedded, issuer: str, path: str) -> None:
    forged = token(issuer)[:-8] + "AAAAAAAA"
    wrong = [
        "",
        "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/execute-api/aws4_request",
        f"Bearer {forged}",
        f"Bearer {token(issuer, audience='another')}",
        f"Bearer {token(issuer, lasts=-1)}",
        f"Bearer {token('http://another')}",
    ]
    assert {status(engine, authorization, path) for authorization in wrong} == {401}


# ---- Scopes


def send(engine: Embedded, authorization: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Return status and body of a request's answer."""
    headers = {"authorization": f"Bearer {authorization}", "content-type": "application/json"}
    data = json.dumps(body) if body else None
    answer = urllib3.request(method, engine.api_url + path, headers=headers, body=data, retries=False, timeout=20)
    return answer.status, json.loads(answer.data)


APPROVE = {"decision": "APPROVE", "approvalId": "3"}


@pytest.mark.parametrize(
    ("scope", "method", "path", "body"),
    [
        ("agents/decide", "POST", "/agents/unknown/decisions", APPROVE),
        ("agents/decide", "POST", "/agents/unknown/decisions", {"decision": "ABORT", "questionId": "1"}),
        ("agents/cancel", "DELETE", "/agents/unknown", None),
    ],
)
def test_only_a_token_with_the_scope_decides_or_cancels(
    engine: Embedded, issuer: str, scope: str, method: str, path: str, body: Any
) -> None:
    other = {"agents/decide": "agents/cancel", "agents/cancel": "agents/decide"}[scope]
    for wrong in (token(issuer), token(issuer, scope=""), token(issuer, scope=f"openid {other} {scope}s")):
        assert send(engine, wrong, method, path, body) == (403, {"message": "Forbidden"})
    status, answer = send(engine, token(issuer, scope=f"openid {scope}"), method, path, body)
    assert (status, answer["error"]) == (404, "AgentUnknown")


def test_start_and_input_need_no_scope(engine: Embedded, issuer: str) -> None:
    assert send(engine, token(issuer), "POST", "/agents/unknown/input", {"text": "Hello"})[0] == 404
    assert send(engine, token(issuer), "POST", "/agents", {"prompt": "Hello", "agent": "unknown"})[0] == 404


# ---- The caller


def test_the_subject_of_the_token_is_kept_as_the_caller(engine: Embedded, issuer: str) -> None:
    table, dynamodb = engine.outputs["TableName"], engine.client("dynamodb")
    dynamodb.put_item(TableName=table, Item=stored(read_state(agentId="told", owner="another")))
    status, _ = send(engine, token(issuer, sub="ana@example.com"), "POST", "/agents/told/input", {"text": "Hello"})
    assert status == 202
    kept = wait_for_input(dynamodb, table, "told")
    assert (json.loads(kept["detail"]["S"])["by"], kept["source"]["S"]) == ("ana@example.com", "com.agent.api")


def test_a_token_without_a_subject_changes_nothing(engine: Embedded, issuer: str) -> None:
    status, answer = send(engine, token(issuer, sub=""), "POST", "/agents/told/input", {"text": "Hello"})
    assert (status, answer["error"]) == (403, "CallerUnknown")


def wait_for_input(dynamodb: Any, table: str, agent_id: str) -> dict[str, Any]:
    """Wait until an agent's input is stored; return it."""
    deadline = time.monotonic() + 30
    while True:
        found = dynamodb.query(
            TableName=table,
            KeyConditionExpression="agentId = :agentId AND begins_with(#record, :input)",
            ExpressionAttributeNames={"#record": "record"},
            ExpressionAttributeValues={":agentId": {"S": agent_id}, ":input": {"S": "INPUT#"}},
        )["Items"]
        if found:
            return dict(found[0])
        assert time.monotonic() < deadline, "nothing was kept"
        time.sleep(0.1)
