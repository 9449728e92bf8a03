"""One embedded engine for all tests of its hooks."""

from collections.abc import Iterator

import pytest

from tests.engines.sample_stack import SCENARIO, TEMPLATE, Sample
from tests.limits import within_limits
from turnstile_cli.engines.embedded import Embedded
from turnstile_cli.models.scripted import ScriptedModel


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """Yield the sample stack, with a model that plays SCENARIO."""
    with (
        ScriptedModel([SCENARIO]) as model,
        Embedded.start(model=model.url, folder=tmp_path_factory.mktemp("engine")) as engine,
    ):
        engine.deploy(TEMPLATE, stack="sample")
        with within_limits(engine.client("stepfunctions")):
            yield Sample(engine)
