"""The machines' requests to the table, with their expressions taken apart."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from turnstile_cli.machines.definition import Machine, State

STATE = json.dumps({"S": "STATE"})
ENTRY = "a ledger entry"
"""`Request.record` of every ledger entry, from any path of its key."""
JOURNAL = "a journal entry"
"""`Request.record` of every entry of a journal."""
_JOURNAL_KEYS = {
    json.dumps(key)
    for key in (
        {"S": "STEP#000001"},
        {"S.$": "$.step.record"},
        {"S.$": "$.decision.resultsRecord"},
        {"S.$": "$.record"},
        {"S.$": "$.detail.parent.step"},
    )
}
_ENTRY_KEYS = {
    json.dumps({"S.$": path})
    for path in ("$.call.key", "$.effect.key", "$.effect.undoes", "$.undo.key", "$.undo.undoKey")
}
_OPERATIONS = {"getItem": "Get", "putItem": "Put", "updateItem": "Update", "deleteItem": "Delete"}
_CLAUSE = re.compile(r"\b(SET|REMOVE|ADD|DELETE)\b")
_TOKEN = re.compile(r"[#:]?\w+")
_SYNTAX = {"SET", "REMOVE", "ADD", "DELETE", "AND", "OR", "NOT", "IN", "BETWEEN", "size", "contains", "begins_with"} | {
    "attribute_exists",
    "attribute_not_exists",
    "attribute_type",
    "if_not_exists",
    "list_append",
}


@dataclass(frozen=True)
class Request:
    """One read or write of one item. `kind` is Get, Put, Update, Delete or ConditionCheck."""

    state: State
    kind: str
    fields: dict[str, Any]

    @cached_property
    def record(self) -> str:
        """The item's `record` as JSON, as the machine gives it. Equal texts mean the same kind of item."""
        record = json.dumps((self.fields.get("Key") or self.fields["Item"])["record"])
        if record in _JOURNAL_KEYS:
            return JOURNAL
        return ENTRY if record in _ENTRY_KEYS else record

    @property
    def values(self) -> dict[str, dict[str, str]]:
        """The values behind its placeholders."""
        values: dict[str, dict[str, str]] = self.fields.get("ExpressionAttributeValues", {})
        return values

    @property
    def names(self) -> dict[str, str]:
        """The attributes behind its placeholders."""
        names: dict[str, str] = self.fields.get("ExpressionAttributeNames", {})
        return names

    @property
    def condition(self) -> str:
        return str(self.fields.get("ConditionExpression", ""))

    @cached_property
    def tokens(self) -> list[str]:
        """Every name and placeholder in its expressions."""
        texts = [text for key, text in self.fields.items() if key.endswith("Expression")]
        return [token for text in texts for token in _TOKEN.findall(text) if token not in _SYNTAX]

    @cached_property
    def written(self) -> dict[str, dict[str, str]]:
        """The attributes that it puts, sets or adds to, with their values."""
        if self.kind == "Put":
            item: dict[str, dict[str, str]] = self.fields["Item"]
            return item
        pairs = [
            *re.findall(r"(#?\w+)\s*=\s*(:\w+)", self._clauses.get("SET", "")),
            *re.findall(r"(#?\w+)\s+(:\w+)", self._clauses.get("ADD", "")),
        ]
        return {self.attribute(name): self.values[value] for name, value in pairs}

    @cached_property
    def removed(self) -> set[str]:
        """The attributes that it removes."""
        return {self.attribute(name) for name in _TOKEN.findall(self._clauses.get("REMOVE", ""))}

    @cached_property
    def changed(self) -> set[str]:
        """The attributes that its UpdateExpression names, in any clause."""
        named = _TOKEN.findall(self.fields.get("UpdateExpression", ""))
        return {self.attribute(name) for name in named if name[0] != ":" and name not in _SYNTAX}

    @cached_property
    def compared(self) -> list[tuple[str, dict[str, str]]]:
        """Each value in its condition, with the attribute that it is compared with."""
        pairs = re.findall(r"(#?\w+)\s*(?:=|<>|<=?|>=?)\s*(:\w+)", self.condition)
        for name, several in re.findall(r"(#?\w+)\s+IN\s*\(([^)]*)\)", self.condition):
            pairs += [(name, value) for value in _TOKEN.findall(several)]
        return [(self.attribute(name), self.values[value]) for name, value in pairs]

    @cached_property
    def terms(self) -> list[str]:
        """The terms of its condition that must all hold: `a` and `b` of `a AND b`. Empty if it has an OR."""
        if re.search(r"\bOR\b", self.condition):
            return []
        return [term.strip() for term in self.condition.split(" AND ")]

    @cached_property
    def demanded(self) -> dict[str, str]:
        """The attributes that its condition compares with `=` in every case: `a = :a AND b = :b`."""
        terms = [re.fullmatch(r"(#?\w+)\s*=\s*(:\w+)", term) for term in self.terms]
        return {self.attribute(term[1]): next(iter(self.values[term[2]].values())) for term in terms if term}

    def attribute(self, token: str) -> str:
        """Return the attribute that a name or placeholder stands for."""
        return self.names.get(token, token)

    @cached_property
    def _clauses(self) -> dict[str, str]:
        parts = _CLAUSE.split(self.fields.get("UpdateExpression", ""))
        return dict(zip(parts[1::2], parts[2::2], strict=True))


def requests(machine: Machine) -> Iterator[Request]:
    """Yield every request of every Task; the parts of a transaction one by one."""
    for task in machine.tasks():
        if task.action == "transactWriteItems":
            for part in task.fields["Parameters"]["TransactItems"]:
                for kind, fields in part.items():
                    yield Request(task, kind, fields)
        elif task.action in _OPERATIONS:
            yield Request(task, _OPERATIONS[task.action], task.fields["Parameters"])


def writes(machine: Machine) -> Iterator[Request]:
    """Return the requests that change an item."""
    return (request for request in requests(machine) if request.kind in ("Put", "Update", "Delete"))


def created(machines: Iterable[Machine]) -> dict[str, dict[str, str]]:
    """Return the attributes, with their types, that every item of a kind has at its creation, by `Request.record`."""
    kinds: dict[str, dict[str, str]] = {}
    for machine in machines:
        for write in writes(machine):
            if write.kind == "Put":
                put = {name: type_of(value) for name, value in write.written.items()}
                before = kinds.get(write.record, put)
                kinds[write.record] = {name: kind for name, kind in put.items() if before.get(name) == kind}
    return kinds


def type_of(value: dict[str, str]) -> str:
    """Return an attribute value's type: S, N, …"""
    return next(iter(value)).removesuffix(".$")
