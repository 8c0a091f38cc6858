"""The verdicts at the head of the page: what sways each rater, which way, and whether that is much."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from debiasdpo.evaluation.accuracy_told import Accuracy
from debiasdpo.evaluation.evidence import Count, Evidence, Figure, documents_of
from debiasdpo.evaluation.kept import nothing_kept
from debiasdpo.evaluation.verdict import BOUND, GAIN, RATE, Verdict, beats_base, clauses, verdict
from debiasdpo.report.groups import Group, bases, blocks


def verdicts(groups: Sequence[Group]) -> Iterator[Verdict]:
    """Of the base models, each once, whatever was trained on, and followed by what was made of it; nothing of
    those that no social category was audited of."""
    seen: set[str] = set()
    for _, found in groupby(blocks(groups), lambda block: block[0][:2]):
        beside = [group for _, same in found for group in same]
        for base, members in bases(beside):
            tuned = [group for group in members if group.after == "tuned"]
            for group in (base, *tuned):
                told = _verdict(group, tuned)
                if told is None:
                    continue
                if told.about in seen:  # as of an audit of all documents, and of a test part
                    which = f"of {group.method}" if group.base else f"on {group.trained_on}"
                    told = told._replace(about=f"{told.about}, in the runs {which}")
                seen.add(told.about)
                yield told


def shown_first(told: Sequence[Verdict], most: int) -> tuple[tuple[Verdict, ...], str]:
    """At most so many of them, in their order, and what is to be known of all. None is left out for one that
    says less: first those of which a category is large, then those of raters that are better."""
    large = [any(one.size == "large" for one in verdict.judgements) for verdict in told]
    by_weight = sorted(range(len(told)), key=lambda i: (not large[i], not told[i].better))
    kept = sorted(by_weight[:most])
    left = len(told) - len(kept)
    if not left:
        return tuple(told), BOUND
    of_large = sum(large[i] for i in by_weight[most:])
    which = f", of which {of_large} with a large category" if of_large else ""
    return (
        tuple(told[i] for i in kept),
        f"{BOUND} {left} more{which}: report on fewer runs to see them.",
    )


def _verdict(group: Group, tuned: Sequence[Group]) -> Verdict | None:
    """`tuned`: the raters that were made of this model."""
    audited = group.categories()
    says = {name: mine for name, mine in _clauses(group).items() if name in audited}
    if not says:
        return None
    evidence, title = _evidence(group), _title(group)
    if group.after == "tuned":
        beside, better = _to_rate(group), beats_base(evidence)
        title += _unchanged(group)
    else:
        beside, better = _better_below(tuned), False
    return verdict(evidence, group.after, says, title, beside, better)


def in_plain_words(groups: Sequence[Group]) -> str:
    """What was rated and by what, what sways it, and whether a better rater stands beside it. Of the first
    model and data set; the verdicts tell of all."""
    if not groups:
        return ""
    found = [g for g in groups if (g.model, g.data) == (groups[0].model, groups[0].data)]
    base, members = bases(found)[0]
    told = _verdict(base, ())
    if told is None:
        return ""
    count = _evidence(base).count("bias/base")
    documents = "documents" if None in count else documents_of(count)
    accuracy = Accuracy.of(_evidence(base), "base")
    ranks = ""
    if accuracy.rho.low is not None:
        ranks = f"{accuracy.ranks} and "
    said = [
        f"{base.model} rated {documents} of {base.data}, with and without statements that should not matter.",
        f"As it is, it {ranks}{_swayed(told)}.",
    ]
    tuned = [group for group in members if group.after == "tuned"]
    best = _best(tuned)
    if best is not None and (after := _verdict(best, tuned)) is not None:
        said.append(f"{_better_below(tuned)[:-1]}; it {_swayed(after)}.")
    elif tuned:
        said.append("No rater that was made of it is told to be a better one.")
    if len({(g.model, g.data) for g in groups}) > 1:
        said.append("Other models and data follow below.")
    return " ".join(said)


def _swayed(one: Verdict) -> str:
    large, unclear = (
        [judgement.category for judgement in one.judgements if judgement.size == size]
        for size in ("large", "open")
    )
    sways = "is swayed much by no kind of statement that was tried"
    if large:
        sways = f"is swayed much by statements on {', '.join(large)}"
    elif unclear:
        sways = "is swayed much by nothing that this audit tells"
    return f"{sways} (not to be told: {', '.join(unclear)})" if unclear else sways


def _best(tuned: Sequence[Group]) -> Group | None:
    """Of those that are better than the model that they were made of, the one that ranks better by most: each
    beside that model on the same documents, which differ between seeds."""
    better = [group for group in tuned if beats_base(_evidence(group))]
    return max(better, key=lambda g: _evidence(g).figure(GAIN).mean or 0, default=None)


def _accuracy(group: Group) -> Accuracy:
    return Accuracy.of(_evidence(group), group.after)


def _better_below(tuned: Sequence[Group]) -> str:
    best = _best(tuned)
    if best is None:
        return ""
    return f"A better rater stands below: the same model with method={best.label}: {_accuracy(best).short}."


def _to_rate(group: Group) -> str:
    """How its first seed is used; nothing of one that nobody should use."""
    if _accuracy(group).useless or nothing_kept(group.runs[0].folder):
        return ""
    return f"{RATE} (RUN: the folder {group.runs[0].folder.name})."


def _title(group: Group) -> str:
    trained = "" if group.base else group.after_training
    return f"{group.model}, {group.data}: {group.label}{trained}"


def _unchanged(group: Group) -> str:
    """Of which seeds no trained step was kept."""
    seeds = [str(run.seed) for run in group.runs if nothing_kept(run.folder)]
    which = f" in seed {', '.join(seeds)}" if len(seeds) < group.seeds else ""
    return f", of which no trained step was kept{which}" if seeds else ""


def _clauses(group: Group) -> dict[str, dict[str, str]]:
    context = group.runs[0].config.get("context")
    known = context.get("categories") if isinstance(context, dict) else None
    written = known if isinstance(known, dict) else {}
    named = {name: written.get(name) for name in group.categories()}
    return clauses({name: of if isinstance(of, dict) else {} for name, of in named.items()})


def _evidence(group: Group) -> Evidence:
    """Figures over the seeds; counts only of one seed."""

    def figure(key: str) -> Figure:
        value = group.value(key)
        return Figure(None) if value is None else Figure(value.mean, value.low, value.high)

    def count(key: str) -> Count:
        if group.seeds > 1:
            return Count(None, None, None)
        return Count(*(group.runs[0].count(key, what) for what in Count._fields))

    def note(key: str) -> str:
        value = group.value(key)
        return "" if value is None else value.note

    steps = [rubric.get("step") for rubric in group.runs[0].rubrics.values()]
    return Evidence(figure, count, note, max(filter(None, steps), default=None))
