"""docs/extending.md, followed literally: its files, its resource, its agent, its scenario."""

import re
import runpy
import shutil
from pathlib import Path

import pytest

import tools
from tests.limits import within_limits
from turnstile_agents.events import AgentRequested
from turnstile_agents.record import Status
from turnstile_cli.engines.embedded import FOLDER, Embedded
from turnstile_cli.machines.trace import visits
from turnstile_cli.models.scenarios import load_scenario
from turnstile_cli.models.scripted import ScriptedModel
from turnstile_cli.stack.client import Stack
from turnstile_cli.stack.registry import register

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def written_down() -> dict[str, str]:
    """Return the files of the page, by path."""
    return dict(BLOCK.findall((ROOT / "docs" / "extending.md").read_text("utf-8")))


def test_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = written_down()
    for name in ("asl", "functions"):
        shutil.copytree(ROOT / name, tmp_path / name)
    template = (ROOT / "template.yaml").read_text("utf-8")
    files["template.yaml"] = template.replace("\nOutputs:\n", f"\n{files['template.yaml']}\nOutputs:\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.setattr(tools, "__path__", [*tools.__path__, str(tmp_path / "functions" / "tools")])
    agent = tmp_path / "workflows" / "agents" / "hotel"
    scenario = load_scenario(agent / "scenarios" / "reserve.yaml")

    with ScriptedModel([scenario]) as model, Embedded.start(model=model.url, folder=tmp_path / FOLDER) as engine:
        engine.deploy(tmp_path / "template.yaml")
        stack = Stack.embedded(engine)
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(tmp_path / "elsewhere" / "deploy.py"))
        register(stack, agent / "agent.yaml")
        with within_limits(stack.stepfunctions):
            sent = stack.request(AgentRequested(prompt=scenario.prompt, agent="hotel"))
            stack.wait_for(sent)
            *_, last = stack.watch(sent.agent_id)
        assert last.status == scenario.expect.status == Status.COMPLETED
        view = stack.view(sent.agent_id)
        assert [entry.result for entry in view.plan] == [
            {"city": "Rome", "forecast": "sunny"},
            {"reservation_id": f"room-{sent.agent_id}#EFFECT#000004#0", "city": "Rome"},
        ]
        assert [visit.state for visit in visits(stack.history(last.state.last_updated_by))] == scenario.expect.states
