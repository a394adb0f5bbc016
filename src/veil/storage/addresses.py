"""Where each task's results lie: an address for each config, of everything that changes the result."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from veil.config import Config
from veil.storage.fingerprint import SPEED, code, content, device_count, device_kind, digest, places, settings, versions
from veil.storage.folders import RunFolder

# What stage 1 runs: masking and painting, the white box, and the fit of its classifier
STAGE_1 = (
    "veil.anonymization.anonymizer",
    "veil.anonymization.anonymized_set",
    "veil.data.split",
    "veil.recognizers.whitebox",
    "veil.tasks.fit",
)

# The parts of an evaluation's address that say nothing of one face: its row is the same in every evaluation of the
# set that differs in these alone, but for the figures of judges that are others
NOT_OF_ROWS = frozenset(
    {"absent", "attacks", "attribute_classifiers", "controls", "features", "judges", "originals", "quarantined"}
    | {"split", "subgroups"}
)


def set_folder(config: Config, data: str) -> RunFolder:
    """`outputs/<data>/<masker>/<inpainter>/ratio=0.25/seed=0-<digest>`: what stage 1 makes of these photos.

    Args:
        data: checksum of the split.

    """
    names = config.choices
    knobs = ("ratio", "hide_at_far", "raggedness", "cells", "protect", "image_format")
    groups = ("masker", "inpainter", "recognizer", "surrogates", "classifier")
    parts = {
        "data": data,
        **{knob: getattr(config, knob) for knob in knobs},
        **({"attackers": config.split.attackers} if "of" in config.masker else {}),  # whose maps it takes
        **_settings(config, *groups),
        **_common(config, *STAGE_1),
    }
    return _addressed(config, Path(names.data, names.masker, names.inpainter, f"ratio={config.ratio:g}"), parts)


def evaluation_folder(config: Config, made: RunFolder, quarantined: int, absent: Sequence[str] = ()) -> RunFolder:
    """`<set>/evaluation-<digest>`: what stage 2 finds in a set.

    Args:
        quarantined: files that are no photos; the count is reported.
        absent: judges that cannot be had now; with them it is another evaluation.

    """
    groups = ("recognizer", "surrogates", "judges", "classifier", "attacks", "controls", "features", "metrics")
    parts = {
        "set": made.path.name,
        "quarantined": quarantined,
        "absent": sorted(absent),
        "name": config.choices.recognizer,
        "originals": config.logger["originals"],
        "split": {"attackers": config.split.attackers, "probes": config.split.probes},
        "subgroups": config.subgroups,
        "attribute_classifiers": config.attribute_classifiers,
        **_settings(config, *groups),
        **_common(config, "veil.tasks.measure"),
    }
    place = made.path.relative_to(made.outputs) / f"evaluation-{digest(parts, 4)}"
    return RunFolder(config.outputs, place, made.config, parts)


def foreign_folder(config: Config, data: str, pictures: Mapping[str, Path]) -> RunFolder:
    """`outputs/<data>/anonymized/<name>/seed=0-<digest>`: pictures that another tool made, cut as crops are.

    Args:
        data: checksum of the split.
        pictures: by the photos' keys.

    """
    source = Path(str(config.anonymized)).expanduser().resolve()
    name = source.stem if source.is_file() else source.name
    common = {"seed": config.seed, "code": code("veil.anonymization.foreign"), "packages": versions()}
    contents = asdict(config)
    contents["choices"] |= {"masker": name, "inpainter": "another tool"}
    contents["ratio"] = None  # nobody told
    held = digest({key: content(path, config.cache) for key, path in pictures.items()})
    parts = {"data": data, "pictures": held, "as": config.anonymized_as, **common}
    place = Path(config.choices.data, "anonymized", name, f"seed={config.seed}-{digest(parts, 4)}")
    return RunFolder(config.outputs, place, contents, parts)


def head_folder(config: Config, data: str) -> RunFolder:
    """`outputs/finetune/<data>/<recognizer>/seed=0-<digest>`: the same whichever task asks."""
    groups = _settings(config, "recognizer", "classifier")
    parts = {"data": data, "name": config.choices.recognizer, **groups, **_common(config, "veil.tasks.head")}
    return _addressed(config, Path("finetune", config.choices.data, config.choices.recognizer), parts)


def trunk_folder(config: Config, data: str, mode: str, loss: str) -> RunFolder:
    """`outputs/finetune/<data>/<recognizer>/<mode>/<loss>/seed=0-<digest>`."""
    groups = _settings(config, "task", "recognizer", "classifier", "trainer")
    groups["trainer"] = {name: knob for name, knob in groups["trainer"].items() if name not in ("devices", "strategy")}
    parts = {
        "data": data,
        "name": config.choices.recognizer,
        "devices": device_count(config.trainer),  # each adds a batch to a step
        **groups,
        **_common(config, "veil.tasks.finetune"),
    }
    return _addressed(config, Path("finetune", config.choices.data, config.choices.recognizer, mode, loss), parts)


def verification_folder(config: Config, data: str) -> RunFolder:
    """`outputs/verify/<data>/<recognizer>/seed=0-<digest>`."""
    groups = _settings(config, "task", "recognizer", "judges")
    parts = {"data": data, "name": config.choices.recognizer, **groups, **_common(config, "veil.tasks.verify")}
    return _addressed(config, Path("verify", config.choices.data, config.choices.recognizer), parts)


def split_folder(config: Config) -> RunFolder:
    """`<cache>/splits/<data>/seed=0-<digest>`: what every task on this data starts from."""
    parts = {
        "data": places(config.data),
        "gallery": config.split.gallery,
        "seed": config.seed,
        "on_error": config.on_error,
        "code": code("veil.tasks.prepare"),
        "packages": versions(),
    }
    place = Path("splits", config.choices.data, f"seed={config.seed}-{digest(parts, 4)}")
    return RunFolder(str(Path(config.cache).expanduser()), place, parts, parts, knob="cache")


def album_parts(config: Config, data: str) -> dict[str, Any]:
    """What a covered album depends on, beside its photos.

    Args:
        data: checksum of the split that thresholds are set on.

    """
    knobs = ("ratio", "raggedness", "cells", "protect", "until", "tries", "consistent", "on_no_face")
    task = {name: config.task[name] for name in ("doubtful", "sure", "video")}
    return {
        "data": data,
        **{knob: getattr(config, knob) for knob in knobs},
        "spare": None if config.spare is None else content(Path(config.spare).expanduser(), config.cache),
        "task": task,
        **_settings(config, "detector", "masker", "inpainter", "recognizer", "judges"),
        **_common(config, "veil.albums.album"),
    }


def looks_folder(config: Config, inputs: Sequence[str]) -> Path:
    """`<cache>/albums/<digest>`: what was seen in photos, whatever is done to them.

    Args:
        inputs: files and folders, absolute.

    """
    parts = {
        "inputs": list(inputs),
        "video": {name: config.task["video"][name] for name in ("every", "bridge")},
        **_settings(config, "detector", "recognizer", "judges"),
        **_common(config, "veil.albums.video"),
    }
    return Path(config.cache).expanduser() / "albums" / digest(parts)


def _settings(config: Config, *groups: str) -> dict[str, Any]:
    """The groups as they enter an address; the size of a batch counts where something is trained."""
    training = SPEED - {"batch_size", "compile", "device"}
    return {
        group: settings(getattr(config, group), config.cache, training if group in ("classifier", "task") else SPEED)
        for group in groups
    }


def _common(config: Config, *stages: str) -> dict[str, Any]:
    """What every stage depends on: its code, precision, kind of device, seed, packages."""
    return {
        "seed": config.seed,
        "device": device_kind(config.trainer["accelerator"]),
        "precision": config.trainer["precision"],
        "code": code(*stages),
        "packages": versions(),
    }


def _addressed(config: Config, place: Path, parts: Mapping[str, Any]) -> RunFolder:
    return RunFolder(config.outputs, place / f"seed={config.seed}-{digest(parts, 4)}", asdict(config), parts)
