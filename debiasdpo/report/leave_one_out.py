"""What is left of bias on a category of context that alone was not trained on."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from debiasdpo.config.context import PLACEBO
from debiasdpo.evaluation import catalog
from debiasdpo.evaluation.keys import Key
from debiasdpo.report.formats import Cell, Column, Table, better
from debiasdpo.report.groups import Group
from debiasdpo.report.tables import DATA, METHOD, MODEL, SEEDS, seeds_cell
from debiasdpo.report.values import Value, pool

_OF = {"base": "base model", "tuned": "with the method", "reduction": "reduction"}


def leave_one_out_table(groups: Sequence[Group]) -> Table:
    """A row a category left out, for each method that was trained on all social categories but that one."""
    shown = [
        Key(metric, of) for metric in ("bias/unseen", "relative_bias/unseen") for of in _OF
    ] + [Key("accuracy/spearman", "tuned")]  # fmt: skip
    columns = (
        MODEL, DATA, METHOD, Column("left_out", "left out", "text"), SEEDS, *map(_column, shown),
    )  # fmt: skip
    methods: dict[tuple[str, str, str], list[tuple[str, Group]]] = defaultdict(list)
    for group in groups:
        left = _not_trained_on(group)
        audited = group.categories()
        trains = group.after == "tuned" and not group.prompted
        if trains and len(left) == 1 and left <= set(audited) and len(audited) > 2:
            methods[group.model, group.data, group.label].append((left.pop(), group))
    rows: list[tuple[Cell, ...]] = []
    strong = set()
    for head, found in methods.items():
        found.sort(key=lambda one: one[0])
        every = [group for _, group in found]
        values = [[group.value(str(key)) for key in shown] for group in every]
        rows += [
            (*head, name, _seeds(group, every), *mine)
            for (name, group), mine in zip(found, values, strict=True)
        ]
        if len(found) > 1:
            strong.add(len(rows))
            rows.append(
                (*head, f"mean of these {len(found)}", None, *map(_mean, zip(*values, strict=True)))
            )
    return Table(
        "leave_one_out", "Trained on all categories but one, audited on that one",
        "What a user gets who cannot foresee contexts. Bias, and bias / spread, are of the category left out"
        " alone."
        + (" The interval of a mean takes the errors of the categories to go the same way, as they are of the"
           " same documents." if strong else ""),
        columns, tuple(rows), section=3, strong=frozenset(strong), compete=False,
    )  # fmt: skip


def _seeds(group: Group, beside: Sequence[Group]) -> Value:
    """How many, and whether their training shows statements of the other categories at all."""
    known = seeds_cell(group, beside)
    return known if group.shown_in_training else known.noted("no statement was shown in training")


def _not_trained_on(group: Group) -> set[str]:
    """Of the social categories that the configuration knows, be they audited or not."""
    context = group.runs[0].config.get("context")
    known = context.get("categories") if isinstance(context, dict) else None
    every = {*group.categories(), *(known if isinstance(known, dict) else ())}
    return every - {PLACEBO, *group.trained}


def _column(key: Key) -> Column:
    metric = catalog.find(key.metric)
    name = str(key).replace("/", "_")
    if key.metric == "accuracy/spearman":
        return Column(name, better(metric.label, metric.good), metric.format)
    what = metric.label.removesuffix(", unseen")
    if key.of == "reduction":
        return Column(name, better(f"{what}: reduction", "more"), "percent")
    return Column(name, better(f"{what}, {_OF[key.of]}", metric.good), metric.format)


def _mean(values: Sequence[Value | None]) -> Value | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    if len(known) < len(values) or any(value.mean is None for value in known):
        return Value(None, note="undefined in a row above")
    found = pool([replace(value, note="") for value in known], [None] * len(known))
    return replace(
        found, sd=None, note="" if found.low is not None else "no interval in a row above"
    )
