"""ReadReply: every reply of the model becomes a decision, or a correction that the model can act on."""

import hashlib
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.unit.records import BOOK, LOOK, agent, said, use
from turnstile_agents.definition import Limits, Tool
from turnstile_agents.errors import TurnOutdated
from turnstile_agents.failures import FailureKind, kind_of
from turnstile_agents.load_turn.request import tool_config
from turnstile_agents.read_reply.handler import handler
from turnstile_agents.read_reply.read import read_reply
from turnstile_agents.record import AGENT_ID, PlanStep, Status
from turnstile_agents.turn import Pending, Reading, ReadReplyInput, TurnTool


def reply(*blocks: dict[str, Any], stop: str = "tool_use", tokens: tuple[int, int] = (100, 10)) -> dict[str, Any]:
    return {
        "Output": {"Message": {"Role": "assistant", "Content": list(blocks)}},
        "StopReason": stop,
        "Usage": {"InputTokens": tokens[0], "OutputTokens": tokens[1], "TotalTokens": sum(tokens)},
    }


def read(
    answer: Any,
    pending: Pending | None = None,
    tools: list[Tool] | None = None,
    delegates: tuple[str, ...] = (),
    **fields: Any,
) -> Reading:
    return read_reply(
        ReadReplyInput(
            agent=agent(**fields),
            tools=[TurnTool.of(tool) for tool in tools or [LOOK, BOOK]],
            tool_config=tool_config(tools or [LOOK, BOOK]),
            delegates=list(delegates),
            pending=pending or Pending(),
            reply=answer,
            model_id="m",
        )
    )


def read_text(text: str, protocol: str = "json") -> Reading:
    return read(reply({"Text": text}, stop="end_turn"), protocol=protocol)


def test_a_call_is_checked_and_keyed() -> None:
    decision = read(reply({"Text": "I look."}, use("u1", "look", city="Paris"))).decision
    [call] = decision.calls
    assert (decision.action, decision.status) == ("TOOL_USE", Status.TOOL_EXECUTION_PENDING)
    assert (call.function, call.effect, call.key) == ("turnstile-tool-look", "read", "EFFECT#000002#0")
    assert call.timeout_seconds > LOOK.timeout_seconds
    assert decision.results_record == "STEP#000003"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False},
        {"properties": {"n": {"$ref": "#/$defs/N", "minimum": 5}}, "$defs": {"N": {"minimum": 1}}, "minProperties": 1},
        {"anyOf": [{"required": ["n"]}, {"required": ["m"]}], "propertyNames": {"maxLength": 1}},
    ],
)
@pytest.mark.parametrize("arguments", [{}, {"n": 3}, {"n": 7}, {"n": "x"}, {"other": 1}, {"m": 1}])
def test_arguments_are_checked_against_the_whole_schema(schema: dict[str, Any], arguments: dict[str, Any]) -> None:
    tool = LOOK.model_copy(update={"input_schema": schema})
    for protocol in ("tools", "json"):
        decision = read(reply(use("u1", "look", **arguments)), tools=[tool], protocol=protocol).decision
        assert (decision.action == "TOOL_USE") == Draft202012Validator(schema).is_valid(arguments)


def test_no_schema_travels_twice() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "minProperties": 1}
    tool = LOOK.model_copy(update={"input_schema": schema})
    assert TurnTool.of(tool).rest_of_schema == {"minProperties": 1}
    assert TurnTool.of(tool.model_copy(update={"hidden": True})).rest_of_schema == {}
    assert not {"description", "inputSchema", "compensation"} & TurnTool.of(tool).dump().keys()


def test_data_of_an_older_version_end_the_turn_and_not_the_agent() -> None:
    asked = ReadReplyInput(
        agent=agent(),
        tools=[],
        tool_config=tool_config([LOOK]),
        delegates=[],
        pending=Pending(),
        reply=reply(),
        model_id="m",
    )
    context = SimpleNamespace(
        function_name="read-reply", invoked_function_arn="arn", aws_request_id="1", memory_limit_in_mb=512
    )
    event = asked.model_dump(mode="json", by_alias=True)
    assert handler(event, context)["decision"]["action"] == "INVALID"
    del event["toolConfig"]
    with pytest.raises(TurnOutdated, match="toolConfig"):
        handler(event, context)
    assert kind_of("TurnOutdated") is FailureKind.TRANSIENT


def test_calls_of_one_reply_have_keys_of_their_own() -> None:
    decision = read(reply(use("u1", "look", city="Paris"), use("u2", "book", city="Rome"))).decision
    assert [call.key for call in decision.calls] == ["EFFECT#000002#0", "EFFECT#000002#1"]


def test_the_alternatives_of_a_call_come_nested_in_it() -> None:
    others = [
        BOOK.model_copy(update={"name": name, "function": f"turnstile-tool-{name}", "timeout_seconds": seconds})
        for name, seconds in (("partner", 60), ("desk", 90))
    ]
    book = BOOK.model_copy(update={"alternatives": ["desk", "partner"]})
    [first] = read(reply(use("u1", "book", city="Paris")), tools=[book, *others]).decision.calls
    second = first.alternative
    third = second and second.alternative
    assert second and third
    assert [call.name for call in (first, second, third)] == ["book", "desk", "partner"]
    assert [call.key for call in (first, second, third)] == [
        "EFFECT#000002#0",
        "EFFECT#000002#0#ALT1",
        "EFFECT#000002#0#ALT2",
    ]
    assert (second.function, second.timeout_seconds > 90, third.timeout_seconds > 60) == (
        "turnstile-tool-desk",
        True,
        True,
    )
    assert {call.tool_use_id for call in (first, second, third)} == {"u1"}
    assert all(call.input == {"city": "Paris"} for call in (first, second, third))
    assert third.alternative is None


def test_an_alternative_of_an_alternative_is_not_called_for_the_first() -> None:
    desk = BOOK.model_copy(update={"name": "desk", "alternatives": ["book"]})
    book = BOOK.model_copy(update={"alternatives": ["desk"]})
    [first] = read(reply(use("u1", "book", city="Paris")), tools=[book, desk]).decision.calls
    assert first.alternative and first.alternative.alternative is None


def test_a_hidden_tool_is_no_tool_of_the_models() -> None:
    hidden = BOOK.model_copy(update={"name": "find_booking", "hidden": True})
    for answer in (use("u1", "find_booking", city="Paris"), {"Text": "Well."}):
        decision = read(reply(answer), tools=[LOOK, hidden]).decision
        assert (decision.action, decision.calls) == ("INVALID", [])
        assert "ook, update_plan" in decision.message  # not among the tools of the message


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (use("u1", "fly"), "There is no tool fly. Tools: look, book, update_plan"),
        (use("u1", "look"), "'city' is a required property"),
        (use("u1", "look", city=7), "city: 7 is not of type 'string'"),
        (use("u1", "look", city="Paris", to="Rome"), "'to' was unexpected"),
        ({"ToolUse": {"ToolUseId": "u1", "Name": "look", "Input": "Paris"}}, "'Paris' is not of type 'object'"),
        (use("u1", "complete"), "result: Field required"),
        (use("u1", "update_plan", steps=[]), "steps: List should have at least 1 item"),
    ],
)
def test_a_wrong_call_is_answered_with_what_is_wrong(wrong: dict[str, Any], words: str) -> None:
    reading = read(reply(wrong))
    assert reading.decision.action == "INVALID"
    [answer] = reading.decision.answers
    assert (answer.tool_use_id, answer.error) == ("u1", True)
    assert words in answer.text
    assert reading.agent.used.wrong_replies == 1


def test_one_wrong_call_does_not_stop_the_others() -> None:
    decision = read(reply(use("u1", "fly"), use("u2", "look", city="Paris"))).decision
    assert [call.tool_use_id for call in decision.calls] == ["u2"]
    assert [answer.tool_use_id for answer in decision.answers] == ["u1"]


def test_a_built_in_beside_other_calls_is_to_be_called_alone() -> None:
    decision = read(reply(use("u1", "complete", result="Done."), use("u2", "look", city="Paris"))).decision
    assert [call.name for call in decision.calls] == ["look"]
    assert decision.answers[0].text == "Call complete alone."


def test_too_many_calls_are_put_off() -> None:
    decision = read(reply(*(use(f"u{i}", "look", city="Paris") for i in range(6)))).decision
    assert len(decision.calls) == 5
    assert "At most 5 calls" in decision.answers[0].text


@pytest.mark.parametrize(
    ("built_in", "action", "closes_as", "message"),
    [
        (use("u1", "ask_user", question="When?"), "ASK_USER", "WAITING_FOR_INPUT", "When?"),
        (use("u1", "complete", result="Booked.", reflection="All done."), "COMPLETE", "COMPLETED", "Booked."),
        (use("u1", "give_up", reason="No flights."), "GIVE_UP", "PLANNING", "No flights."),
    ],
)
def test_built_ins_become_decisions(built_in: dict[str, Any], action: str, closes_as: str, message: str) -> None:
    decision = read(reply(built_in)).decision
    assert (decision.action, decision.closes_as, decision.message) == (action, closes_as, message)


DOUBTS = ["Step 2 of the plan is open: Book.", "book {} came to nothing: No seats."]
FINISHED = reply(use("u1", "complete", result="Booked."))


def test_a_model_that_completes_against_the_record_is_sent_back_once() -> None:
    reading = read(FINISHED, doubts=DOUBTS)
    decision = reading.decision
    assert (decision.action, decision.doubted, reading.agent.doubted) == ("INVALID", True, True)
    [answer] = decision.answers
    assert answer.error and answer.tool_use_id == "u1"
    assert answer.text.startswith(
        "Before you finish: Step 2 of the plan is open: Book. book {} came to nothing: No seats."
    )


def test_a_model_that_completes_again_is_misaligned() -> None:
    decision = read(FINISHED, doubts=DOUBTS, doubted=True).decision
    assert (decision.action, decision.message) == ("MISALIGNED", " ".join(DOUBTS))
    assert [answer.tool_use_id for answer in decision.answers] == ["u1"]


def test_a_doubt_that_is_gone_does_not_count() -> None:
    reading = read(FINISHED, doubted=True)
    assert (reading.decision.action, reading.agent.doubted) == ("COMPLETE", False)


def test_only_the_next_decision_is_the_second_claim() -> None:
    going_on = read(reply(use("u1", "look", city="Paris")), doubts=DOUBTS, doubted=True)
    assert (going_on.decision.action, going_on.agent.doubted) == ("TOOL_USE", False)
    question = read(reply(use("u1", "ask_user", question="When?")), doubts=DOUBTS, doubted=True)
    assert question.decision.action == "ASK_USER"


def plan(*actions: str, status: Any = "PENDING") -> list[dict[str, Any]]:
    return [{"step": i, "action": action, "status": status} for i, action in enumerate(actions, 1)]


def test_a_plan_is_kept_and_only_another_one_is_a_replan() -> None:
    first = read(reply(use("u1", "update_plan", steps=plan("look", "book"))))
    assert (first.decision.action, [entry.action for entry in first.step.plan]) == ("PLAN", ["look", "book"])
    kept = [PlanStep(**entry) for entry in plan("look", "book")]
    done = read(reply(use("u1", "update_plan", steps=plan("look", "book", status="DONE"))), plan=kept)
    assert (done.decision.action, done.step.replans) == ("PLAN", 0)
    other = read(reply(use("u1", "update_plan", steps=plan("ask"))), plan=kept)
    assert (other.decision.action, other.step.replans, other.agent.used.replans) == ("REPLAN", 1, 1)


ACTION = {"action": "TOOL_USE", "details": {"toolName": "look", "parameters": {"city": "Paris"}}}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ACTION),
        f"```json\n{json.dumps(ACTION, indent=2)}\n```",
        f"Let me see {{not this}}. {json.dumps(ACTION)} That should do.",
    ],
)
def test_the_json_protocol_is_read_fenced_and_in_prose(text: str) -> None:
    decision = read_text(text).decision
    assert [(call.name, call.tool_use_id) for call in decision.calls] == [("look", "")]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ({"action": "PLAN", "details": {"steps": plan("look")}}, "PLAN"),
        ({"action": "COMPLETE", "details": {"result": "Done."}}, "COMPLETE"),
        ({"action": "ASK_USER", "details": {"question": "When?"}}, "ASK_USER"),
        # Weak models write a built-in's or a tool's own name, or the shape of a function call.
        ({"action": "complete", "details": {"result": "Done."}}, "COMPLETE"),
        ({"action": "update_plan", "details": {"steps": plan("look")}}, "PLAN"),
        ({"action": "look", "details": {"city": "Paris"}}, "TOOL_USE"),
        ({"name": "look", "arguments": {"city": "Paris"}}, "TOOL_USE"),
        ({"name": "complete", "arguments": {"result": "Done."}}, "COMPLETE"),
        ({"action": "TOOL_USE", "details": {"name": "look", "arguments": {"city": "Paris"}}}, "TOOL_USE"),
    ],
)
def test_the_json_protocol_has_the_built_ins(action: dict[str, Any], expected: str) -> None:
    assert read_text(json.dumps(action)).decision.action == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I will book a flight.", "The reply holds no action"),
        ('{"action": "TOOL_USE", "details": {', "The reply holds no action"),
        ('{"action": "DANCE"}', "There is no action 'DANCE'"),
        ('{"action": "TOOL_USE", "details": {"name": "look"}}', "TOOL_USE needs"),
        ('{"action": ["TOOL_USE"]}', "There is no action ['TOOL_USE']"),
    ],
)
def test_what_is_no_action_is_corrected(text: str, words: str) -> None:
    decision = read_text(text).decision
    assert decision.action == "INVALID"
    assert words in decision.message


@pytest.mark.parametrize(
    "text",
    [
        f"{json.dumps(ACTION)} {json.dumps(ACTION)}",
        f"First {json.dumps(ACTION)}, then " + '{"name": "complete", "arguments": {"result": "Done."}}',
        f"[{json.dumps(ACTION)}, {json.dumps(ACTION)}]",
    ],
)
def test_two_actions_in_one_reply_are_refused(text: str) -> None:
    decision = read_text(text).decision
    assert (decision.action, decision.calls) == ("INVALID", [])
    assert decision.message.startswith("The reply holds 2 actions. Nothing was carried out.")
    assert read_text(text, "tools").decision.action == "INVALID"


@pytest.mark.parametrize("text", ['{"action": "DANCE"}', "Well.", '{"action": "TOOL_USE"}'])
def test_a_correction_names_the_actions_of_this_agent_in_its_protocol(text: str) -> None:
    user_s, child_s = read_text(text).decision.message, read(reply({"Text": text}), protocol="json", depth=1).decision
    assert user_s.endswith("Actions: TOOL_USE, PLAN, ASK_USER, COMPLETE, GIVE_UP. Tools: look, book.")
    assert child_s.message.endswith("Actions: TOOL_USE, PLAN, COMPLETE, GIVE_UP. Tools: look, book.")
    with_tools = read_text(text, "tools").decision.message
    assert with_tools.endswith("Tools: look, book, update_plan, ask_user, complete, give_up.")
    assert "COMPLETE" not in with_tools


def test_a_hidden_tool_is_no_action() -> None:
    hidden = LOOK.model_copy(update={"name": "find", "hidden": True})
    answer = reply({"Text": '{"action": "find", "details": {"city": "Paris"}}'})
    assert "There is no action 'find'." in read(answer, tools=[LOOK, hidden], protocol="json").decision.message


def test_a_made_up_action_is_repeated_in_part_only() -> None:
    assert len(read_text(json.dumps({"action": "x" * 9_000})).decision.message) < 400


def test_keys_that_a_model_adds_to_a_plan_are_dropped() -> None:
    steps = [{**step, "reason": "because", "toolName": "look"} for step in plan("look", "book")]
    reading = read(reply(use("u1", "update_plan", steps=steps)))
    assert (reading.decision.action, [entry.action for entry in reading.step.plan]) == ("PLAN", ["look", "book"])


@pytest.mark.parametrize(
    "rubbish",
    [None, 7, "text", [], {}, {"Output": None}, {"Output": {"Message": {"Content": "no list"}}}, reply()],
)
def test_rubbish_is_a_wrong_reply_and_leaves_no_empty_message(rubbish: Any) -> None:
    reading = read(rubbish)
    assert reading.decision.action == "INVALID"
    assert reading.step.messages == []


def test_only_what_bedrock_takes_back_goes_into_the_journal() -> None:
    reading = read(
        reply(
            {"Text": "  "},
            {"ToolUse": {"ToolUseId": "u1", "Name": "look", "Input": {"city": "Paris"}, "Type": "tool_use"}},
            {"ToolUse": {"ToolUseId": "u1", "Name": "look", "Input": {"city": "Rome"}}},
            {"Video": {}},
        )
    )
    assert reading.step.messages == [said(use("u1", "look", city="Paris"))]
    assert [call.input for call in reading.decision.calls] == [{"city": "Paris"}]


def test_the_users_words_go_into_the_journal_with_the_reply() -> None:
    pending = Pending(messages=[said({"Text": "Tomorrow."}, role="user")], inputs=["INPUT#e1"])
    step = read(reply(use("u1", "look", city="Paris")), pending=pending).step
    assert [message["Role"] for message in step.messages] == ["user", "assistant"]
    assert (step.inputs, step.previous_step, step.record) == (["INPUT#e1"], 1, "STEP#000002")


def test_tokens_and_cost_are_counted() -> None:
    reading = read(reply(use("u1", "look", city="Paris"), tokens=(1000, 100)), used={"tokens": 5})
    assert reading.step.usage.cost_micro_usd == 1000 * 3 + 100 * 15
    assert reading.step.usage.model_id == "m"
    assert (reading.agent.used.tokens, reading.agent.used.steps, reading.agent.step) == (1105, 1, 2)


def test_the_same_calls_in_a_row_are_counted_whatever_their_order() -> None:
    first = read(reply(use("u1", "look", city="Paris"), use("u2", "look", city="Rome")))
    assert first.agent.used.repeats == 1
    again = read(
        reply(use("u3", "look", city="Rome"), use("u4", "look", city="Paris")),
        fingerprint=first.agent.fingerprint,
        used={"repeats": 1},
    )
    assert again.agent.used.repeats == 2
    other = read(reply(use("u5", "look", city="Rome")), fingerprint=first.agent.fingerprint, used={"repeats": 2})
    assert other.agent.used.repeats == 1


def test_with_tool_use_only_a_text_that_is_an_action_is_one() -> None:
    quoted = f"The page says: {json.dumps(ACTION)} but I do not."
    assert read_text(quoted, "tools").decision.action == "INVALID"
    assert read_text(f"```json\n{json.dumps(ACTION)}\n```", "tools").decision.action == "TOOL_USE"


@pytest.mark.parametrize("protocol", ["json", "tools"])
def test_an_argument_that_looks_like_an_action_is_no_action(protocol: str) -> None:
    text = json.dumps({"toolName": "look", "parameters": {"action": "COMPLETE", "details": {"result": "Done."}}})
    assert read_text(text, protocol).decision.action == "INVALID"


@pytest.mark.parametrize("text", ['{"a":' * 5000, '{"action": NaN}', '{"action": "TOOL_USE", "details": Infinity}'])
def test_what_only_looks_like_json_is_corrected(text: str) -> None:
    assert read_text(text).decision.action == "INVALID"


@pytest.mark.parametrize("name", ["functions.look", "look city", "<|channel|>", "x" * 70, ""])
def test_a_name_that_the_model_made_up_does_not_poison_the_conversation(name: str) -> None:
    reading = read(reply(use("call 1/é", name, city="Paris")))
    assert name in reading.decision.answers[0].text
    [block] = reading.step.messages[0]["Content"]
    assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", block["ToolUse"]["Name"])
    assert re.fullmatch("[a-zA-Z0-9_.:-]{1,64}", block["ToolUse"]["ToolUseId"])
    assert block["ToolUse"]["ToolUseId"] == reading.decision.answers[0].tool_use_id


def test_thoughts_that_were_cut_off_are_not_sent_back() -> None:
    thought = {"ReasoningContent": {"ReasoningText": {"Text": "Hm", "Signature": "s"}}}
    assert read(reply(thought, stop="max_tokens")).step.messages == []
    blocks = read(reply(thought, use("u1", "look", city="Paris"))).step.messages[0]["Content"]
    assert blocks == [thought, use("u1", "look", city="Paris")]


@pytest.mark.parametrize(
    "stop", ["max_tokens", "malformed_tool_use", "malformed_model_output", "model_context_window_exceeded"]
)
def test_a_reply_that_is_not_whole_is_not_carried_out(stop: str) -> None:
    decision = read(reply(use("u1", "book", city="Paris"), stop=stop)).decision
    assert (decision.action, decision.calls) == ("INVALID", [])
    assert decision.answers[0].tool_use_id == "u1"


# ---- Approvals

MANY = {"properties": {"seats": {"minimum": 5}}, "required": ["seats"]}
SEATS = {"type": "object", "properties": {"city": {"type": "string"}, "seats": {"type": "integer"}}}


def bookable(name: str = "book", **fields: Any) -> Tool:
    return BOOK.model_copy(update={"name": name, "input_schema": SEATS, **fields})


@pytest.mark.parametrize(
    ("approval", "seats", "needed"),
    [
        ("never", 9, False),
        ("always", 1, True),
        (MANY, 5, True),
        (MANY, 4, False),
        (MANY, None, False),
        ({"properties": MANY["properties"]}, None, True),  # without `required`, a missing argument matches
    ],
)
def test_a_call_that_matches_needs_an_approval(approval: Any, seats: int | None, needed: bool) -> None:
    arguments = {"city": "Paris"} | ({} if seats is None else {"seats": seats})
    decision = read(reply(use("u1", "book", **arguments)), tools=[bookable(approval=approval)]).decision
    assert decision.action == ("ASK_APPROVAL" if needed else "TOOL_USE")
    assert [call.approval for call in decision.calls] == [needed]
    assert (decision.waits_for, decision.closes_as) == (("2", "WAITING_FOR_APPROVAL") if needed else ("", "PLANNING"))


def test_one_call_that_needs_an_approval_holds_its_whole_reply() -> None:
    uses = (use("u1", "look", city="Paris"), use("u2", "book", seats=7), use("u3", "fly"))
    reading = read(reply(*uses), tools=[LOOK, bookable(approval=MANY)], step=6)
    decision = reading.decision
    assert (decision.action, decision.status, decision.waits_for) == ("ASK_APPROVAL", Status.PLANNING_COMPLETE, "7")
    assert [(call.name, call.approval) for call in decision.calls] == [("look", False), ("book", True)]
    assert [answer.tool_use_id for answer in decision.answers] == ["u3"]
    assert decision.results_record == "STEP#000008"


def test_an_alternative_that_needs_an_approval_makes_the_call_need_it() -> None:
    tools = [
        bookable(alternatives=["partner", "desk"]),
        bookable("partner"),
        bookable("desk", approval=MANY),
    ]
    [few] = read(reply(use("u1", "book", seats=1)), tools=tools).decision.calls
    [many] = read(reply(use("u1", "book", seats=5)), tools=tools).decision.calls
    assert (few.approval, many.approval) == (False, True)


def test_asking_for_the_same_again_is_counted_though_it_was_refused() -> None:
    first = read(reply(use("u1", "book", seats=7)), tools=[bookable(approval="always")])
    again = read(
        reply(use("u2", "book", seats=7)),
        tools=[bookable(approval="always")],
        fingerprint=first.agent.fingerprint,
        used={"repeats": 1},
    )
    assert again.agent.used.repeats == 2


# ---- Children

PART: dict[str, Any] = {"agent": "helper", "goal": "A flight.", "prompt": "Book a flight to Paris."}


def delegated(*uses: dict[str, Any], **fields: Any) -> Reading:
    return read(reply(*uses), delegates=("helper", "other"), **fields)


def test_what_is_delegated() -> None:
    uses = (use("u1", "delegate", **PART, reflection="Two parts."), use("u2", "delegate", **PART | {"agent": "other"}))
    reading = delegated(*uses, step=6, depth=1, children=["child-0"])
    decision = reading.decision
    assert (decision.action, decision.status, decision.closes_as) == (
        "DELEGATE",
        Status.PLANNING_COMPLETE,
        Status.WAITING_FOR_AGENT,
    )
    assert (decision.waits_for, decision.calls, decision.reflection) == ("7", [], "Two parts.")
    one, two = decision.children
    assert (one.tool_use_id, one.agent, one.goal, one.prompt, one.depth) == ("u1", *PART.values(), 2)
    assert (two.tool_use_id, two.agent) == ("u2", "other")
    assert reading.agent.children == ["child-0", one.agent_id, two.agent_id]


def test_the_id_of_a_child_follows_from_its_parent_and_the_call() -> None:
    uses = (use("u1", "delegate", **PART), use("u2", "delegate", **PART))
    ids = [child.agent_id for child in delegated(*uses).decision.children]
    expected = [hashlib.sha256(f"a-1#000002#{index}".encode()).hexdigest()[:32] for index in (0, 1)]
    assert ids == [f"child-{digest}" for digest in expected]
    places = [(child.step, child.place) for child in delegated(*uses).decision.children]
    assert places == [("STEP#000002", 0), ("STEP#000002", 1)]
    assert all(re.fullmatch(AGENT_ID, child) for child in ids)
    assert ids == [child.agent_id for child in delegated(*uses).decision.children]
    assert not set(ids) & {child.agent_id for child in delegated(*uses, step=2).decision.children}


def test_what_is_left_is_shared_out_and_the_parent_keeps_a_share() -> None:
    limits = Limits(tokens=1_000, cost_micro_usd=10_000)
    used = {"tokens": 590, "cost_micro_usd": 550}
    [one, two] = delegated(
        use("u1", "delegate", **PART), use("u2", "delegate", **PART), limits=limits, used=used
    ).decision.children
    # This reply took 110 tokens, at 3 and 15 dollars per million.
    assert (one.tokens, one.cost_micro_usd) == (100, 3_000)
    assert (two.tokens, two.cost_micro_usd) == (one.tokens, one.cost_micro_usd)


@pytest.mark.parametrize(
    ("use_", "fields", "words"),
    [
        (
            use("u1", "delegate", **PART | {"agent": "unknown"}),
            {},
            "no agent unknown to delegate to. Agents: helper, other.",
        ),
        (use("u1", "delegate", agent="helper"), {}, "goal: Field required; prompt: Field required"),
        (use("u1", "delegate", **PART | {"goal": "x" * 1001}), {}, "goal: String should have at most 1000 characters"),
        (use("u1", "delegate", **PART), {"depth": 3}, "you are 3 agents deep, and at most 3 may delegate"),
        (use("u1", "delegate", **PART), {"children": ["c"] * 5}, "at most 5 agents in all"),
    ],
)
def test_what_cannot_be_delegated_is_answered_with_why(use_: Any, fields: dict[str, Any], words: str) -> None:
    reading = delegated(use_, **fields)
    assert (reading.decision.action, reading.decision.children) == ("INVALID", [])
    [answer] = reading.decision.answers
    assert (answer.tool_use_id, answer.error) == ("u1", True)
    assert words in answer.text
    assert reading.agent.children == fields.get("children", [])


def test_a_refused_delegation_does_not_stop_the_others() -> None:
    uses = [use(f"u{number}", "delegate", **PART) for number in range(4)]
    decision = delegated(*uses, use("u9", "update_plan", steps=plan("look")), children=["c"] * 3).decision
    assert [child.tool_use_id for child in decision.children] == ["u0", "u1"]
    assert [answer.tool_use_id for answer in decision.answers] == ["u2", "u3", "u9"]
    assert decision.answers[-1].text == "Call update_plan alone."
    many = delegated(*uses, limits=Limits(calls_per_reply=2)).decision
    assert [child.tool_use_id for child in many.children] == ["u0", "u1"]


def test_delegate_beside_other_tools_waits_for_a_reply_of_its_own() -> None:
    reading = delegated(use("u1", "delegate", **PART), use("u2", "look", city="Paris"))
    assert [call.name for call in reading.decision.calls] == ["look"]
    assert reading.decision.answers[0].text == "Call delegate without other tools."
    assert reading.agent.children == []


def test_an_agent_without_delegates_is_told_so() -> None:
    decision = read(reply(use("u1", "delegate", **PART))).decision
    assert (decision.action, decision.answers[0].error) == ("INVALID", True)
    assert "no agent to delegate to. Tools: look, book, update_plan, ask_user, complete, give_up." in decision.message


def test_delegating_the_same_again_is_counted() -> None:
    first = delegated(use("u1", "delegate", **PART))
    again = delegated(use("u2", "delegate", **PART), fingerprint=first.agent.fingerprint, used={"repeats": 1})
    assert again.agent.used.repeats == 2


def test_a_child_cannot_ask_the_user() -> None:
    for answer in (
        use("u1", "ask_user", question="When?"),
        {"Text": '{"action": "ASK_USER", "details": {"question": "?"}}'},
    ):
        decision = read(reply(answer), depth=1).decision
        assert decision.action == "INVALID"
        assert "cannot ask the user" in decision.message
    assert "ask_user" not in read(reply(use("u1", "fly")), depth=1).decision.message


def test_the_json_protocol_delegates_too() -> None:
    text = json.dumps({"action": "DELEGATE", "details": PART})
    decision = read(reply({"Text": text}, stop="end_turn"), protocol="json", delegates=("helper",)).decision
    assert [(child.tool_use_id, child.agent) for child in decision.children] == [("", "helper")]


# ---- Values that would poison the journal

HALF = "\ud83d"
"""Half of a surrogate pair."""


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def assert_can_be_kept(reading: Reading) -> None:
    kept = json.dumps(reading.dump(), ensure_ascii=False, allow_nan=False)
    kept.encode()
    assert Reading.model_validate_json(kept) == reading


@pytest.mark.parametrize("protocol", ["tools", "json"])
def test_half_a_character_is_replaced_wherever_it_is(protocol: str) -> None:
    free = LOOK.model_copy(update={"input_schema": {"type": "object"}})
    arguments = {"city": HALF, HALF: [HALF]}
    action = json.dumps({"action": "TOOL_USE", "details": {"toolName": "look", "parameters": arguments}})
    said_so = {"Text": action} if protocol == "json" else use("u1", "look", **arguments)
    thought = {"ReasoningContent": {"ReasoningText": {"Text": HALF, "Signature": "s"}}}
    reading = read(reply(thought, {"Text": HALF}, said_so), tools=[free], protocol=protocol)
    assert [call.input for call in reading.decision.calls] == [{"city": "\ufffd", "\ufffd": ["\ufffd"]}]
    assert reading.step.messages[0]["Content"][1] == {"Text": "\ufffd"}
    assert_can_be_kept(reading)


@pytest.mark.parametrize("name", ["complete", "ask_user", "give_up", HALF])
def test_half_a_character_in_a_built_in_is_replaced(name: str) -> None:
    words = {"complete": "result", "ask_user": "question"}.get(name, "reason")
    assert_can_be_kept(read(reply(use("u1", name, **{words: HALF}))))


@pytest.mark.parametrize("levels", [33, 300, 400])
@pytest.mark.parametrize("protocol", ["tools", "json"])
def test_arguments_that_nest_too_deep_are_refused(levels: int, protocol: str) -> None:
    free = LOOK.model_copy(update={"input_schema": {"type": "object"}})
    arguments = {"city": nested(levels)}
    action = json.dumps({"action": "TOOL_USE", "details": {"toolName": "look", "parameters": arguments}})
    said_so = {"Text": action} if protocol == "json" else use("u1", "look", **arguments)
    reading = read(reply(said_so, use("u2", "look", city="Paris")), tools=[free], protocol=protocol)
    if protocol == "tools":
        assert (reading.decision.action, len(reading.decision.answers)) == ("INVALID", 2)
        assert reading.step.messages[0]["Content"][0] == use("u1", "look")
        assert_can_be_kept(reading)
    text = read(reply(said_so), tools=[free], protocol=protocol).decision
    assert (text.action, text.calls) == ("INVALID", [])
    assert "deep" in (text.message + "".join(answer.text for answer in text.answers))


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400])
def test_a_number_that_no_double_holds_becomes_text(number: str) -> None:
    action = f'{{"action": "TOOL_USE", "details": {{"toolName": "look", "parameters": {{"city": {number}}}}}}}'
    free = LOOK.model_copy(update={"input_schema": {"type": "object"}})
    reading = read(reply({"Text": action}), tools=[free], protocol="json")
    assert isinstance(reading.decision.calls[0].input["city"], str)
    assert_can_be_kept(reading)


def test_what_a_state_cannot_carry_is_left_out() -> None:
    redacted = {"ReasoningContent": {"RedactedContent": "/w=="}}
    image = {"Image": {"Format": "png", "Source": {"Bytes": "iVBORw=="}}}
    assert read(reply(redacted, image, use("u1", "look", city="Paris"))).step.messages == [
        said(use("u1", "look", city="Paris"))
    ]


def test_a_complaint_does_not_repeat_all_of_a_long_argument() -> None:
    short = LOOK.model_copy(update={"input_schema": {"properties": {"city": {"maxLength": 9}}}})
    [answer] = read(reply(use("u1", "look", city="x" * 50_000)), tools=[short]).decision.answers
    assert len(answer.text) < 500
    assert "is too long" in answer.text
    [answer] = read(reply(use("u1", "x" * 50_000))).decision.answers
    assert len(answer.text) < 500
