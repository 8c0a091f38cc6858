"""python -m debiasdpo.report.dashboard --entity TEAM [--project debiasdpo]     a view in Weights & Biases.

Saves a workspace for comparing the runs of sweeps: how much bias fell, on trained and on unseen categories,
and what that did to accuracy, by model, training context and method; and the curves of training. Needs a
key (`wandb login`) and `pip install 'debiasdpo[wandb]'`. Saved again, it is a new one beside the old.
"""

import argparse
import importlib
import sys
from typing import Any

from debiasdpo.evaluation import catalog
from debiasdpo.evaluation.keys import Key
from debiasdpo.tracking.tracker import SETTING

BARS = tuple((bar.label, bar.key("tuned")) for bar in catalog.shown("dashboard"))
CURVES = (
    ("Losses", ("train/dpo", "train/sft", "train/consistency")),
    ("Reward accuracy", ("train/reward_accuracy",)),
    (
        "Validation: bias",
        ("validation/bias_trained", "validation/bias_unseen", "validation/bias_placebo"),
    ),
    (
        "Validation: bias / spread",
        tuple(f"validation/relative_bias_{kind}" for kind in ("trained", "unseen", "placebo")),
    ),
    ("Validation: spread", ("validation/spread",)),
    ("Validation: Spearman", ("validation/spearman", "validation/spearman_neutral")),
)
SPEARMAN = str(Key("accuracy/spearman", "tuned"))
AGAINST = (
    ("Bias against accuracy", str(Key("bias/trained", "tuned"))),
    ("Relative bias against accuracy", str(Key("relative_bias/trained", "tuned"))),
)


def workspace(entity: str, project: str, name: str) -> Any:
    """The workspace, not yet saved."""
    panels: Any = importlib.import_module("wandb_workspaces.reports.v2")
    workspaces: Any = importlib.import_module("wandb_workspaces.workspaces")
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            workspaces.Section(
                name="Results",
                is_open=True,
                panels=[
                    *(panels.BarPlot(title=title, metrics=[metric]) for title, metric in BARS),
                    *(
                        panels.ScatterPlot(
                            title=title,
                            x=panels.SummaryMetric(bias),
                            y=panels.SummaryMetric(SPEARMAN),
                        )
                        for title, bias in AGAINST
                    ),
                ],
            ),
            workspaces.Section(
                name="Training",
                is_open=True,
                panels=[
                    panels.LinePlot(title=title, x="step", y=list(metrics))
                    for title, metrics in CURVES
                ],
            ),
        ],
        # A run's group names model, data and training context: each bar is a mean over seeds.
        runset_settings=workspaces.RunsetSettings(
            groupby=[
                workspaces.Metric("group"),
                workspaces.Config("method.name"),
                workspaces.Config(SETTING),
            ]
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m debiasdpo.report.dashboard")
    parser.add_argument("--entity", required=True, help="user or team that owns the project")
    parser.add_argument("--project", default="debiasdpo", help="as tracker.project")
    parser.add_argument("--name", default="Debiasing-DPO: runs compared")
    options = parser.parse_args()
    try:
        print(workspace(options.entity, options.project, options.name).save().url)
    except ImportError:
        sys.exit("Error: this needs a package: pip install 'debiasdpo[wandb]'")
    except Exception as error:  # noqa: BLE001 (W&B raises whatever its server says)
        sys.exit(f"Error: W&B did not save the workspace: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()
