"""With an issuer in the template's parameters the HTTP API takes its tokens, and nothing else."""

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

from workflows.engines.embedded import Embedded
from workflows.engines.errors import EngineError
from workflows.local import TEMPLATE

pytestmark = pytest.mark.xdist_group("api")

KEY = rsa.generate_private_key(65537, 2048)
NUMBERS = KEY.public_key().public_numbers()


def text(data: bytes) -> str:
    """Base64 as a token has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    """A number as a key has it."""
    return text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Issuer(BaseHTTPRequestHandler):
    """Tells its public key."""

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
        """Nothing."""


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Issuer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def engine(issuer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with Embedded.start(folder=tmp_path_factory.mktemp("engine")) as engine:
        # An audience is not forgotten: a token for another service would open this one too.
        with pytest.raises(EngineError, match="JwtIssuer needs JwtAudience"):
            engine.deploy(TEMPLATE, stack="half", parameters={"JwtIssuer": issuer})
        engine.deploy(TEMPLATE, parameters={"JwtIssuer": issuer, "JwtAudience": "turnstile"})
        yield engine


def token(issuer: str, audience: str = "turnstile", lasts: int = 60) -> str:
    """A token that the issuer signed."""
    claims = {"iss": issuer, "aud": audience, "sub": "ana", "exp": int(time.time()) + lasts}
    signed = ".".join(text(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1"}, claims))
    return f"{signed}.{text(KEY.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def status(engine: Embedded, authorization: str = "", path: str = "/agents") -> int:
    """How a request is answered."""
    headers = {"authorization": authorization} if authorization else {}
    return urllib3.request("GET", engine.api_url + path, headers=headers, retries=False).status


def test_a_token_opens(engine: Embedded, issuer: str) -> None:
    assert status(engine, f"Bearer {token(issuer)}") == 200
    assert status(engine, f"Bearer {token(issuer)}", "/agents/nobody") == 404


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
