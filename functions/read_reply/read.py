"""From a reply to a decision. Pure: everything it knows comes with the request."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from jsonschema import Draft202012Validator
from pydantic import ValidationError

from agent.built_in import BUILT_INS, AskUser, BuiltIn, Complete, GiveUp, UpdatePlan
from agent.definition import TIMEOUT_MARGIN, Tool
from agent.record import Action, Answer, Call, Decision, PlanStep, Status, effect_record, step_record
from agent.turn import Agent, Asked, Reading, Step
from read_reply.reply import Reply, ToolUse, find_action, parse_reply

_NO_ACTION = (
    "The reply holds no action. Call one of the tools ({tools}), or answer with one JSON object "
    '{{"action": …, "details": …}}. To finish, call `complete`; to ask the user, call `ask_user`.'
)
_STOPPED = {
    "max_tokens": "The reply was cut off because it was too long. Nothing was carried out. Answer in fewer words.",
    "content_filtered": "The reply was blocked by a content filter. Nothing was carried out. Try another way.",
    "guardrail_intervened": "The reply was blocked by a guardrail. Nothing was carried out. Try another way.",
    "malformed_model_output": "The reply was malformed. Nothing was carried out. Answer again.",
    "malformed_tool_use": "The tool use was malformed. Nothing was carried out. Call the tool again.",
    "model_context_window_exceeded": "The conversation no longer fits the model. Nothing was carried out. Finish now.",
}
_DOUBTED = "Finish what is open, or bring the plan up to date; if it cannot be done, ask the user or give up."
_ACTIONS = {arguments.action: name for name, arguments in BUILT_INS.items()}


def read_reply(asked: Asked) -> Reading:
    """Checks a reply against the definition's tools and makes of it the next entry of the journal."""
    agent = asked.agent
    reply = parse_reply(asked.reply, asked.model_id, agent.prices)
    decision, plan = _decide(asked, reply)
    step = agent.step + 1
    replans = int(decision.action == "REPLAN")
    messages = [*asked.pending.messages]
    if reply.blocks:
        messages.append({"Role": "assistant", "Content": reply.blocks})
    return Reading(
        agent=_advance(agent, step, decision, reply, plan, replans),
        decision=decision,
        step=Step(
            record=step_record(step),
            previous_step=agent.step,
            messages=messages,
            inputs=asked.pending.inputs,
            usage=reply.usage,
            plan=plan,
            replans=replans,
        ),
    )


def _decide(asked: Asked, reply: Reply) -> tuple[Decision, list[PlanStep]]:
    """The decision, and the plan as it is from now on."""
    uses = reply.uses
    if stopped := _STOPPED.get(reply.stop_reason):
        return _invalid(asked.agent, stopped, [_wrong(use, stopped) for use in uses]), asked.agent.plan
    if not uses:
        found = _use_in_text(reply.text, whole=asked.agent.protocol == "tools")
        if isinstance(found, str) or found is None:
            names = ", ".join([*(tool.name for tool in asked.tools if not tool.hidden), *BUILT_INS])
            return _invalid(asked.agent, found or _NO_ACTION.format(tools=names), []), asked.agent.plan
        uses = [found]
    if len(uses) == 1 and uses[0].name in BUILT_INS:
        return _built_in(asked.agent, uses[0])
    return _tool_use(asked, uses), asked.agent.plan


def _use_in_text(text: str, whole: bool) -> ToolUse | str | None:
    """The action of the JSON protocol as a tool use; what is wrong with it; or None if there is none."""
    found = find_action(text, whole)
    if found is None:
        return None
    action, details = found["action"], found.get("details", {})
    if action == "TOOL_USE":
        match details:
            case {"toolName": str(name), **rest}:
                return ToolUse("", name, rest.get("parameters", {}))
        return 'TOOL_USE needs "details": {"toolName": NAME, "parameters": ARGUMENTS}.'
    if isinstance(action, str) and action in _ACTIONS:
        return ToolUse("", _ACTIONS[action], details)
    return f"There is no action {action!r}. Actions: TOOL_USE, {', '.join(_ACTIONS)}."


def _built_in(agent: Agent, use: ToolUse) -> tuple[Decision, list[PlanStep]]:
    try:
        arguments: BuiltIn = BUILT_INS[use.name].model_validate(use.input)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        message = f"Wrong arguments for {use.name}: {wrong}."
        return _invalid(agent, message, [_wrong(use, message)]), agent.plan
    common = {"tool_use_id": use.id, "reflection": arguments.reflection}
    match arguments:
        case UpdatePlan(steps=steps):
            replaced = bool(agent.plan) and [entry.action for entry in steps] != [entry.action for entry in agent.plan]
            kept = [Answer(tool_use_id=use.id, text="The plan is kept.")]
            return _decision(agent, "REPLAN" if replaced else "PLAN", answers=kept, **common), steps
        case AskUser(question=question):
            asked = _decision(agent, "ASK_USER", message=question, closes_as=Status.WAITING_FOR_INPUT, **common)
            return asked, agent.plan
        case Complete(result=result) if agent.doubts and agent.doubted:
            return _decision(
                agent, "MISALIGNED", message=" ".join(agent.doubts), answers=[_noted(use)], **common
            ), agent.plan
        case Complete() if agent.doubts:
            message = f"Before you finish: {' '.join(agent.doubts)} {_DOUBTED}"
            return _decision(
                agent, "INVALID", message=message, answers=[_wrong(use, message)], doubted=True
            ), agent.plan
        case Complete(result=result):
            return _decision(agent, "COMPLETE", message=result, closes_as=Status.COMPLETED, **common), agent.plan
        case GiveUp(reason=reason):
            return _decision(agent, "GIVE_UP", message=reason, answers=[_noted(use)], **common), agent.plan
    raise TypeError(f"{use.name} is offered to the model but not read")


def _tool_use(asked: Asked, uses: list[ToolUse]) -> Decision:
    agent, tools = asked.agent, {tool.name: tool for tool in asked.tools}
    calls: list[Call] = []
    answers: list[Answer] = []
    for use in uses:
        if wrong := _complaint(use, tools, len(calls), agent.limits.calls_per_reply):
            answers.append(_wrong(use, wrong))
            continue
        calls.append(_call(use, tools, len(calls), effect_record(agent.step + 1, len(calls))))
    if not calls:
        return _invalid(agent, " ".join(answer.text for answer in answers), answers)
    return _decision(
        agent,
        "TOOL_USE",
        status=Status.TOOL_EXECUTION_PENDING,
        calls=calls,
        answers=answers,
        fingerprint=_fingerprint(calls),
    )


def _call(use: ToolUse, tools: dict[str, Tool], index: int, key: str, alternative: int = 0) -> Call:
    """The call of a tool, or of its alternative with this number, with those after it nested."""
    asked = tools[use.name]
    tool = tools[asked.alternatives[alternative - 1]] if alternative else asked
    more = alternative < len(asked.alternatives)
    return Call(
        index=index,
        tool_use_id=use.id,
        name=tool.name,
        function=tool.function,
        effect=tool.effect,
        input=use.input,
        key=f"{key}#ALT{alternative}" if alternative else key,
        timeout_seconds=tool.timeout_seconds + TIMEOUT_MARGIN,
        alternative=_call(use, tools, index, key, alternative + 1) if more else None,
    )


def _complaint(use: ToolUse, tools: dict[str, Tool], calls: int, limit: int) -> str:
    """What is wrong with a tool use; empty if it can be carried out."""
    if use.name in BUILT_INS:
        return f"Call {use.name} alone."
    offered = [name for name, tool in tools.items() if not tool.hidden]
    if use.name not in offered:
        return f"There is no tool {use.name}. Tools: {', '.join([*offered, *BUILT_INS])}."
    if calls >= limit:
        return f"At most {limit} calls go into one reply. Call this one again in the next."
    errors = Draft202012Validator(tools[use.name].input_schema).iter_errors(use.input)
    wrong = [f"{'.'.join(map(str, error.absolute_path)) or 'arguments'}: {error.message}" for error in errors]
    return f"Wrong arguments for {use.name}: {'; '.join(sorted(wrong))}." if wrong else ""


def _noted(use: ToolUse) -> Answer:
    return Answer(tool_use_id=use.id, text="Noted.")


def _wrong(use: ToolUse, text: str) -> Answer:
    return Answer(tool_use_id=use.id, text=text, error=True)


def _invalid(agent: Agent, message: str, answers: list[Answer]) -> Decision:
    return _decision(agent, "INVALID", status=Status.PLANNING, message=message, answers=answers)


def _decision(agent: Agent, action: Action, **fields: Any) -> Decision:
    common = {"status": Status.PLANNING_COMPLETE, "closes_as": Status.PLANNING}
    return Decision(action=action, results_record=step_record(agent.step + 2), **{**common, **fields})


def _advance(agent: Agent, step: int, decision: Decision, reply: Reply, plan: list[PlanStep], replans: int) -> Agent:
    """The agent as it is once the decision is checkpointed; the journal gives the same when it is folded again."""
    used = agent.used
    if decision.fingerprint:
        repeats = used.repeats + 1 if decision.fingerprint == agent.fingerprint else 1
    else:
        repeats = used.repeats
    return agent.model_copy(
        update={
            "step": step,
            "rounds": agent.rounds + 1,
            "plan": plan,
            "fingerprint": decision.fingerprint or agent.fingerprint,
            "doubted": decision.doubted,
            "used": used.model_copy(
                update={
                    "steps": used.steps + 1,
                    "tokens": used.tokens + reply.usage.input_tokens + reply.usage.output_tokens,
                    "cost_micro_usd": used.cost_micro_usd + reply.usage.cost_micro_usd,
                    "replans": used.replans + replans,
                    "wrong_replies": used.wrong_replies + 1 if decision.action == "INVALID" else 0,
                    "repeats": repeats,
                }
            ),
        }
    )


def _fingerprint(calls: Iterable[Call]) -> str:
    same = sorted(json.dumps([call.name, call.input], sort_keys=True) for call in calls)
    return hashlib.sha256("\n".join(same).encode()).hexdigest()[:16]
