"""The table: the machines' own requests change its items, evaluated by moto's parsers of DynamoDB expressions."""

import re
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

from moto.dynamodb.comparisons import get_filter_expression
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.parsing.executors import UpdateExpressionExecutor
from moto.dynamodb.parsing.expressions import UpdateExpressionParser  # type: ignore[attr-defined]
from moto.dynamodb.parsing.validators import UpdateExpressionValidator

from tests.protocol.text import data, text

Items = dict[str, str]
"""The items of one agent by their `record`, each as the text of its typed attributes."""
_TABLE: Any = SimpleNamespace(
    hash_key_attr="agentId", range_key_attr="record", attribute_keys=["agentId", "record"], attr=[], table_key_attrs=[]
)


TOKEN = re.compile(r"[#:]?\w+")


ONLY_READ = {
    "STATE": {
        "errorMessage": {"S": ""},
        "invocationCount": {"N": "0"},
        "errorCount": {"N": "0"},
        "toolCalls": {"N": "0"},
    },
    "STEP": {"owner": {"S": ""}, "execution": {"S": ""}, "text": {"S": ""}, "question": {"S": ""}},
    "OPERATOR": {"question": {"S": ""}},
}
"""The attributes of each kind of item that only people read, with the value that replaces them."""


class Refused(Exception):
    """A condition does not hold."""


class Write(NamedTuple):
    """One part of a request: a Put, an Update or a ConditionCheck."""

    kind: str
    record: str
    condition: str
    placeholders: str
    """The names and values behind `#name` and `:value`."""
    made: str
    """The item of a Put; otherwise the key, from which an Update creates a missing item."""
    update: str


@cache
def writes(parameters: str) -> tuple[Write, ...]:
    """Return the writes of a request in their order."""
    request = data(parameters)
    if "TransactItems" in request:
        return tuple(_write(*part) for parts in request["TransactItems"] for part in parts.items())
    return (_write("Put" if "Item" in request else "Update", request),)


def _write(kind: str, fields: dict[str, Any]) -> Write:
    item = fields.get("Item") or fields["Key"]
    return Write(
        kind=kind,
        record=item["record"]["S"],
        condition=fields.get("ConditionExpression", ""),
        placeholders=text([fields.get(f"ExpressionAttribute{each}", {}) for each in ("Names", "Values")]),
        made=text(item),
        update=fields.get("UpdateExpression", ""),
    )


def carry_out(items: Items, write: Write, condition: str) -> None:
    """Carry out a write under its own condition, or under the rest that a mutation has left.

    Raises Refused if the condition does not hold; then nothing is changed.
    """
    if condition and not holds(condition, write.placeholders, items.get(write.record, "")):
        raise Refused
    if write.kind == "Put":
        items[write.record] = write.made
    elif write.kind == "Update":
        items[write.record] = _updated(write.update, write.placeholders, items.get(write.record) or write.made)


@cache
def holds(condition: str, placeholders: str, item: str) -> bool:
    """Return whether a condition holds for an item; "" is no item."""
    return _evaluated(condition, placeholders, _named(condition, placeholders, item))


@cache
def _updated(expression: str, placeholders: str, item: str) -> str:
    named = _named(expression, placeholders, item)
    rest = {name: value for name, value in data(item).items() if name not in data(named)}
    return text(rest | data(_changed(expression, placeholders, named)))


@cache
def _named(expression: str, placeholders: str, item: str) -> str:
    """Return the attributes that an expression names, and the key: no other attribute can change the result."""
    if not item:
        return ""
    names, _ = data(placeholders)
    wanted = {"agentId", "record"} | {names.get(token, token) for token in TOKEN.findall(expression)}
    return text({name: value for name, value in data(item).items() if name in wanted})


@cache
def _evaluated(condition: str, placeholders: str, item: str) -> bool:
    return bool(_parsed(condition, placeholders).expr(_item(data(item)) if item else None))


@cache
def _parsed(condition: str, placeholders: str) -> Any:
    return get_filter_expression(condition, *data(placeholders))


@cache
def _changed(expression: str, placeholders: str, item: str) -> str:
    names, values = data(placeholders)
    changed = _item(data(item))
    tree = UpdateExpressionValidator(
        UpdateExpressionParser.make(expression),
        expression_attribute_names=names,
        expression_attribute_values=values,
        item=changed,
        table=_TABLE,
    ).validate()
    tree.normalize()
    UpdateExpressionExecutor(tree, changed, names).execute()
    return text(changed.to_json()["Attributes"])


def _item(attributes: dict[str, Any]) -> Item:
    return Item(DynamoType(attributes["agentId"]), DynamoType(attributes["record"]), attributes)


@cache
def kept(item: str) -> str:
    """Return an item without the texts and counts that only people read and that decide nothing."""
    attributes = data(item)
    record = attributes["record"]["S"].partition("#")[0]
    return text(attributes | {name: value for name, value in ONLY_READ.get(record, {}).items() if name in attributes})


@cache
def plain(item: str) -> dict[str, str]:
    """Return an item with its attributes as text, as the functions read it."""
    return {name: next(iter(value.values())) for name, value in data(item).items()}
