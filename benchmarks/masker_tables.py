"""The tables on maskers in docs/results.md, as Markdown: of evaluated runs, and of `benchmarks/maskers.py`'s curves.

    python benchmarks/masker_tables.py runs outputs/lfw
    python benchmarks/masker_tables.py curves curves

The folders must hold one comparison: runs that differ in nothing but masker and ratio, curves of the same faces. Below
the runs: every two maskers of one ratio, held-out rank-1, paired over people.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from veil.metrics.distribution import KID
from veil.metrics.geometry import LANDMARK_ERROR
from veil.metrics.identification import RANKS
from veil.metrics.information import BITS
from veil.metrics.measure import WORST, name_of
from veil.metrics.verification import TAR
from veil.report.compare import paired_rows
from veil.report.runs import candidates, find_runs, read_runs

HELD_OUT = name_of(RANKS[1], "dlib")
FIGURES = {  # of a run: heading, digits
    name_of(RANKS[1], "facenet"): ("white box rank-1", 2),
    HELD_OUT: ("held-out rank-1 (dlib)", 2),
    name_of(TAR[1e-3], "dlib"): ("held-out TAR@FAR=1e-3", 3),
    name_of(RANKS[1], WORST): ("worst attack, rank-1", 2),
    name_of(BITS, WORST): ("bits left, worst", 1),
    name_of(KID, "facenet"): ("KID (FaceNet)", 2),
    name_of(KID, "dlib"): ("KID (dlib)", 2),
    name_of(LANDMARK_ERROR): ("landmark error", 3),
}
ORDER = ("random", "gradcam", "saliency", "integrated_gradients", "occlusion", "rise")
ORDER += ("whole_face", "landmarks", "t_zone", "ensemble", "search")


def runs_table(folders: Sequence[Path]) -> None:
    """Masker x ratio, each with its difference from `random`; then all differences."""
    found = candidates(read_runs(find_runs(folders)))
    runs = sorted(found, key=lambda one: (one.settings["ratio"], place(one.settings["masker"])))
    pairs = [row for row in paired_rows(runs) if row["figure"] == HELD_OUT]
    from_random = {(row["ratio"], row["second"]): difference(row) for row in pairs if row["first"] == "random"}
    heading("ratio", "masker", *(name for name, _ in FIGURES.values()), "held-out rank-1 less random's")
    for run in runs:
        measured = {name: figure.interval._asdict() for name, figure in run.measured.items()}
        ratio, masker = run.settings["ratio"], run.settings["masker"]
        cells = [between(measured.get(name), digits) for name, (_, digits) in FIGURES.items()]
        line(f"{ratio:g}", f"`{masker}`", *cells, from_random.get((ratio, masker), ""))
    print()
    for row in pairs:
        print(
            f"{row['ratio']:g}: {row['second']} less {row['first']} {difference(row)}; McNemar {row['p_mcnemar']:.1g}"
        )


def curves_table(folders: Sequence[Path]) -> None:
    """For each inpainter: smallest ratio, mean cosine, and TAR@FAR=1e-3 in per cent at each ratio."""
    found = {path.stem: json.loads(path.read_text()) for folder in folders for path in folder.glob("*.json")}
    ratios = sorted({ratio for curves in found.values() for ratio in curves["ratios"]})
    for inpainter in sorted({name for curves in found.values() for name in curves["inpainters"]}):
        heading(f"masker, `{inpainter}`", "smallest ratio", "mean cosine", *(f"{ratio:g}" for ratio in ratios))
        for masker in sorted(found, key=place):
            if inpainter in found[masker]["inpainters"]:
                figures = found[masker]["inpainters"][inpainter]
                needed = between(figures["smallest_ratio"], 2, absent=f"above {ratios[-1]:g}")
                accepted = [figures["accepted"].get(f"{ratio:g}") for ratio in ratios]
                percent = ("" if mean is None else f"{100 * mean['value']:.1f}" for mean in accepted)
                line(f"`{masker}`", needed, between(figures["mean_cosine"], 2), *percent)
        print()


def place(masker: str) -> tuple[int, str]:
    """Where a masker stands in a table; one of your own at its end."""
    return (ORDER.index(masker) if masker in ORDER else len(ORDER), masker)


def difference(row: Mapping[str, Any]) -> str:
    """Of two runs, with its interval and p-value."""
    return f"{row['difference']:+.2f} ({row['low']:+.2f} .. {row['high']:+.2f}), p = {row['p']:.3f}"


def between(figure: Mapping[str, float] | None, digits: int, absent: str = "absent") -> str:
    """A figure with its interval."""
    if figure is None:
        return absent
    return f"{figure['value']:.{digits}f} ({figure['low']:.{digits}f} .. {figure['high']:.{digits}f})"


def heading(*names: str) -> None:
    """Begin a table."""
    line(*names)
    print("|" + "---|" * len(names))


def line(*cells: str) -> None:
    """One row."""
    print("|", " | ".join(cells), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("runs", "curves"))
    parser.add_argument("folders", nargs="+", type=Path)
    args = parser.parse_args()
    {"runs": runs_table, "curves": curves_table}[args.kind](args.folders)


if __name__ == "__main__":
    main()
