"""The strict engine with the known differences of the image of Step Functions Local.

- It accepts a Map with an `ItemProcessor` or a `ProcessorConfig`, and refuses to start it:
  https://github.com/aws/aws-sam-cli/issues/6846
- DescribeExecution gives no error: https://github.com/aws-samples/aws-stepfunctions-examples/issues/76
- The order in which it lists executions is not documented.
- It tells no changes of status.
"""

import io
import json
from collections.abc import Callable
from typing import Any

from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Response

from turnstile_cli.engines import strict_child
from turnstile_cli.engines.bridge import CHANGES
from turnstile_cli.engines.child import run

SYNTAX_ERROR = "Invalid State Machine Definition: 'Parse error: State Machine contained a syntax error.'"


def _describe(content: dict[str, Any], _: Any) -> None:
    content.pop("error", None)
    content.pop("cause", None)


def _list(content: dict[str, Any], _: Any) -> None:
    content["executions"].reverse()


def _tell(content: dict[str, Any], asked: dict[str, Any]) -> None:
    """Return the events in the requested order: moto knows only the order of time."""
    if asked.get("reverseOrder"):
        content["events"] = content["events"][::-1][: asked["maxResults"]]


CHANGED = {"DescribeExecution": _describe, "ListExecutions": _list, "GetExecutionHistory": _tell}


def with_its_ways(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Return the engine's WSGI application with the differences of the image."""
    definitions: dict[str, str] = {}

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"].startswith(CHANGES):
            return Response(status=404)(environ, start_response)
        given = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(given)
        action = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        asked = json.loads(given or "{}")
        if action == "CreateStateMachine":
            definitions[asked["name"]] = asked["definition"]
        if action == "StartExecution":
            name = asked["stateMachineArn"].rpartition(":")[2].partition("#")[0]
            if any(f'"{field}"' in definitions[name] for field in ("ItemProcessor", "ProcessorConfig")):
                refusal = {"__type": "InvalidDefinition", "message": SYNTAX_ERROR}
                return Response(json.dumps(refusal), 400)(environ, start_response)
        parts, status, headers = run_wsgi_app(answer, environ)
        told = b"".join(parts)
        if action in CHANGED and status.startswith("200"):
            content = json.loads(told)
            CHANGED[action](content, asked)
            told = json.dumps(content).encode()
            headers["Content-Length"] = str(len(told))
        return Response(told, status, headers)(environ, start_response)

    return application


if __name__ == "__main__":
    own = strict_child.application
    strict_child.application = lambda told: with_its_ways(own(told))
    run("The stand-in of the image", strict_child.main)
