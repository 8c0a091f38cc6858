"""The verdicts at the head of the page: what sways each rater, which way, and whether that is much."""

from collections.abc import Iterator, Sequence

from debiasdpo.evaluation.evidence import Count, Evidence, Figure
from debiasdpo.evaluation.verdict import Verdict, clauses, verdict
from debiasdpo.report.groups import Group, after_training, base_groups, blocks


def verdicts(groups: Sequence[Group]) -> Iterator[Verdict]:
    """Of the base models, each followed by what was made of it; nothing of those that no social category was
    audited of."""
    for _, found in blocks(groups):
        for group in [*base_groups(found), *(g for g in found if g.after == "tuned")]:
            audited = group.categories()
            says = {name: mine for name, mine in _clauses(group).items() if name in audited}
            if says:
                yield verdict(_evidence(group), group.after, says, _title(group))


def _title(group: Group) -> str:
    trained = "" if group.base else after_training(group.trained_on)
    return f"{group.model}, {group.data}: {group.label}{trained}"


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

    return Evidence(figure, count)
