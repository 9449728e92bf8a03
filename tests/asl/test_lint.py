"""The lint command: what it lets pass, and what it stops."""

from pathlib import Path

import pytest

from scripts import lint_machines
from tests.asl.support import Broken, catches, holds, problem
from workflows.machines import InvalidDefinition, Machine, load_machine


def lint(machine):
    yield
