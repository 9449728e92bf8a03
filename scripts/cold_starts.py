"""Measure the cold import of each Lambda function's handler module, beside boto3 with one DynamoDB client.

    .venv/bin/python scripts/cold_starts.py [--times N] [--json]

Each import runs in a new Python process that has only `functions/` in its search path, besides the installed packages.
Reference and handler alternate. Times depend on this machine and on its other work: compare only the ratios of one run.

It does not measure how Lambda starts: fetching the code, starting the runtime, its CPU share at the function's memory,
the clients that a handler makes at its first call, and the network. It imports with this machine's packages and Python,
not with those of the deployed function.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from turnstile_cli.engines.template import load_template
from turnstile_cli.files import ROOT, TEMPLATE

TIMES = 7
REFERENCE = "import boto3; boto3.client('dynamodb')"
TITLE = "Cold imports; the ratio is to boto3 and one DynamoDB client"
PROBE = """
import json, sys, time
before = len(sys.modules)
begun, used = time.perf_counter(), time.process_time()
exec(sys.argv[1])
taken, used = time.perf_counter() - begun, time.process_time() - used
modules = len(sys.modules) - before
print(json.dumps({"seconds": taken, "cpu": used, "modules": modules, "boto3": "boto3" in sys.modules}))
"""
"""Runs code, and tells how long it took, how much CPU it used, and how many modules it imported."""
AWS = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class Function:
    """A function of the template: the module of its handler, and its environment."""

    module: str
    variables: dict[str, str]


@dataclass(frozen=True)
class Probe:
    """What one process tells."""

    seconds: float
    cpu: float
    modules: int
    boto3: bool


@dataclass(frozen=True)
class ColdStart:
    """The medians of one function's imports. A ratio is the median of each import's to the reference just before it."""

    function: str
    module: str
    milliseconds: float
    ratio: float
    """To the time of the reference."""
    cpu_milliseconds: float
    cpu_ratio: float
    modules: int
    """The number of modules that the import loads, of every package."""
    boto3: bool
    """Whether the import loads boto3."""


def main() -> None:
    """Print a table, or JSON."""
    arguments = argparse.ArgumentParser(prog="cold_starts.py", description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--times", type=int, default=TIMES, help=f"imports of each module; {TIMES} by default")
    arguments.add_argument("--json", action="store_true", help="print JSON")
    given = arguments.parse_args()
    found = [measure(name, function, given.times) for name, function in functions(load_template(TEMPLATE)).items()]
    if given.json:
        print(json.dumps([asdict(each) for each in found], indent=2))
        return
    table = Table("Function", "ms", "ratio", "CPU ms", "CPU ratio", "modules", "boto3", title=TITLE)
    for each in found:
        figures = (
            f"{each.milliseconds:.0f}",
            f"{each.ratio:.2f}",
            f"{each.cpu_milliseconds:.0f}",
            f"{each.cpu_ratio:.2f}",
        )
        table.add_row(each.function, *figures, str(each.modules), "yes" if each.boto3 else "no")
    Console().print(table)


def functions(template: Mapping[str, Any]) -> dict[str, Function]:
    """Return each function of a template by its logical id. A variable has its parameter's default, or any text."""
    defaults = {name: str(parameter.get("Default", "")) for name, parameter in template["Parameters"].items()}
    shared = template["Globals"]["Function"]["Environment"]["Variables"]
    found = {}
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            own = resource["Properties"].get("Environment", {}).get("Variables", {})
            values = {each: _value(value, defaults) for each, value in (shared | own).items()}
            found[name] = Function(resource["Properties"]["Handler"].rpartition(".")[0], values)
    return found


def _value(value: Any, defaults: Mapping[str, str]) -> str:
    return value if isinstance(value, str) else defaults.get(value.get("Ref", ""), "dummy")


def measure(name: str, function: Function, times: int) -> ColdStart:
    """Import the module of a function's handler as often as asked, each time after the reference."""
    references, imports = [], []
    for _ in range(times):
        references.append(probe(REFERENCE, AWS))
        imports.append(probe(f"import {function.module}", AWS | function.variables))
    return ColdStart(
        function=name,
        module=function.module,
        milliseconds=statistics.median(each.seconds for each in imports) * 1000,
        ratio=statistics.median(one.seconds / other.seconds for one, other in zip(imports, references, strict=True)),
        cpu_milliseconds=statistics.median(each.cpu for each in imports) * 1000,
        cpu_ratio=statistics.median(one.cpu / other.cpu for one, other in zip(imports, references, strict=True)),
        modules=imports[0].modules,
        boto3=imports[0].boto3,
    )


def probe(code: str, environment: Mapping[str, str]) -> Probe:
    """Run code in a new Python process, and return what `PROBE` tells. The process makes no request."""
    # `-I` would ignore PYTHONPATH; with `-P` the folder of this process is not in the search path.
    command = [sys.executable, "-P", "-c", PROBE, code]
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "functions"), **environment}
    done = subprocess.run(command, env=variables, cwd=sys.prefix, check=True, stdout=subprocess.PIPE, text=True)
    return Probe(**json.loads(done.stdout))


if __name__ == "__main__":
    main()
