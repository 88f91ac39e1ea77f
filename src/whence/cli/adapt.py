"""`whence train adapt --db`: the model of a database learns its photos, where that makes anything
better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from whence.cli.output import print_json, print_note, report_skipped, show
from whence.data.fields import as_text, printable

if TYPE_CHECKING:
    from whence.training.adapting import Trial
    from whence.training.recipe import Recipe


def adapt(
    path: str, recipe: Recipe, changes: Sequence[str], *, as_json: bool, show_progress: bool | None
) -> int:
    """Adapt, and say what held-out photos say of it; exit code 1 where the database stays as it
    was."""
    from whence.training.adapting import adapt_database

    trial, report = adapt_database(path, recipe, changes=changes, show_progress=show_progress)
    from whence.evaluation.own_calibration import calibrate_report

    remark = "" if report is None else calibrate_report(report, show_progress=show_progress)
    if as_json:
        gain, low, high = trial.gain
        before, after = float(trial.plain.mean()), float(trial.adapted.mean())
        print_json(
            {
                "database": path,
                "adapted": report is not None,
                "photos": trial.num_photos,
                "held_out": trial.num_held_out,
                "questions": len(trial.plain),
                "before": before,
                "after": after,
                "gain": gain,
                "gain_low": low,
                "gain_high": high,
                "share": trial.share,
                "seconds": trial.seconds,
                "calibration": remark,
            }
        )
        return int(report is None)
    if report is None:
        show(as_text(f"{path} is as it was: {_said(trial)}"))
        return 1
    report_skipped(report.skipped)
    show(as_text(f"{path}: adapted, {report.num_described} photos described again; {_said(trial)}"))
    if remark:
        print_note(remark)
    return 0


def undo(path: str, *, as_json: bool, show_progress: bool | None) -> int:
    """Make an adapted database what it was before."""
    from whence.localize.maintain import undo_adapting

    report = undo_adapting(path, show_progress=show_progress)
    from whence.evaluation.own_calibration import calibrate_report

    remark = calibrate_report(report, show_progress=show_progress)
    if as_json:
        print_json(
            {
                "database": path,
                "adapted": False,
                "described": report.num_described,
                "calibration": remark,
            }
        )
    else:
        report_skipped(report.skipped)
        show(
            f"{printable(path)}: as before it was adapted, {report.num_described} photos "
            "described again"
        )
    return 0


def _said(trial: Trial) -> str:
    gain, low, high = (100 * value for value in trial.gain)
    return (
        f"{trial.num_held_out} photos that nothing was learned from ask {len(trial.plain)} "
        f"questions, of which {100 * trial.plain.mean():.1f} % were answered rightly before and "
        f"{100 * trial.adapted.mean():.1f} % after ({gain:+.1f} [{low:.1f}, {high:.1f}]); "
        f"{trial.seconds:.0f} s"
    )
