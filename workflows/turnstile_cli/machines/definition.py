"""The state machines as data: read a definition and walk its states, also the states inside a Map or a Parallel."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from turnstile_cli.loader import SafeLoader

SUBSTITUTION = re.compile(r"\$\{([^}]*)\}")
"""A place that the template fills, such as `${TableName}`."""
_CALLBACK = ".waitForTaskToken"


class InvalidDefinition(Exception):
    """A file is no definition of a state machine; the message names the file and the mistake."""


@dataclass(frozen=True)
class State:
    """One state: `path` is its place, such as `CallTools/ReserveEffect`; `fields` is its definition."""

    path: str
    fields: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def type(self) -> str:
        return str(self.fields["Type"])

    @property
    def service(self) -> str:
        """The service that a Task calls, such as `aws-sdk:dynamodb`."""
        return self._called[0]

    @property
    def action(self) -> str:
        """The action of the service that a Task calls, such as `putItem`."""
        return self._called[1]

    @property
    def waits_for_token(self) -> bool:
        """Whether a Task ends only when its task token is sent back."""
        return str(self.fields.get("Resource", "")).endswith(_CALLBACK)

    @property
    def _called(self) -> tuple[str, str]:
        resource = self.fields["Resource"].removeprefix("arn:aws:states:::").removesuffix(_CALLBACK)
        service, _, action = resource.rpartition(":")
        return service, action

    @property
    def ends(self) -> bool:
        """Whether its success ends its scope: the machine, an iteration of a Map or a branch of a Parallel."""
        return self.type in ("Succeed", "Fail") or self.fields.get("End") is True

    @property
    def caught(self) -> set[str]:
        """The states that its failures lead to."""
        return {catcher["Next"] for catcher in self.fields.get("Catch", [])}

    @property
    def successors(self) -> set[str]:
        """The states that may come next, failures included."""
        chosen = {rule["Next"] for rule in self.fields.get("Choices", [])}
        return chosen | self.caught | {self.fields[key] for key in ("Next", "Default") if key in self.fields}


@dataclass(frozen=True)
class Scope:
    """States that lead to each other: those of the machine itself, of a Map's inside, or of a Parallel's branch."""

    path: str
    """The path of the state that contains them; empty for the machine itself."""
    start: str
    states: dict[str, State]

    def reached_from(self, name: str) -> Iterator[State]:
        """Yield the state itself and every state that may come after it, each once."""
        seen, waiting = {name}, [name]
        while waiting:
            state = self.states[waiting.pop()]
            yield state
            waiting += state.successors - seen
            seen |= state.successors


@dataclass(frozen=True)
class Machine:
    """A state machine: `name` is its file's name, such as `agent_turn`; `definition` is the file's content."""

    name: str
    definition: dict[str, Any]

    def scopes(self) -> Iterator[Scope]:
        """Yield the machine's own states first, then the states inside them."""
        return _scopes("", self.definition)

    def states(self) -> Iterator[State]:
        """Yield every state, also the states inside a Map or a Parallel."""
        for scope in self.scopes():
            yield from scope.states.values()

    def tasks(self) -> Iterator[State]:
        """Yield every Task, also the Tasks inside a Map or a Parallel."""
        return (state for state in self.states() if state.type == "Task")

    def substitutions(self) -> set[str]:
        """Return the names of the places that the template fills."""
        return {name for text in _texts(self.definition) for name in SUBSTITUTION.findall(text)}


def load_machine(path: Path) -> Machine:
    """Load the machine from a file `<name>.asl.yaml`.

    Raises:
        InvalidDefinition: the file cannot be read, or is no definition.
    """
    try:
        definition = yaml.load(path.read_text("utf-8"), _Loader)
    except OSError as error:
        raise InvalidDefinition(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InvalidDefinition(f"{path} is no valid YAML: {error}") from error
    if not isinstance(definition, dict) or not isinstance(definition.get("States"), dict):
        raise InvalidDefinition(f"{path} is no state machine: it has no States")
    return Machine(path.name.removesuffix(".asl.yaml"), definition)


def load_machines(folder: Path) -> list[Machine]:
    """Load every machine in a folder, in order of their names. Raise InvalidDefinition as `load_machine` does."""
    return [load_machine(path) for path in sorted(folder.glob("*.asl.yaml"))]


class _Loader(SafeLoader):  # type: ignore[misc,valid-type]
    """A YAML loader that refuses a duplicate key: without it, the first of two states would silently disappear."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            names = [key.value for key, _ in node.value]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise yaml.constructor.ConstructorError(None, None, f"repeated key {', '.join(twice)}", node.start_mark)
        return mapping


def _scopes(path: str, block: dict[str, Any]) -> Iterator[Scope]:
    prefix = f"{path}/" if path else ""
    states = {name: State(prefix + name, fields) for name, fields in block["States"].items()}
    yield Scope(path, block["StartAt"], states)
    for state in states.values():
        # Iterator is the older name of ItemProcessor.
        for inside in ("ItemProcessor", "Iterator"):
            if inside in state.fields:
                yield from _scopes(state.path, state.fields[inside])
        for index, branch in enumerate(state.fields.get("Branches", [])):
            yield from _scopes(f"{state.path}[{index}]", branch)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
