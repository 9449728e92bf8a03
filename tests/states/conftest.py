"""The service that carries out TestState: one embedded engine without a stack; AWS for tests marked `live`."""

import os
from collections.abc import Callable, Iterator
from functools import cache

import boto3
import pytest
from botocore.config import Config

from tests.asl.support import MACHINES
from tests.states.walk import Walk
from turnstile_cli.engines.embedded import REGION, Embedded

Walks = Callable[[str], Walk]


@pytest.fixture(scope="session", params=["embedded", pytest.param("aws", marks=pytest.mark.live)])
def walks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walks]:
    """Yield the walk through a machine, by its name."""
    if request.param == "aws":
        client = boto3.client("stepfunctions", region_name=os.environ.get("AWS_REGION"))
        yield cache(lambda name: Walk(MACHINES[name], client).walk())
        return
    with Embedded.start(folder=tmp_path_factory.mktemp("states"), wait_scale=0) as engine:
        local = boto3.client(
            "stepfunctions",
            endpoint_url=engine.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            # TestState has its own host: sync-states.
            config=Config(inject_host_prefix=False, proxies={}),
        )
        yield cache(lambda name: Walk(MACHINES[name], local).walk())
