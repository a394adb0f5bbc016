"""Stage 2: attack an anonymised set and measure what is left. Makes the set first, if it is not there.

A finished run is shown in seconds: nothing heavy at the top.
"""

from pathlib import Path

from veil.anonymization.matching import match
from veil.config import Config
from veil.data.header import read_header, read_keys
from veil.evaluation.results import read_results
from veil.report.names import run_name
from veil.report.published import unlogged
from veil.report.tables import metrics_table
from veil.storage.addresses import evaluation_folder, foreign_folder, set_folder, split_folder
from veil.storage.folders import RunFolder
from veil.storage.progress import console


def evaluate(config: Config) -> Path:
    """Make the run's folder, or find it; print its figures."""
    run = finished(config)
    logged = run is not None and not unlogged(run.path, config.logger)
    if not logged and "wandb" in config.logger["_target_"]:
        import wandb  # noqa: F401  (loaded after torch, it looks at every module of it, for 3 s)
    if run is None:
        from veil.tasks.measure import made_evaluation

        run = made_evaluation(config)
    else:
        console.print(f"Found the finished run in {run.path}", soft_wrap=True)
        if not logged:
            from veil.tasks.publish import log_found

            with run.claimed():  # or another process that finds it logs it, too
                log_found(config, run, run_name(config))
    results = read_results(run.path)
    console.print(metrics_table(results))
    for flag in results.flags:
        console.print(f"[bold yellow]flag[/]: {flag}")
    if config.anonymized is None:
        console.print(f"Pictures: {run.path.parent / 'samples.png'}", soft_wrap=True)
    console.print(f"Results:  {run.path.parent / 'probes' / 'results'}", soft_wrap=True)
    console.print(f"Report:   {run.path / 'report.html'}", soft_wrap=True)
    return run.path


def finished(config: Config) -> RunFolder | None:
    """The finished evaluation of this config; None where there is none, or where its photos have changed since."""
    split = split_folder(config)
    try:
        header = read_header(split.path)
    except FileNotFoundError:  # not prepared, or being prepared again
        return None
    if not header.unchanged:
        return None
    if config.anonymized is None:
        made = set_folder(config, header.checksum)
    else:
        pictures = match(Path(config.anonymized).expanduser(), read_keys(split.path)).pictures
        made = foreign_folder(config, header.checksum, pictures)
    run = evaluation_folder(config, made, header.counts["quarantined"])
    return run if run.complete else None
