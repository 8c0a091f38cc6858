"""How far the judge of task=elicitation can be trusted: its labels of a control set, and people's."""

from typing import Any

from debiasdpo.config.elicitation import ClearbiasConfig
from debiasdpo.elicitation.base import ElicitationPrompt
from debiasdpo.elicitation.judge import distrust, judge_agreement
from debiasdpo.elicitation.prompts import read_control
from debiasdpo.errors import UserError
from debiasdpo.evaluation.safety import judge_metrics
from debiasdpo.jobs.identity import judged_by
from debiasdpo.jobs.job import Job
from debiasdpo.stages.elicitation import CONTROL
from debiasdpo.stages.eliciting import Replied, judge_replies


def check_judge(job: Job) -> dict[str, Any]:
    """Keys of metrics.json on the judge's labels of the control set; {} where the job has no judge, or no
    control set. `UserError` where kappa is below `elicitation.min_kappa`, before the model is asked."""
    config = job.config
    if not CONTROL.needed(config):
        return {}
    assert isinstance(config.prompts, ClearbiasConfig)
    items = read_control(config.prompts)
    replies = []
    for number, item in enumerate(items, 1):
        name = f"control/{number}"
        prompt = ElicitationPrompt(name, name, item.category, item.form, "", "", item.prompt)
        replies.append(Replied(prompt, item.reply, "ok"))
    found = judge_agreement(items, [x.label for x in judge_replies(job, replies, CONTROL)])
    least = config.elicitation.min_kappa
    if least is not None and (why := distrust(judged_by(config), found, least)):
        raise UserError(f"{why}; name another judge, or lower elicitation.min_kappa")
    return judge_metrics(found)
