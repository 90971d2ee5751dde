"""What the campaign's tests share: the suites that need the shim are left out where it cannot be built, but not in CI."""

from __future__ import annotations

import os

import pytest

from tests.campaign.shim import NoCompiler, built


@pytest.fixture(scope="session")
def compiler() -> None:
    """There is a C compiler that builds the shim."""
    try:
        with built():
            return
    except NoCompiler as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
