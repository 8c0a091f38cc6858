"""How many keys a user sees: each one more is a decision."""

from debiasdpo.config.job import JobConfig
from debiasdpo.config.keys import all_keys
from debiasdpo.config.model import CallableConfig, EndpointConfig, ModelConfig

# Raise it where a key is worth what it costs: a line in conf/, in the documentation, and in every reader's
# head. Say why in the commit.
KEYS = 179


def test_the_number_of_keys_is_a_decision() -> None:
    every = set(all_keys([JobConfig]))
    # Of debiasdpo.audit, not of the command line.
    every -= {f"model.{key}" for key in {*all_keys([CallableConfig])} - {*all_keys([ModelConfig])}}
    # A judge has those of a model, as has a writer.
    of_models = [*all_keys([EndpointConfig, ModelConfig])]
    every -= {f"{role}.{key}" for role in ("judge", "writer") for key in of_models}
    # Prompts beside documents have those of prompts alone.
    every -= {key for key in every if key.startswith("elicitation.data.")}
    found = sorted(k for k in every if not any(other.startswith(f"{k}.") for other in every))
    assert len(found) == KEYS, "\n".join(found)
