"""The pairs stage: preference pairs that the model makes itself."""

import logging
from pathlib import Path

from debiasdpo.documents.corpus import SplitCorpus
from debiasdpo.errors import UserError
from debiasdpo.jobs.job import Job
from debiasdpo.stages.asked import log_statements, training_prompts
from debiasdpo.stages.declarations import PAIRS, REASONING
from debiasdpo.stages.rating import rate
from debiasdpo.stages.rating_task import reply_of
from debiasdpo.storage.files import JsonlFile, fingerprint, write_jsonl
from debiasdpo.training.pairs import Pair, make_pairs, mostly_the_same, official_row, to_row

log = logging.getLogger(__name__)


def pair_up(
    job: Job, corpus: SplitCorpus, start: Path | None = None
) -> tuple[list[Pair], dict[str, int]]:
    """pairs.jsonl: the training part, with neutral and biased reasoning as far as the method uses it, of the
    untrained model or of that with the weights `start`. Returns the pairs, and counts of those made, kept
    and left out."""
    config = job.config
    replies = {}
    if REASONING.needed(config):
        rows = JsonlFile(rate(job, corpus, REASONING, weights=start))
        replies = {row["key"]: reply_of(row) for row in rows}
    by_id = {d.id: d for d in corpus.parts["train"]}
    prompts = training_prompts(config, corpus)
    pairs, counts = make_pairs(
        prompts, replies, by_id, corpus.scales, config.method, config.rate.readout
    )
    alike = mostly_the_same(counts)
    if not pairs:
        mend = alike or (
            "Lower method.min_shift, give more training documents, raise rate.max_new_tokens where replies"
            " are cut, or, if ratings cannot be read, set rate=expected or change prompt.instruction"
        )
        raise UserError(f"No preference pair is left: {counts}. {mend}.")
    rows_of_pairs = [to_row(p) for p in pairs]
    inputs = PAIRS.inputs(config, pairs=fingerprint(rows_of_pairs))
    with job.store.stage(PAIRS.store, inputs) as stage:

        def work() -> list[str]:
            write_jsonl(stage.folder / "pairs.jsonl", rows_of_pairs)
            if not config.method.prefers:
                return ["pairs.jsonl"]
            write_jsonl(stage.folder / "pairs_official.jsonl", map(official_row, pairs))
            return ["pairs.jsonl", "pairs_official.jsonl"]

        job.make(PAIRS.title, stage, work, into="pairs")
    log_statements(config, corpus)
    log.info("pairs: %s", ", ".join(f"{count} {what}" for what, count in counts.items()))
    if alike:
        log.warning("pairs: %s", alike)
    return pairs, counts
