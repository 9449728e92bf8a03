"""The filters of a pipe in the embedded engine's process: MiniStack delivers every record of the stream."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

Need = Callable[[ModuleType, str], Any]


def install(modules: Callable[[str], ModuleType], need: Need) -> None:
    """Deliver only records that one of the pipe's `FilterCriteria` lets through, as Pipes does.

    Needs the provisioner of `AWS::Pipes::Pipe`, `pipes._pipes`, `pipes._deliver_batch(pipe, records)`, which returns
    True if the records were taken; `eventbridge._compiled_pattern(text)` and `_matches_detail(value, alternative)`.
    """
    pipes, eventbridge = modules("services.pipes"), modules("services.eventbridge")
    provisioners = modules("services.cloudformation.provisioners")
    handlers, stored = need(provisioners, "_RESOURCE_HANDLERS"), need(pipes, "_pipes")
    create, deliver = need(provisioners, "_pipes_pipe_create"), need(pipes, "_deliver_batch")
    compiled, matches = need(eventbridge, "_compiled_pattern"), need(eventbridge, "_matches_detail")

    def create_pipe(logical_id: str, props: dict[str, Any], stack: str) -> Any:
        name, attributes = create(logical_id, props, stack)
        stored[name]["Filters"] = props["SourceParameters"].get("FilterCriteria", {}).get("Filters", [])
        return name, attributes

    def passes(record: dict[str, Any], filters: list[dict[str, str]]) -> bool:
        patterns = [alternative for each in filters for alternative in compiled(each["Pattern"]) or ()]
        return not filters or any(matches(record, pattern) for pattern in patterns)

    def deliver_passing(pipe: dict[str, Any], records: list[Any]) -> bool:
        passing = [record for record in records if passes(record, pipe["Filters"])]
        return not passing or bool(deliver(pipe, passing))

    handlers["AWS::Pipes::Pipe"] = {**handlers["AWS::Pipes::Pipe"], "create": create_pipe}
    pipes._deliver_batch = deliver_passing  # type: ignore[attr-defined]
