"""Whether this is `make thorough`: more cards and more draws of what the suite looks at in any case."""

import os

THOROUGH = os.environ.get("THOROUGH") == "1"
