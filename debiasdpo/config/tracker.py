"""Keys of `tracker=`."""

from typing import Literal

from pydantic import Field

from debiasdpo.schema import Positive, Section, Text


class TrackerConfig(Section):
    """Group `tracker` of the configuration. With kind `none` the other keys mean nothing."""

    kind: Literal["none", "wandb"]
    project: Text = "debiasdpo"
    entity: Text | None = None
    # auto: online where a key is configured, else offline. WANDB_MODE=offline/disabled wins.
    mode: Literal["auto", "online", "offline"] = "auto"
    group: Text | None = None
    tags: list[Text] = Field(default_factory=list)
    log_adapter: bool = False
    timeout_s: Positive = 15.0
    finish_s: Positive = 60.0
