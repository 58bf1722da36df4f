"""What tests of the report share."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def generator() -> np.random.Generator:
    """Fixed randomness."""
    return np.random.default_rng(0)
