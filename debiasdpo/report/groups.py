"""Runs that differ in nothing but the seed, and their metrics over seeds."""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from debiasdpo.config.context import PLACEBO
from debiasdpo.config.shown import joined
from debiasdpo.evaluation.kept import nothing_kept
from debiasdpo.evaluation.keys import Key, names, parse
from debiasdpo.report import alike
from debiasdpo.report.collect import Run, method_order, note_duplicate
from debiasdpo.report.values import Value, of_seeds, pool
from debiasdpo.storage.reading import note

BASE = "base model"
SIDES = ("flattering", "unflattering", PLACEBO)


@dataclass(frozen=True)
class Group:
    """Finished runs of one model, data set, method and training context, one a seed.

    `variant` says which other settings set it apart from its neighbours, as `loss.w_sft=0.1`. `base`:
    it stands for the base model of these runs.
    """

    model: str
    data: str
    method: str
    trained: tuple[str, ...]  # empty where nothing was trained
    variant: str
    runs: tuple[Run, ...]
    rated: str = ""  # of the variant, what the base model has too
    base: bool = False

    @property
    def trained_on(self) -> str:
        return joined(self.trained)

    @property
    def name(self) -> str:
        """Of what its metrics are of: the method, or the base model."""
        return BASE if self.base else self.method

    @property
    def label(self) -> str:
        """Name and variant: what tells groups of one model, data set and context apart."""
        return f"{self.name} ({self.variant})" if self.variant else self.name

    def is_called(self, name: str) -> bool:
        """Whether a name is that of its method, or of its method in its settings."""
        return name in (self.method, self.label)

    @property
    def title(self) -> str:
        label = self.label if self.after == "tuned" else replace(self, base=True).label
        return f"{self.model}, {self.data}: {label}{self.after_training}"

    @property
    def shown_in_training(self) -> tuple[str, ...]:
        """The categories of which statements were shown in training."""
        return self.runs[0].shown_in_training

    @property
    def shown_on(self) -> str:
        """`race`, or `no statement (race)`: the context of runs whose training did not show it."""
        on = self.shown_in_training
        return joined(on) if on else f"no statement ({self.trained_on})"

    @property
    def prompted(self) -> bool:
        """Whether it changes the prompts, and trains nothing."""
        method = self.runs[0].config.get("method")
        of = method if isinstance(method, dict) else {}
        return any(of.get(key) for key in ("reminder", "think", "rewrite"))

    @property
    def after_training(self) -> str:
        """`, trained on race`; empty where no statement was shown in training."""
        return after_training(joined(self.shown_in_training))

    @property
    def seeds(self) -> int:
        return len(self.runs)

    def value(self, key: str) -> Value | None:
        """A metric of metrics.json over the seeds; None where no run has it, undefined where some lack it."""
        if all(key not in run.metrics for run in self.runs):
            return None
        seeds = [run.seed for run in self.runs]
        return pool([run.value(key) for run in self.runs], seeds, self.shares_documents)

    @property
    def shares_documents(self) -> bool:
        """Whether seeds draw from the same documents. Simulated ones are made anew by each seed."""
        return all(run.source != "simulated" for run in self.runs)

    def unchanged(self, seeds: Container[int | None]) -> list[str]:
        """In which of these seeds no trained step was kept, so that they rate as before their training."""
        found: dict[str, list[int | None]] = defaultdict(list)
        for run in self.runs if self.after == "tuned" else ():
            if run.seed in seeds and (why := nothing_kept(run.folder)):
                found[why.rstrip(".")].append(run.seed)
        return [f"{of_seeds(same)}: {why}" for why, same in found.items()]

    def categories(self) -> tuple[str, ...]:
        """Audited categories, without the placebo."""
        found = (name for run in self.runs for name in names(run.metrics, "category"))
        return tuple(sorted(set(found)))

    @property
    def has_placebo(self) -> bool:
        return any("bias/placebo/base" in run.metrics for run in self.runs)

    def sides(self) -> list[tuple[str, str, Key]]:
        """Each category and side of its statements, with the key of the base model's mean shift; the
        placebo last."""
        found = [
            (category, side, Key(f"shift_{side}", "base", "category", category))
            for category in self.categories()
            for side in SIDES[:2]
        ]
        if self.has_placebo:
            found.append((PLACEBO, PLACEBO, Key("bias/placebo/shift", "base")))
        return found

    def count(self, key: str, what: str) -> str | None:
        """Of how many documents, groups or prompts a metric is, in each seed: `12`, or `11–12`."""
        known = [count for run in self.runs if (count := run.count(key, what)) is not None]
        if not known:
            return None
        low, high = min(known), max(known)
        return str(low) if low == high else f"{low}–{high}"

    def of(self, key: str) -> tuple[str, str] | None:
        """Of how many documents and groups a metric is; None where runs do not say."""
        documents, groups = self.count(key, "documents"), self.count(key, "groups")
        return None if documents is None or groups is None else (documents, groups)

    @property
    def after(self) -> str:
        """Which model its own metrics are of: `tuned`, or `base` where only the base model was rated."""
        return "tuned" if not self.base and any(run.changed for run in self.runs) else "base"

    @property
    def models(self) -> tuple[str, ...]:
        """Those that were rated: the base model, and the tuned one where there is one."""
        return tuple(dict.fromkeys(("base", self.after)))


def after_training(trained_on: str) -> str:
    """`, trained on race`, after a name; empty where nothing was trained."""
    return "" if trained_on == joined(()) else f", trained on {trained_on}"


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """The groups of all finished runs that rated, in the order that tables show them."""
    beside: dict[tuple[str, str], list[Run]] = defaultdict(list)  # in one figure
    for run in runs:
        if run.state != "finished" or not run.metrics or run.elicits:
            continue
        if run.configured:
            beside[run.model, run.data].append(run)
        else:
            note(
                run.notes, "left out of the tables, as nothing says in what it differs from others"
            )
    groups = []
    for (model, data), members in sorted(beside.items()):
        # Chosen once for all of them: equal labels are of equal settings, in whichever block they stand.
        every = [run.settings for run in members]
        rated = alike.differing(every, in_training=False)
        asked = alike.shown(every, rated)
        methods: dict[tuple[str, bool], list[Run]] = defaultdict(list)
        for run in members:
            methods[run.method, run.changed].append(run)
        for same in methods.values():
            groups += _of_method(model, data, same, rated, asked)
    return sorted(
        groups, key=lambda g: (g.model, g.data, method_order(g.method), g.trained, g.variant)
    )


def _of_method(
    model: str, data: str, runs: Sequence[Run], rated: set[alike.Setting], asked: alike.Shown
) -> list[Group]:
    """`rated`: the settings beside training in which runs of this model and data differ; `asked`: those of
    them that labels show."""
    found = [run.settings for run in runs]
    # What was trained on has a column.
    trained = {key for key in alike.differing(found) - rated if key[:2] != ("context", "train")}
    shown = {**asked, **alike.shown(found, trained, asked)}
    more = len(rated | trained) - len(shown)
    members: dict[tuple[tuple[str, ...], str], list[Run]] = defaultdict(list)
    for run in runs:
        on = run.trained if run.changed else ()
        members[on, alike.label(run.settings, shown, more)].append(run)
    groups = []
    for (on, variant), same in members.items():
        rated_as = alike.label(same[0].settings, asked, len(rated) - len(asked))
        kept = tuple(_one_a_seed(same))
        groups.append(Group(model, data, kept[0].method, on, variant, kept, rated_as))
    return groups


def _one_a_seed(runs: Sequence[Run]) -> Iterator[Run]:
    """The same configuration and seed in two places is one run, not two seeds."""
    seen: dict[int | None, Run] = {}
    for run in runs:
        if run.seed in seen:
            note_duplicate(run, seen[run.seed])
        else:
            seen[run.seed] = run
            yield run


def blocks(groups: Iterable[Group]) -> list[tuple[tuple[str, str, str], list[Group]]]:
    """Groups by model, data and training context; within, in the order of methods."""

    def key(group: Group) -> tuple[str, str, tuple[str, ...]]:
        return group.model, group.data, group.trained

    return [
        ((model, data, joined(trained)), list(found))
        for (model, data, trained), found in groupby(sorted(groups, key=key), key)
    ]


def base_groups(groups: Sequence[Group]) -> list[Group]:
    """The base model of groups of one model and data: one group, or several where it was rated in other ways,
    such as another readout."""
    return [base for base, _ in bases(groups)]


def bases(groups: Sequence[Group]) -> list[tuple[Group, list[Group]]]:
    """These, each with the groups that it is the base model of."""
    clusters: list[dict[int | None, Run]] = []
    members: list[list[Group]] = []
    for group in groups:
        mine = {run.seed: run for run in group.runs}
        for known, same in zip(clusters, members, strict=True):
            if _same_base(known, mine):
                known.update({s: run for s, run in mine.items() if s not in known})
                same.append(group)
                break
        else:
            clusters.append(mine)
            members.append([group])
    return [
        (replace(same[0], base=True, runs=tuple(known.values()), variant=name), same)
        for known, same, name in zip(clusters, members, _base_variants(members), strict=True)
    ]


def _base_variants(members: Sequence[Sequence[Group]]) -> list[str]:
    """How each base model was rated, where others of the model and data were rated in other ways; nothing of
    what made no difference to it."""
    ways = [{group.rated for group in same} for same in members]
    found = [next(iter(way)) if len(way) == 1 else "" for way in ways]
    if len(set(found)) == len(found):
        return found
    return [same[0].variant or same[0].method for same in members]


def _same_base(some: dict[int | None, Run], others: dict[int | None, Run]) -> bool:
    """Whether the base model's ratings are the same: in the seeds that both have, by what came out; where
    they share none, by all that it was rated with."""
    common = some.keys() & others.keys()
    if common:
        return all(_of_base(some[seed]) == _of_base(others[seed]) for seed in common)
    both = [run.settings for run in (*some.values(), *others.values())]
    return not alike.differing(both, in_training=False)


def _of_base(run: Run) -> dict[str, object]:
    """The base model's metrics that do not depend on what was trained on."""
    return {
        text: value
        for text, value in run.metrics.items()
        if (key := parse(text))
        and key.of == "base"
        and not key.metric.endswith(("/trained", "/unseen"))
    }
