"""A model that gives a scenario's replies: Bedrock's Converse on 127.0.0.1, in Bedrock's own wire format.

The conversation's first text chooses the scenario, or a child in a scenario. `requestMetadata.modelCalls`, the number
of decisions in the agent's journal, chooses the reply. That number grows only with a checkpoint, so a repeated request
gets the same answer.
"""

import json
import threading
from collections import Counter
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from turnstile_cli.files import AGENTS
from turnstile_cli.models.converse_rules import refusal
from turnstile_cli.models.scenarios import Scenario, ScenarioChild, ScenarioReply

LATENCY_MS = 1
PROMPT_LENGTH = 200
"""Characters of an unknown prompt that an error repeats: Bedrock's own messages are short too."""
CHARACTERS_PER_TOKEN = 4
_FAULTS = {
    "throttle": (429, "ThrottlingException", "Too many requests, please wait before trying again."),
    "unavailable": (503, "ServiceUnavailableException", "The service isn't currently available. Try again later."),
    "timeout": (408, "ModelTimeoutException", "The request took too long to process."),
}
_RUBBISH = {  # an answer without a message
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
    "metrics": {"latencyMs": LATENCY_MS},
}


class ScriptedError(Exception):
    """An error as the answer: its HTTP status, its name, its message."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.name = name


class Script:
    """The scenario of each agent, and how often each reply was requested. Safe to use from several threads."""

    def __init__(self, scenarios: Iterable[Scenario]) -> None:
        self._by_prompt: dict[str, tuple[str, Scenario | ScenarioChild]] = {}
        for scenario in scenarios:
            self._by_prompt[scenario.prompt.strip()] = scenario.name, scenario
            self._by_prompt |= {child.prompt.strip(): (scenario.name, child) for child in scenario.children}
        self._by_agent: dict[str, tuple[str, Scenario | ScenarioChild]] = {}
        self._attempts: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the body of Converse's answer to the body of a request.

        Raises:
            Refused: Bedrock would refuse the request, the scenario has no answer, or its answer is a fault.
        """
        message = refusal(request)
        if message:
            raise ScriptedError(400, "ValidationException", message)
        metadata = request.get("requestMetadata", {})
        agent, number = metadata.get("agentId", ""), metadata.get("modelCalls", "")
        if not agent or not number.isdecimal():
            raise _mistake("the scripted model needs requestMetadata with agentId and modelCalls, a number")
        with self._lock:
            name, part = self._part(agent, request["messages"][0])
            call = int(number)
            attempt = self._attempts[agent, call]
            self._attempts[agent, call] += 1
        if call >= len(part.replies):
            raise _mistake(f"scenario {name} has no reply number {call}: it has {len(part.replies)}, from 0")
        reply = part.replies[call]
        if attempt >= len(reply.faults):
            return _body(reply, call, request)
        if reply.faults[attempt] == "rubbish":
            return _RUBBISH
        raise ScriptedError(*_FAULTS[reply.faults[attempt]])

    def _part(self, agent: str, first: dict[str, Any]) -> tuple[str, Scenario | ScenarioChild]:
        if agent not in self._by_agent:
            words = first["content"][0].get("text", "").strip()
            if words not in self._by_prompt:
                known = "\n".join(f"  {name}: {prompt}" for prompt, (name, _) in self._by_prompt.items())
                given = words if len(words) <= PROMPT_LENGTH else f"{words[:PROMPT_LENGTH]} …"
                raise _mistake(
                    f"no scenario has the prompt {given!r}. The scripted model knows these:\n{known}\n"
                    f"Put more scenarios into {AGENTS}/<agent>/scenarios/"
                )
            self._by_agent[agent] = self._by_prompt[words]
        return self._by_agent[agent]


class ScriptedModel:
    """The server, in a thread of this process; a context manager starts and stops it.

    Args:
        scenarios: the scenarios that it can play.
        port: its port on 127.0.0.1; a free port otherwise.
    """

    def __init__(self, scenarios: Iterable[Scenario], port: int = 0) -> None:
        handler = type("Handler", (_Handler,), {"script": Script(scenarios)})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        """The endpoint_url for a client."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # header and body in one segment

    script: Script

    def do_POST(self) -> None:
        """Answer POST /model/{modelId}/converse."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            parts = unquote(self.path).split("/")
            if parts[1] != "model" or parts[-1] != "converse":
                raise ScriptedError(
                    404, "UnknownOperationException", f"the scripted model has no {self.path}, only Converse"
                )
            self._send(200, self.script.answer(json.loads(body)))
        except ScriptedError as refused:
            self._send(refused.status, {"message": str(refused)}, refused.name)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing: the executions' histories show the requests."""

    def _send(self, status: int, content: dict[str, Any], error: str | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("x-amzn-ErrorType", error)
        self.end_headers()
        self.wfile.write(body)


def _mistake(message: str) -> ScriptedError:
    return ScriptedError(400, "ValidationException", message)


def _body(reply: ScenarioReply, call: int, request: dict[str, Any]) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"text": reply.text}] if reply.text else []
    content += [
        {"toolUse": {"toolUseId": f"call-{call}-{index}", "name": tool.name, "input": tool.input}}
        for index, tool in enumerate(reply.tools)
    ]
    if reply.usage:
        taken, given = reply.usage.input_tokens, reply.usage.output_tokens
    else:
        read = [request.get(part) for part in ("system", "toolConfig", "messages")]
        taken, given = (len(json.dumps(part)) // CHARACTERS_PER_TOKEN for part in (read, content))
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": reply.stop_reason or ("tool_use" if reply.tools else "end_turn"),
        "usage": {"inputTokens": taken, "outputTokens": given, "totalTokens": taken + given},
        "metrics": {"latencyMs": LATENCY_MS},
    }
