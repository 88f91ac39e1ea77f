"""A calibration for a database, fitted on its own photos when they were described."""

from __future__ import annotations

from whence.evaluation.confidence import SHARE_OF_DESCRIBING, calibrate_sample
from whence.index.store import Store
from whence.localize.build import BuildReport
from whence.localize.calibration_files import store_calibration
from whence.localize.localizer import Localizer


def calibrate_report(report: BuildReport, *, show_progress: bool | None) -> str:
    """The outcome in words of a calibration on the photos of a database that was just described;
    where one is fitted, it is kept there."""
    with Localizer.open(report.path) as localizer:
        own = calibrate_sample(
            localizer, max_seconds=SHARE_OF_DESCRIBING * report.seconds, show_progress=show_progress
        )
    if own.is_new and own.calibration is not None:
        with Store.open(report.path, writable=True) as store:
            store_calibration(store, own.calibration)
        return f"calibrated on {own.reason}"
    if own.calibration is None:
        return f"answers will not be verified: {own.reason}"
    return ""
