"""The engine sees each change of the folder of faults at once, although it lists the folder only after a change."""

import os
import time
from pathlib import Path

import pytest

from turnstile_cli.engines.faults import Delivery, EngineFolder, Fault, Faults

FAULT = Fault(agent_id="a-1", state="AskModel")


def seen(folder: EngineFolder, place: str = "AskModel") -> list[str]:
    return [file.name for file, _ in folder.standing(Fault, place)]


def quiet(path: Path) -> None:
    """Let the folder look as if it had not changed for a second: then the engine keeps its list."""
    before = time.time_ns() - 1_000_000_000
    os.utime(path, ns=(before, before))


@pytest.mark.parametrize("rest", [False, True], ids=["at once", "after a rest"])
def test_each_change_is_seen(tmp_path: Path, rest: bool) -> None:
    faults, folder = Faults(tmp_path), EngineFolder(tmp_path)
    for _ in range(50):
        if rest:
            quiet(tmp_path)
        assert seen(folder) == []
        file = faults.put(FAULT)
        assert seen(folder) == [file.name]
        if rest:
            quiet(tmp_path)
        assert seen(folder) == [file.name]
        file.unlink()
        assert seen(folder) == []


def test_faults_are_told_apart_by_place_and_come_in_order(tmp_path: Path) -> None:
    faults, folder = Faults(tmp_path), EngineFolder(tmp_path)
    files = [faults.put(FAULT) for _ in range(11)]
    event = faults.put(Delivery(agent_id="a-1", machine="AskModel", how="lost"))
    faults.put(FAULT.model_copy(update={"state": "LoadTurn"}))
    assert seen(folder) == [file.name for file in files]
    assert [file for file, _ in folder.standing(Delivery, "AskModel")] == [event]
    assert seen(folder, "CloseTurn") == []
