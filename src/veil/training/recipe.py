"""How a classifier, or a recogniser under one, is fitted."""

from dataclasses import dataclass

from veil.errors import InputError

LOSSES = ("softmax", "arcface", "cosface", "triplet")
MODES = ("classifier", "last_block", "full")


@dataclass(kw_only=True)
class Fitting:
    """`conf/head/*.yaml`: a classifier on embeddings that do not change.

    Args:
        loss: one of `LOSSES`.
        scale: of cosines; softmax, whose weights are free, only starts from it (0: from zero).
        margin: null is the paper's (see `veil.training.losses`).
        learning_rate: AdamW's highest; falls to 0 along a cosine, step by step.
        batch_size: photos a step, of each device.
        patience: epochs without a lower validation loss before training stops.

    """

    loss: str
    scale: float
    margin: float | None
    learning_rate: float
    weight_decay: float
    epochs: int
    batch_size: int
    patience: int

    group = "classifier"

    def __post_init__(self) -> None:
        self.check("loss", self.loss in LOSSES, f"one of {LOSSES}")
        if self.group == "classifier" and self.loss == "triplet":
            raise InputError(
                "classifier.loss=triplet trains an embedding, and a classifier's do not change: use task=finetune "
                "task.mode=last_block task.loss=triplet"
            )
        self.check("scale", self.scale >= 0 if self.loss == "softmax" else self.scale > 0, "above 0 (softmax: or 0)")
        self.check("margin", self.margin is None or self.margin >= 0, "null or at least 0")
        self.check("learning_rate", self.learning_rate > 0, "above 0")
        self.check("weight_decay", self.weight_decay >= 0, "at least 0")
        for name in ("epochs", "batch_size", "patience"):
            self.check(name, getattr(self, name) >= 1, "at least 1")

    def check(self, name: str, good: bool, allowed: str) -> None:
        """Raise InputError that names the knob unless its value is good."""
        if not good:
            raise InputError(f"{self.group}.{name} must be {allowed}, got {getattr(self, name)!r}")


@dataclass(kw_only=True)
class Augmentation:
    """What makes a variant of a photo: shares of the photos, and how far.

    Args:
        flip: share that is mirrored.
        crop: the face is scaled by up to 1 +- this, and shifted by up to this half of the view's side.
        jitter: brightness, contrast and saturation change by up to a factor 1 +- this.
        grey: share that loses its colour.
        blur: share that is blurred (Gaussian, 0.5 to 2 px).

    """

    flip: float
    crop: float
    jitter: float
    grey: float
    blur: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            limit = 0.3 if name == "crop" else 1
            if not 0 <= value <= limit:
                raise InputError(f"task.augment.{name} must be in [0, {limit}], got {value!r}")


@dataclass(kw_only=True)
class TrunkFitting(Fitting):
    """`conf/task/finetune.yaml`: the recogniser itself, or its end.

    Args:
        mode: one of `MODES`; `head` leaves the recogniser alone, and the other knobs here unused.
        held_out: share of the people who are kept from training, for verification.
        accumulate: batches a step.
        balance: 0 draws every photo once an epoch; 1 draws every person equally often; between, between.
        per_person: photos of a person that are drawn together.
        freeze_norm: BatchNorm normalises by the statistics that the recogniser came with. The packaged CASIA weights
            have theirs folded into the convolutions, and work with no other.
        variants: augmented copies of each photo, beside the photo itself.

    """

    mode: str
    held_out: float
    accumulate: int
    balance: float
    per_person: int
    freeze_norm: bool
    variants: int
    augment: Augmentation

    group = "task"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("mode", self.mode in MODES, f"one of {MODES}")
        self.check("held_out", 0 <= self.held_out < 1, "a share of the people, in [0, 1)")
        self.check("balance", 0 <= self.balance <= 1, "in [0, 1]")
        self.check("accumulate", self.accumulate >= 1, "at least 1")
        self.check("variants", self.variants >= 0, "at least 0")
        self.check("per_person", self.per_person >= 1, "at least 1")
        if self.loss == "triplet":
            self.check("per_person", self.per_person >= 2, "at least 2 for task.loss=triplet, which compares them")
