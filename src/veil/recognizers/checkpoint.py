"""What fine-tuning leaves: weights (safetensors) and how they came about (JSON), for the split they were made on."""

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from veil.data.faces import Enrolment
from veil.errors import InputError
from veil.metrics.measure import Figure, by_name
from veil.recognizers.weights import State, read_state, write_state
from veil.storage.fingerprint import digest

NAME = "checkpoint.safetensors"
HEAD, TRUNK = "head.", "recognizer."


class Checkpoint(NamedTuple):
    """A classifier of the enrolled people, and what training changed in the recogniser below it."""

    path: Path
    state: State  # `head.weight`, `head.bias`, and `recognizer.<name>` of each tensor that changed
    details: dict[str, Any]  # split, base (fingerprint of the recogniser before), mode, metrics, revision, recipe

    def head(self) -> nn.Linear:
        """The classifier: unit embeddings -> logits over `people`, in the enrolment's order."""
        people, size = self.state[f"{HEAD}weight"].shape
        head = nn.Linear(size, people)
        head.load_state_dict(part(self.state, HEAD))
        return head

    def trunk(self) -> State:
        """What is laid over the recogniser's own weights; nothing where only the classifier was trained."""
        return part(self.state, TRUNK)


def part(state: State, prefix: str) -> State:
    """The tensors whose name starts with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def write_checkpoint(
    folder: Path,
    head: nn.Linear,
    trunk: State,
    split: str,
    metrics: Iterable[Figure],
    details: Mapping[str, Any],
) -> None:
    """Write `checkpoint.safetensors` and `checkpoint.json`."""
    state = {f"{HEAD}{name}": value.detach().cpu() for name, value in head.state_dict().items()}
    write_state(state | {f"{TRUNK}{name}": value.cpu() for name, value in trunk.items()}, folder / NAME)
    figures = {name: figure.to_json() for name, figure in by_name(metrics).items()}
    contents = {"split": split, **details, "metrics": figures, "revision": revision()}
    (folder / NAME).with_suffix(".json").write_text(json.dumps(contents, indent=2))


def read_checkpoint(place: str | Path) -> Checkpoint:
    """Read what `write_checkpoint` wrote: a folder, or the safetensors file in it.

    Raises InputError where either file is missing.
    """
    path = Path(place).expanduser()
    path = path / NAME if path.is_dir() else path
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise InputError(
            f"recognizer.checkpoint must be a folder that task=finetune made, or the .safetensors file in it with its "
            f".json beside it, got {str(place)!r}"
        )
    return Checkpoint(
        path, read_state(path, "recognizer.checkpoint"), json.loads(path.with_suffix(".json").read_text())
    )


def changed(before: State, after: State) -> State:
    """The tensors that are not the same to the bit."""
    return {name: value for name, value in after.items() if not torch.equal(value.cpu(), before[name].cpu())}


def split_checksum(enrolment: Enrolment) -> str:
    """Digest of who is enrolled with which photos, and which are probes: sorted (key, person, role).

    Not of their pixels, as the address of a run is: a checkpoint outlives another way to cut the same photos.
    """
    roles = {"gallery": enrolment.gallery, "probe": enrolment.probes}
    rows = sorted(
        (key, enrolment.people[identity], role)
        for role, faces in roles.items()
        for key, identity in zip(faces.keys, faces.identities, strict=True)
    )
    return digest(rows)


def refuse_another_split(recognizer: nn.Module, enrolment: Enrolment) -> None:
    """Raise InputError where the recogniser was fine-tuned on another split: it may have seen today's probes."""
    checkpoint = getattr(recognizer, "checkpoint", None)
    if checkpoint is None:
        return
    now, then = split_checksum(enrolment), checkpoint.details["split"]
    if now != then:
        raise InputError(
            f"recognizer.checkpoint={str(checkpoint.path)!r} was fine-tuned on the split {then}, and this run's is "
            f"{now}: take the same data, split.gallery and seed, or fine-tune again"
        )


def revision() -> str:
    """The last commit that changed Veil's source, `-dirty` where files differ from it; Veil's version without git."""
    source = Path(__file__).parents[1]
    if shutil.which("git") is None:
        return version("veil")

    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", str(source), *command], capture_output=True, text=True).stdout.strip()

    commit = git("log", "-1", "--format=%H", "--", ".")
    if not commit:  # not in a repository, or one that does not track Veil
        return version("veil")
    return f"{commit}-dirty" if git("status", "--porcelain", "--", ".") else commit
