"""Whether this is `make thorough`: more cards and more draws of what the suite looks at in any case, and what
other programs do by themselves."""

import os

import pytest

THOROUGH = os.environ.get("THOROUGH") == "1"

of_thorough = pytest.mark.skipif(not THOROUGH, reason="of another program alone: make thorough")
