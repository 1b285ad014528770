"""An engine of each language, for the tests of what runs in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.runtime.python_guest import Python, python_engine


@pytest.fixture
async def python(tmp_path: Path) -> AsyncIterator[Python]:
    """Python guests."""
    async with python_engine(tmp_path) as found:
        yield found
