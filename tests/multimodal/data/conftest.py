"""A cache folder of its own for each test."""

import pytest


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"
