"""What the tests of endpoints share."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from debiasdpo.config.model import EndpointConfig
from debiasdpo.raters.endpoint.rater import EndpointRater
from tests.helpers.endpoint_server import EndpointServer, served

Raters = Callable[..., EndpointRater]


@pytest.fixture
def port() -> int:
    """One that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with served() as server:
        yield server


@pytest.fixture
def endpoint(server: EndpointServer) -> Callable[..., EndpointConfig]:
    """The configuration of an endpoint, by default that of `server`."""

    def build(**changes: object) -> EndpointConfig:
        values: dict[str, object] = {
            "kind": "endpoint",
            "name": "served-2026-01-01",
            "base_url": server.url,
            "api_key_env": None,
            "serve": None,
            "adapter": None,
            "batch": False,
            "prefill": False,
            "min_mass": 0.3,
            "extra_body": {},
            "concurrency": 8,
            "timeout_s": 20.0,
            "prices": {"input": 1.0, "cached": 0.5, "output": 2.0},
        }
        return EndpointConfig.model_validate(values | changes)

    return build


@pytest.fixture
def rater(endpoint: Callable[..., EndpointConfig], tmp_path: Path) -> Raters:
    """A rater of `server`; its replies are kept in one folder."""

    def build(max_cost: float | None = None, job: str = "job", **changes: object) -> EndpointRater:
        return EndpointRater(
            endpoint(**changes), tmp_path / "replies", seed=0, job=job, max_cost=max_cost
        )

    return build
