"""Every possible next step of a world: each execution's next access, and the acts of the environment.

Only the environment is written by hand. Events are delivered late, twice or never. An execution is stopped, or one of
its Tasks times out, while its request is under way; the request then lands later or never. An answer is lost and the
Task tries again. Tools act, fail and lose their answers. Users and operators speak.
"""

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple, TypeVar

from tests.asl.support import MACHINES
from tests.protocol.lambdas import Lambdas
from tests.protocol.machines import At, Ended, Failed, Over, Position, Program, Route
from tests.protocol.rules import LISTENING, targets
from tests.protocol.scenarios import FIND, REQUEST, SILENCE, UNDO, Scenario, event
from tests.protocol.table import Refused, carry_out, kept, writes
from tests.protocol.text import data, text
from tests.protocol.world import AGENT, Event, Left, Request, Run, World
from turnstile_agents.record import Status
from turnstile_cli.machines.definition import Machine, State

TIMED_OUT = Failed("States.Timeout")
CANCELED = "DynamoDb.TransactionCanceledException"
CONFLICT = Failed(CANCELED, "[TransactionConflict]")
REFUSALS = {
    "updateItem": Failed("DynamoDb.ConditionalCheckFailedException"),
    "putItem": Failed("DynamoDb.ConditionalCheckFailedException"),
    "transactWriteItems": Failed(CANCELED, "[ConditionalCheckFailed]"),
}
_WRITES = REFUSALS.keys()
MODELLED = (*LISTENING, "agent_watch", "agent_publish")
WATCH = Event("agent_watch", "{}")
DEFINITIONS = {"LATEST": text({"version": {"N": "1"}})}
T = TypeVar("T", bound=tuple[Any, ...])


class Part(NamedTuple):
    """One write of a Task, named by its place so that its condition can be changed."""

    machine: str
    path: str
    place: int


class Step(NamedTuple):
    """A possible step: its description, the execution that takes it, and the world after it."""

    label: str
    actor: str
    world: World


class Outcome(NamedTuple):
    """A possible outcome of a request: `result` is a text or an error; None leaves the Task waiting for its token."""

    label: str
    world: World
    result: str | Failed | None


class Alone(NamedTuple):
    """A position that an execution reaches alone: description, number of faults, and whether it told an operator."""

    label: str
    faults: int
    told: bool
    position: Position


class Steps:
    """The steps of a scenario. `conditions` replaces the ConditionExpression of single writes."""

    def __init__(
        self,
        scenario: Scenario,
        machines: dict[str, Machine] | None = None,
        conditions: dict[Part, str] | None = None,
    ) -> None:
        self.scenario = scenario
        self.lambdas = Lambdas(scenario.definition)
        self.refused: set[tuple[str, str]] = set()
        """The Tasks whose conditions refused a write, in the last steps."""
        self._conditions = conditions or {}
        self._programs = {name: Program((machines or MACHINES)[name]) for name in MODELLED}
        self._published = cache(self._publish)
        self._heard = cache(self._listeners)
        self._inputs = [Event("agent_input", each) for each in scenario.inputs]

    @property
    def start(self) -> World:
        """Return the world at the beginning: an agent was requested, and no execution has run."""
        left = Left(self.scenario.faults, self.scenario.watches, self.scenario.answers)
        world = World((), (), (), (), (), "", left)
        return self._send(world, REQUEST)

    def __call__(self, world: World) -> list[Step]:
        """Return the possible next steps. No step takes more faults than are left."""
        self.refused = set()
        return [step for step in self._all(world) if step.world.left.faults >= 0]

    def with_conditions(self, conditions: dict[Part, str]) -> "Steps":
        """Return the same steps with other conditions."""
        other = copy.copy(self)
        other._conditions = conditions
        return other

    def at_rest(self, world: World) -> bool:
        """Return whether no step happens by itself any more: the running executions wait for an operator."""
        return not world.events and not world.late and len(world.runs) == len(world.asked())

    def _all(self, world: World) -> Iterator[Step]:
        for run in world.runs:
            yield from self._of_run(world, run)
        for request in sorted(set(world.late)):
            yield from self._land(world, request)
        for given in sorted(set(world.events)):
            yield from self._deliver(world, given)
        yield from self._watch(world)

    # ---- Executions

    def _of_run(self, world: World, run: Run) -> Iterator[Step]:
        program = self._programs[run.machine]
        for route, at in program.leaves(run.position):
            if at.token:
                yield from self._answer(world, run, route, at)
                continue
            for outcome in self._outcomes(world, run.name, run.machine, at):
                yield from self._resume(run, route, at, outcome, f"{run.name}: {at.path}{outcome.label}")
            if run.machine != WATCH.machine and world.left.faults:
                yield from self._stop(_fault(world), run, at, program.states[at.path])

    def _stop(self, world: World, run: Run, at: At, state: State) -> Iterator[Step]:
        without = self._gone(world, run, "ABORTED", None)
        yield Step(f"{run.name} is stopped at {at.path}", run.name, without)
        if is_tool(state) or is_write(state):
            late = _later(without, Request(run.name, run.machine, at))
            yield Step(f"{run.name} is stopped at {at.path}, its request is under way", run.name, late)

    def _land(self, world: World, request: Request) -> Iterator[Step]:
        without = world._replace(late=_without(world.late, request))
        outcome = next(iter(self._outcomes(without, request.execution, request.machine, request.at)))
        yield Step(f"{request.execution}'s {request.at.path}{outcome.label} late", request.execution, outcome.world)

    def _resume(self, run: Run, route: Route, at: At, outcome: Outcome, label: str) -> Iterator[Step]:
        program = self._programs[run.machine]
        if outcome.result is None:
            new: Position = at._replace(token=f"token of {run.name}")
        elif isinstance(outcome.result, Failed):
            new = program.fail(run.name, at.path, at.data, outcome.result)
        else:
            new = program.succeed(run.name, at, outcome.result)
        for alone in self._alone(run, program.replace(run.name, run.position, route, new)):
            world = _fault(outcome.world, alone.faults)
            if alone.told:
                world = world._replace(told=run.name)
            said = label + alone.label
            if isinstance(alone.position, Failed):
                world = self._gone(world, run, "FAILED", alone.position)
                yield Step(f"{said}, and fails: {alone.position.error}", run.name, world)
            elif isinstance(alone.position, Ended):
                yield Step(f"{said}, and ends", run.name, self._gone(world, run, "SUCCEEDED", None))
            else:
                others = _without(world.runs, run)
                runs = _sorted(others, run._replace(position=alone.position))
                yield Step(said, run.name, world._replace(runs=runs))

    def _alone(self, run: Run, position: Position) -> list[Alone]:
        """Carry out the Tasks that touch no shared data: the model, ReadReply, messages to people."""
        program = self._programs[run.machine]
        for route, at in program.leaves(position):
            answers = self._answers(run, at)
            if answers is None:
                continue
            found = []
            for label, faults, answer in answers:
                if isinstance(answer, Failed):
                    new = program.fail(run.name, at.path, at.data, answer)
                else:
                    new = program.succeed(run.name, at, answer)
                told = program.states[at.path].service == "sns"
                for then in self._alone(run, program.replace(run.name, position, route, new)):
                    found.append(Alone(label + then.label, faults + then.faults, told or then.told, then.position))
            return found
        return [Alone("", 0, False, position)]

    def _answers(self, run: Run, at: At) -> list[tuple[str, int, str | Failed]] | None:
        """Return the possible answers to such a Task, with their number of faults; None if it is another Task."""
        program = self._programs[run.machine]
        state = program.states[at.path]
        if state.type != "Task":
            return None
        if state.service == "sns":
            return [("", 0, "{}")]
        if state.action == "converse":
            messages = data(program.parameters(run.name, at))["Messages"]
            replies = [(f", the model {said}", 0, answer) for said, answer in self.scenario.model(messages)]
            return [*replies, (", the model does not answer", 1, Failed("BedrockRuntime.ThrottlingException"))]
        if state.service == "lambda" and state.fields["Parameters"].get("FunctionName") == "read_reply":
            return [("", 0, self.lambdas.call(program.parameters(run.name, at), ()))]
        return None

    def _gone(self, world: World, run: Run, status: str, failure: Failed | None) -> World:
        """Return the world without an execution. A failed execution leaves an event."""
        told = "" if world.told == run.name else world.told
        after = world._replace(runs=_without(world.runs, run), told=told)
        if status == "SUCCEEDED":
            return after
        return self._send(after, _death(run.name, run.machine, run.given, status, failure.error if failure else ""))

    # ---- Outcomes of a request. The outcome without a fault comes first.

    def _outcomes(self, world: World, execution: str, machine: str, at: At) -> Iterator[Outcome]:
        program = self._programs[machine]
        state = program.states[at.path]
        if state.type == "Wait":
            if not self._calls_run(world, at):
                yield Outcome(" is over", world, "null")
            return
        parameters = program.parameters(execution, at)
        if is_tool(state):
            outcomes = self._tool(world, data(parameters)["FunctionName"], data(parameters)["Payload"])
        elif is_write(state):
            outcomes = self._write(world, Request(execution, machine, at), parameters)
        else:
            outcomes = self._plain(world, state, parameters)
        if world.left.faults and machine != WATCH.machine:
            yield from outcomes
        else:
            yield next(outcomes)

    def _plain(self, world: World, state: State, parameters: str) -> Iterator[Outcome]:
        """Carry out reads, events, and requests to Step Functions."""
        yield self._answered(world, state, parameters)
        yield Outcome(" times out", _fault(world), TIMED_OUT)

    def _answered(self, world: World, state: State, parameters: str) -> Outcome:
        given = data(parameters)
        match state.service, state.action:
            case "lambda", _:
                return Outcome("", world, self.lambdas.call(parameters, world.items))
            case "aws-sdk:dynamodb", "getItem":
                key = given["Key"]
                known = dict(world.items) if key["agentId"]["S"] == AGENT else DEFINITIONS
                return Outcome("", world, f'{{"Item":{item}}}' if (item := known.get(key["record"]["S"])) else "{}")
            case "events", "putEvents":
                for entry in given["Entries"]:
                    world = self._send(world, event(entry["DetailType"], "sent", entry["Source"], **entry["Detail"]))
                return Outcome("", world, "{}")
            case "aws-sdk:sfn", "describeExecution":
                status = "RUNNING" if world.is_running(given["ExecutionArn"]) else "FAILED"
                return Outcome("", world, text({"Status": status}))
            case "aws-sdk:sfn", "startExecution":
                again = Event(given["StateMachineArn"], given["Input"])
                return Outcome("", world._replace(events=_sorted(world.events, again)), "{}")
            case "aws-sdk:sfn", "sendTaskSuccess":
                for run, at in world.asked():
                    if at.token == given["TaskToken"]:
                        answered = Outcome("", world, given["Output"])
                        return Outcome("", next(self._resume(run, (), at, answered, "")).world, "{}")
                return Outcome(" comes too late", world, Failed("Sfn.TaskTimedOutException"))
        raise NotImplementedError(f"add {state.service}:{state.action} to this model")

    def _write(self, world: World, request: Request, parameters: str) -> Iterator[Outcome]:
        state = self._programs[request.machine].states[request.at.path]
        after = self._written(world, request, parameters)
        if after is None:
            yield Outcome(" is refused", world, REFUSALS[state.action])
        elif state.waits_for_token:
            yield Outcome("", after, None)
        else:
            shown = dict(after.items)["STATE"] if "ReturnValues" in data(parameters) else "{}"
            yield Outcome("", after, f'{{"Attributes":{shown}}}')
        faulty = _fault(world)
        yield Outcome(" times out without effect", faulty, TIMED_OUT)
        yield Outcome(" times out, its request is under way", _later(faulty, request), TIMED_OUT)
        if state.action == "transactWriteItems":
            yield Outcome(" meets another write each time", faulty, CONFLICT)
        if after is not None and state.action == "updateItem" and self._written(after, request, parameters) is None:
            yield Outcome(" loses its answer, and is refused when tried again", _fault(after), REFUSALS["updateItem"])

    def _written(self, world: World, request: Request, parameters: str) -> World | None:
        """Return the world with all parts of a request written; None if a condition does not hold."""
        items = dict(world.items)
        before = items.get("STATE", "")
        told = False
        try:
            for place, write in enumerate(writes(parameters)):
                part = Part(request.machine, request.at.path, place)
                carry_out(items, write, self._conditions.get(part, write.condition))
                # The stream reports a change of STATE. `lastUpdated` always changes, although the model has only one
                # time.
                told |= items.get("STATE", "") != before or "lastUpdated" in write.update
        except Refused:
            self.refused.add((request.machine, request.at.path))
            return None
        after = world._replace(items=tuple(sorted((record, kept(item)) for record, item in items.items())))
        if told and (published := self._published(items["STATE"])):
            after = self._send(after, published)
        if not before:
            after = after._replace(events=_sorted(after.events, *self._inputs))
        return after

    def _publish(self, state: str) -> str:
        """Return the event that agent_publish makes of a new image of STATE; "" if it makes none."""
        program = self._programs["agent_publish"]
        record = text([{"dynamodb": {"NewImage": data(state)}}])
        for _, at in program.leaves(program.begin("publish", record)):
            entry = data(program.parameters("publish", at))["Entries"][0]
            return event(entry["DetailType"], "published", entry["Source"], **entry["Detail"])
        return ""

    def _tool(self, world: World, name: str, payload: Any) -> Iterator[Outcome]:
        key, given = payload["key"], payload["input"]
        if name == FIND:
            looked = given["key"]
            found = {"happened": world.count(looked) > 0, "result": {"effect": looked}}
            yield Outcome(" looks", world, text({"Payload": found}))
            yield Outcome(" times out", _fault(world), TIMED_OUT)
            return
        acts = self._acted(world, name, key, given)
        yield Outcome(" acts", acts, text({"Payload": {"effect": key}}))
        yield Outcome(" acts, and its answer is lost", _fault(acts), TIMED_OUT)
        yield Outcome(" times out without effect", _fault(world), TIMED_OUT)
        yield Outcome(" is unavailable", _fault(world), Failed("ToolUnavailable", "away"))
        if acts is not world:  # a tool that has acted knows the key, and does not deny it
            yield Outcome(" is rejected", _fault(world), Failed("ToolRejected", "no"))

    def _acted(self, world: World, name: str, key: str, given: Any) -> World:
        if world.count(key) and (name == UNDO or self.scenario.knows_keys):
            return world
        counts = dict(world.acted)
        for each in (key, undo_of(given["effect"])) if name == UNDO else (key,):
            counts[each] = counts.get(each, 0) + 1
        return world._replace(acted=tuple(sorted(counts.items())))

    def _calls_run(self, world: World, at: At) -> bool:
        """Return whether a call still runs that the Wait must outlive."""
        waited = {effect["fullKey"] for effect in data(at.data)["unsettled"]}
        return any(self._key(request) in waited for request in world.late)

    def _key(self, request: Request) -> str:
        """Return the key of a tool call; "" for another request."""
        program = self._programs[request.machine]
        if not is_tool(program.states[request.at.path]):
            return ""
        return str(data(program.parameters(request.execution, request.at))["Payload"].get("key", ""))

    # ---- The environment

    def _deliver(self, world: World, given: Event) -> Iterator[Step]:
        without = world._replace(events=_without(world.events, given))
        kind = data(given.given).get("detail-type", "")
        yield from self._begin(without, given, "")
        if world.left.faults:
            yield Step(f"{kind} to {given.machine} is lost", "", _fault(without))
            yield from self._begin(_fault(world), given, " of an event that comes once more")

    def _begin(self, world: World, given: Event, how: str) -> Iterator[Step]:
        """Start an execution. The start and its first access are one step, because a late start equals a late event."""
        name = _named(world, given)
        run = Run(name, given.machine, given.given, self._programs[given.machine].begin(name, given.given))
        begun = world._replace(runs=_sorted(world.runs, run))
        if isinstance(run.position, (Ended, Failed)):
            failure = run.position if isinstance(run.position, Failed) else None
            status = "FAILED" if failure else "SUCCEEDED"
            yield Step(f"{name} begins{how}, and ends at once", name, self._gone(begun, run, status, failure))
            return
        for step in self._of_run(begun, run):
            yield step._replace(label=step.label.replace(f"{name}: ", f"{name} begins{how}: ", 1))

    def _send(self, world: World, given: str) -> World:
        """Send an event to the machines that act on it."""
        return world._replace(events=_sorted(world.events, *self._heard(given)))

    def _listeners(self, given: str) -> tuple[Event, ...]:
        begun = {each: self._programs[each.machine].begin("", each.given) for each in targets(given)}
        return tuple(each for each, position in begun.items() if not isinstance(position, Ended))

    def _watch(self, world: World) -> Iterator[Step]:
        if any(run.machine == WATCH.machine for run in world.runs) or not self.lambdas.stale(world.items):
            return
        runs = world.runs
        if world.item("STATE")["status"] == Status.WAITING_FOR_OPERATOR:
            # A cancellation may wait for a question that a dead recovery never asks: then the watch must still run.
            runs = tuple(run for run in runs if run.machine != "agent_input")
        if self.at_rest(world._replace(runs=runs)):
            yield from self._begin(world, WATCH, "")
        elif world.left.watches:
            fewer = world._replace(left=world.left._replace(watches=world.left.watches - 1))
            yield from self._begin(fewer, WATCH, "")

    def _answer(self, world: World, run: Run, route: Route, at: At) -> Iterator[Step]:
        if not world.left.answers:
            return
        world = world._replace(left=world.left._replace(answers=world.left.answers - 1))
        for decision in self.scenario.operator:
            if decision == SILENCE:
                answer, said = Outcome("", world, TIMED_OUT), "no operator answers"
            elif (effects := self._looked_up(world, at, decision)) is None:
                continue
            else:
                given = text({"decision": decision, "effects": effects})
                answer, said = Outcome("", world, given), f"the operator says {decision}"
            yield from self._resume(run, route, at, answer, f"{run.name}: {said}")

    def _looked_up(self, world: World, at: At, decision: str) -> list[Any] | None:
        """Return an operator's answer for each unsettled effect, after a look; None while a call still runs."""
        if decision == "ABORT":
            return []
        unsettled = data(at.data)["unsettled"]
        if any(self._key(request) == effect["fullKey"] for effect in unsettled for request in world.late):
            return None
        return [
            {"key": effect["key"], "happened": True, "result": {"effect": effect["fullKey"]}}
            if world.count(effect["fullKey"])
            else {"key": effect["key"], "happened": False}
            for effect in unsettled
        ]


def undo_of(key: str) -> str:
    """Return the name that counts the undo of a call's effect."""
    return f"undo of {key}"


def is_tool(state: State) -> bool:
    """Return whether a state calls a tool: the definition, and not the machine, names its function."""
    return state.type == "Task" and state.service == "lambda" and "FunctionName.$" in state.fields["Parameters"]


def is_write(state: State) -> bool:
    """Return whether a state writes into the table."""
    return state.type == "Task" and state.service == "aws-sdk:dynamodb" and state.action in _WRITES


def _named(world: World, given: Event) -> str:
    """Return a name that nothing in the world mentions, so that neither order nor history shows in it."""
    detail = data(given.given).get("detail", {})
    cause = "died" if "stateMachineArn" in detail else str(detail.get("step", ""))
    name = f"{given.machine.removeprefix('agent_')}{cause and ' '}{cause}"
    mentioned = [item for _, item in world.items]
    mentioned += [each for run in world.runs for each in (run.name, run.given, *_texts(run.position))]
    mentioned += [each.given for each in world.events] + [each.execution for each in world.late]
    names = (f"{name}{letter}" for letter in ("", *"bcdefghijklmnopqrstuvwxyz"))
    return next(each for each in names if not any(f"{each}" in known for known in mentioned))


def _texts(position: Position) -> Iterator[str]:
    """Yield the data of an execution."""
    if isinstance(position, (At, Over)):
        yield position.data
    if isinstance(position, Over):
        for child in position.children:
            yield from _texts(child)


@cache
def _death(execution: str, machine: str, given: str, status: str, error: str) -> str:
    """Return the event of an execution that did not succeed."""
    detail = {"executionArn": execution, "stateMachineArn": machine, "status": status, "input": given}
    detail |= {"error": error} if error else {}
    return event("Step Functions Execution Status Change", execution, "aws.states", **detail)


def _later(world: World, request: Request) -> World:
    return world._replace(late=_sorted(world.late, request))


def _fault(world: World, number: int = 1) -> World:
    return world._replace(left=world.left._replace(faults=world.left.faults - number)) if number else world


def _sorted(several: tuple[T, ...], *more: T) -> tuple[T, ...]:
    return tuple(sorted((*several, *more))) if more else several


def _without(several: tuple[T, ...], one: T) -> tuple[T, ...]:
    place = several.index(one)
    return several[:place] + several[place + 1 :]
