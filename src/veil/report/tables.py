"""Tables for the console."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def metrics_table(figures: Mapping[str, Any]) -> Table:
    """What `metrics.json` holds, with intervals; a figure that could not be measured is shown with its reason."""
    table = Table("metric", "value", "95 % interval", "n", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, figure in figures["metrics"].items():
        interval = f"{figure['low']:.3f} .. {figure['high']:.3f}"
        table.add_row(name, f"{figure['value']:.3f}", interval, str(figure["n"]))
    for name, reason in figures["absent"].items():
        table.add_row(name, "absent", reason, "")
    return table
