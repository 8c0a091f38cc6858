"""Which step a run's trainings kept, from its folder: step 0 where none was good enough."""

from pathlib import Path

from debiasdpo.storage.reading import read_mapping


def kept_step(folder: Path, training: str = "training") -> object:
    """Of this training; None where there was none."""
    return read_mapping(folder / training / "best_step.json", []).get("step")


def nothing_kept(folder: Path) -> str:
    """That the rater after the method is the one before its last training, in a sentence; empty where it is
    another one."""
    if kept_step(folder) != 0:
        return ""
    whose = "the untrained model"
    of = "its training"
    if kept_step(folder, "fitting"):  # of two rounds (`method.rounds`)
        whose, of = "that of the first round", "its second round"
    return f"No step of {of} was good enough to be kept (training/best_step.json says why): it is {whose}."
