"""A W&B workspace and report over runs, by `wandb_workspaces`; every figure has the name that it is logged by."""

from collections.abc import Sequence
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from veil.metrics.distribution import KID
from veil.metrics.identification import RANKS
from veil.metrics.image import SSIM
from veil.metrics.information import BITS
from veil.metrics.measure import WORST, Measure, name_of
from veil.report.names import logged_name

MASKER = wr.Config("choices/masker")
KNOBS = ("choices/masker", "ratio", "cells", "choices/inpainter", "choices/recognizer", "seed")
TITLE = "Veil: what is left of whom, and what it cost"
PINNED = ("config:choices/masker.value", "config:ratio.value", "summary:privacy/worst/rank1/value", "summary:flags")
Panels = dict[str, list[Any]]  # by what they show
WIDE, HALF, HIGH = 24, 12, 10


def figure(measure: Measure, subject: str = "") -> str:
    """What its value is logged as."""
    return f"{logged_name(name_of(measure, subject))}/value"


def sections(whitebox: str, judges: Sequence[str]) -> Panels:
    """The panels, by what they show.

    Args:
        judges: beside the white box.

    """
    subjects = [WORST, whitebox, *judges]
    ranks = [figure(RANKS[1], subject) for subject in subjects]
    frontier = [
        wr.ScatterPlot(
            title=f"SSIM against {measure.meaning} ({WORST})",
            x=wr.SummaryMetric(figure(measure, WORST)),
            y=wr.SummaryMetric(figure(SSIM)),
            layout=_at(place),
        )
        for place, measure in enumerate((RANKS[1], BITS))
    ]
    curves = [
        wr.LinePlot(
            title=f"rank-1 by ratio, {subject}",
            x="ratio",
            y=[name],
            groupby=MASKER,
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            title_x="ratio",
            range_y=(0, 1),
            layout=_at(place),
        )
        for place, (subject, name) in enumerate(zip(subjects, ranks, strict=True))
    ]
    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(knob)) for knob in KNOBS]
    ends = [figure(RANKS[1], WORST), figure(SSIM), figure(KID, whitebox)]
    columns += [wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(name)) for name in ends]
    bars = [
        wr.BarPlot(
            title=f"rank-1 by masker, {subject}", metrics=[name], groupby=MASKER, range_x=(0, 1), layout=_at(place)
        )
        for place, (subject, name) in enumerate(zip(subjects, ranks, strict=True))
    ]
    live = [
        wr.LinePlot(title=title, x="RelativeTime(Process)", y=[name], layout=_at(place))
        for place, (title, name) in enumerate(
            (("faces done", "live/faces_done"), ("faces a second", "live/faces_a_second"))
        )
    ]
    return {
        "Frontier": frontier,
        "Curves by ratio": curves,
        "Knobs": [wr.ParallelCoordinatesPlot(title="knobs and what came of them", columns=columns, layout=_wide(HIGH))],
        "Maskers": bars,
        "Faces": [wr.WeavePanelSummaryTable(table_name="faces", layout=_wide(2 * HIGH))],
        "Work": live,
    }


def workspace(project: str, entity: str, panels: Panels) -> ws.Workspace:
    """A view of the project with a section for each part."""
    return ws.Workspace(
        entity=entity,
        project=project,
        name="Veil",
        sections=[ws.Section(name=name, panels=part, is_open=True) for name, part in panels.items()],
        runset_settings=ws.RunsetSettings(pinned_columns=["run:displayName", *PINNED]),
    )


def report(project: str, entity: str, panels: Panels) -> wr.Report:
    """A page with a heading and a grid for each part."""
    blocks: list[Any] = []
    for name, part in panels.items():
        runs = wr.Runset(entity=entity, project=project, name="evaluations", filters="JobType = 'evaluate'")
        blocks += [wr.H2(text=name), wr.PanelGrid(runsets=[runs], panels=part)]
    return wr.Report(entity=entity, project=project, title=TITLE, blocks=blocks, width="fluid")


def _at(place: int) -> wr.Layout:
    """Two a row."""
    return wr.Layout(x=place % 2 * HALF, y=place // 2 * HIGH, w=HALF, h=HIGH)


def _wide(height: int) -> wr.Layout:
    return wr.Layout(w=WIDE, h=height)
