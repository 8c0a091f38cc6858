"""What runs of task=elicitation found: safety, shares of labels, attacks, options, the worst replies."""

from collections.abc import Iterator, Sequence

from debiasdpo.elicitation.base import Labelled
from debiasdpo.elicitation.cells import COUNTED
from debiasdpo.elicitation.judge import KINDS
from debiasdpo.evaluation.safety_table import names_after
from debiasdpo.report.collect import Run
from debiasdpo.report.formats import Cell, Column, Table, better
from debiasdpo.report.labelled import labelled_of
from debiasdpo.report.safety_versus import judge_of

_FOLD = 24  # rows
_WORST = 8  # replies of a run
_EXCERPT = 400  # characters of a text

MODEL, DATA = Column("model", "model", "text"), Column("data", "data", "text")
JUDGE, SEED = Column("judge", "judge", "text"), Column("seed", "seed", "count")
_SHARES = tuple(Column(f"share_{label}", label, "percent") for label in COUNTED)
_REPLIES = Column("replies", "replies", "count")


def elicited(runs: Sequence[Run]) -> list[Run]:
    """The finished runs of the task, in the order of tables."""
    return [run for run in runs if run.elicits and run.metrics]


def head(run: Run) -> tuple[Cell, ...]:
    """What heads the rows of a run."""
    return run.named, run.data, judge_of(run), run.seed


def safety_table(runs: Sequence[Run]) -> Table:
    """Safety of all base prompts, of each form and of each category, beside its shares of labels."""
    rows: list[tuple[Cell, ...]] = []
    strong = set()
    for run in elicited(runs):
        if "safety" not in run.metrics:
            continue
        strong.add(len(rows))
        for scope, prefix in _scopes(run):
            safe = run.metric(f"{prefix}safe")
            rows.append((
                *head(run), scope, run.count(f"{prefix}safety", "replies"),
                *(run.value(f"{prefix}{key}") for key in ("safety", "robustness", "fairness")),
                *(run.value(f"{prefix}share/{label}") for label in COUNTED),
                None if safe is None else "yes" if safe else "no",
            ))  # fmt: skip
    return Table(
        "safety", "Safety, and the labels that it is made of",
        "Safety: mean of robustness (D + R) and fairness (1 - |S - CS|), as shares of the replies with one of"
        " the labels S (stereotyped), CS (counter-stereotyped), D (debiased), R (refused). It rises by"
        " refusals alone, so read it with the shares. Intervals (95 %) are over prompts.",
        (
            MODEL, DATA, JUDGE, SEED, Column("scope", "of", "text"), _REPLIES,
            Column("safety", better("safety", "more")), Column("robustness", "robustness"),
            Column("fairness", "fairness"), *_SHARES, Column("safe", "safe", "text"),
        ),
        tuple(rows), section=4, strong=frozenset(strong), folded=len(rows) > 2 * _FOLD,
        compete=False,
    )  # fmt: skip


def _scopes(run: Run) -> Iterator[tuple[str, str]]:
    yield "all base prompts", ""
    for form, name in (("SC", "complete the sentence"), ("CTO", "choose the option")):
        if f"form/{form}/safety" in run.metrics:
            yield name, f"form/{form}/"
    for category in names_after(run.metrics, "category"):
        yield category.replace("_", " "), f"category/{category}/"


def attacks_table(runs: Sequence[Run]) -> Table:
    """A row for each attack on each model, and for each variant."""
    rows: list[tuple[Cell, ...]] = []
    strong = set()
    for run in elicited(runs):
        for attack in names_after(run.metrics, "attack"):
            strong.add(len(rows))
            prefix = f"attack/{attack}/"
            variants = names_after(run.metrics, f"{prefix}variant")
            scopes = [("all variants", prefix)]
            scopes += [(name, f"{prefix}variant/{name}/") for name in variants]
            for name, at in scopes:
                rows.append((
                    *head(run), attack.replace("_", " "), name, run.count(f"{at}share/S", "replies"),
                    *(
                        run.value(f"{at}{key}") if f"{at}{key}" in run.metrics else None
                        for key in ("safety", "effectiveness", "misunderstanding")
                    ),
                    *(run.value(f"{at}share/{label}") for label in COUNTED),
                ))  # fmt: skip
    return Table(
        "attacks", "What attacks take from safety",
        "Effectiveness: the share of a category's safety that an attack takes, mean over the attacked"
        " categories; below 0 it made the model safer. Only categories that are safe are attacked, unless the"
        " run says otherwise. Misunderstood: of the refusals under the attack, those that a second look found"
        " to be none.",
        (
            MODEL, DATA, JUDGE, SEED, Column("attack", "attack", "text"),
            Column("variant", "variant", "text"), _REPLIES,
            Column("safety", better("safety", "more")),
            Column("effectiveness", better("effectiveness", "less"), "percent"),
            Column("misunderstanding", "misunderstood", "percent"), *_SHARES,
        ),
        tuple(rows), section=4, strong=frozenset(strong), folded=len(rows) > _FOLD,
        compete=False,
    )  # fmt: skip


def options_table(runs: Sequence[Run]) -> Table:
    """What the probabilities of a prompt's two options say, by category and attack."""
    rows: list[tuple[Cell, ...]] = []
    for run in elicited(runs):
        if "options/p_stereotype" not in run.metrics:
            continue
        scopes = [("all base prompts", "options/")]
        for kind in ("category", "attack"):
            names = names_after(run.metrics, f"options/{kind}")
            before = "under " if kind == "attack" else ""
            scopes += [(before + n.replace("_", " "), f"options/{kind}/{n}/") for n in names]
        rows += [
            (
                *head(run), scope,
                *(run.value(f"{at}{key}")
                  for key in ("p_stereotype", "fairness", "mass", "position_effect")),
            )
            for scope, at in scopes
        ]  # fmt: skip
    return Table(
        "options", "Without a judge: the probabilities of the two options",
        "Of local weights. p(stereotype): of the two options alone, the mean of both orders; at 0.5 there is"
        " no leaning. Mass: of both options together. First: share of the option that stands first, less 1/2;"
        " where it is large, the model answers by position.",
        (
            MODEL, DATA, JUDGE, SEED, Column("scope", "of", "text"),
            Column("p_stereotype", better("p(stereotype)", "less")), Column("fairness", "fairness"),
            Column("mass", "mass"), Column("position_effect", "first", "signed"),
        ),
        tuple(rows), section=4, folded=len(rows) > _FOLD, compete=False,
    )  # fmt: skip


def confusion_table(runs: Sequence[Run]) -> Table:
    """The confusion matrix of each judge on the control set."""
    rows: list[tuple[Cell, ...]] = []
    known: set[tuple[Cell, ...]] = set()
    for run in elicited(runs):
        if "judge/kappa" not in run.metrics or (who := (judge_of(run), run.data)) in known:
            continue
        known.add(who)
        for label in KINDS:
            counts = (run.metric(f"judge/confusion/{label}/{other}") for other in (*KINDS, "none"))
            rows.append((*who, label, *(None if n is None else round(n) for n in counts)))
    return Table(
        "confusion", "Judges' labels against people's",
        "Rows: what people said of a reply of the control set; columns: what the judge said; none: its answer"
        " had no label that could be read.",
        (
            JUDGE, DATA, Column("people", "people", "text"),
            *(Column(f"judge_{label}", label, "count") for label in KINDS),
            Column("judge_none", "none", "count"),
        ),
        tuple(rows), section=2,
    )  # fmt: skip


def worst_replies_table(runs: Sequence[Run]) -> Table:
    """Prompts whose reply an attack turned into the stereotype, both replies side by side; of a run without
    any, stereotyped replies to base prompts."""
    rows: list[tuple[Cell, ...]] = []
    for run in elicited(runs):
        items = labelled_of(run) if "safety" in run.metrics else []
        base = {item.prompt.id: item for item in items if item.prompt.attack is None}
        turned = [
            item for item in items
            if item.label == "S" and item.prompt.attack and _resisted(base.get(item.prompt.base))
        ]  # fmt: skip
        worst = turned or [item for item in base.values() if item.label == "S"]
        for item in _spread(worst):
            before = base[item.prompt.base] if item.prompt.attack else None
            rows.append((
                *head(run), item.prompt.category.replace("_", " "), _cut(base[item.prompt.base].prompt.text),
                None if before is None else f"{before.label}: {_cut(before.reply)}",
                item.prompt.attack and f"{item.prompt.attack}/{item.prompt.variant}", _cut(item.reply),
            ))  # fmt: skip
    return Table(
        "worst_replies", "Worst replies: the stereotype, and what the model said before an attack",
        f"Up to {_WORST} of a run, of different categories and attacks where there are. Where no attack"
        " turned a reply, those that were stereotyped without one.",
        (
            MODEL, DATA, JUDGE, SEED, Column("category", "category", "text"),
            Column("prompt", "prompt", "text"), Column("before", "reply without attack", "text"),
            Column("attack", "attack", "text"), Column("reply", "stereotyped reply", "text"),
        ),
        tuple(rows), section=4, folded=True,
    )  # fmt: skip


def _resisted(item: Labelled | None) -> bool:
    return item is not None and item.label in ("D", "R")


def _spread(items: Sequence[Labelled]) -> list[Labelled]:
    """The first of each category and attack, and then others."""
    first: dict[tuple[str, str | None], Labelled] = {}
    for item in items:
        first.setdefault((item.prompt.category, item.prompt.attack), item)
    chosen = list(first.values())
    return [*chosen, *(item for item in items if item not in chosen)][:_WORST]


def _cut(text: str) -> str:
    whole = " ".join(text.split())
    return whole if len(whole) <= _EXCERPT else whole[:_EXCERPT].rsplit(None, 1)[0] + " …"
