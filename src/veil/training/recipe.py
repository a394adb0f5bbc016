"""How a classifier, a recogniser under one, and the face inpainter are trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from veil.errors import InputError

LOSSES = ("softmax", "arcface", "cosface", "triplet")
MODES = ("classifier", "last_block", "full")


@dataclass(kw_only=True)
class Fitting:
    """`conf/classifier/*.yaml`: a classifier on embeddings that do not change.

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
        mode: one of `MODES`; `classifier` leaves the recogniser alone, and the other knobs here unused.
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


STAGES = ("autoencoder", "diffusion")
SCHEDULES = ("constant", "cosine")
DTYPES = ("auto", "float32", "bfloat16")


@dataclass(kw_only=True)
class Recipe:
    """`conf/task/train_inpainter.yaml`, which says what each knob is."""

    stages: Sequence[str]
    warm_start: str | None
    samples_seen: int
    new_unet: bool
    channels: Sequence[int]
    attention: bool
    aligned: bool | Sequence[str] | None
    size: int
    held_out: int
    autoencoder_steps: int
    autoencoder_batch: int
    autoencoder_rate: float
    minutes: float | None
    diffusion_steps: int
    diffusion_batch: int
    diffusion_rate: float
    schedule: str
    average: float
    adversary_minutes: float
    adversary_alone: int
    adversary_batch: int
    adversary_rate: float
    shard: int
    reuse: int
    dtype: str
    compile: bool
    validate_every: int
    checkpoint_minutes: float

    def __post_init__(self) -> None:
        unknown = set(self.stages) - set(STAGES)
        nothing = not self.stages and not (self.adversary_minutes and self.warm_start)
        self.check("stages", not unknown and not nothing, f"some of {STAGES}; none with adversary_minutes, warm_start")
        if "autoencoder" not in self.stages and self.warm_start is None:
            raise InputError("task.stages without autoencoder needs task.warm_start, whose autoencoder is used")
        widths = len(self.channels) >= 2 and all(width >= 8 and width % 8 == 0 for width in self.channels)
        self.check("channels", widths, "two levels or more, multiples of 8")
        self.check("size", self.size > 0 and self.size % 32 == 0, "px of the field, a multiple of 32")
        whole = self.aligned is None or isinstance(self.aligned, bool)
        names = isinstance(self.aligned, Sequence) and not isinstance(self.aligned, str)
        self.check("aligned", whole or names, "true, null or a list of names")
        self.check("minutes", self.minutes is None or self.minutes > 0, "null (by diffusion_steps) or above 0")
        self.check("adversary_minutes", self.adversary_minutes >= 0, "at least 0")
        self.check("checkpoint_minutes", self.checkpoint_minutes > 0, "above 0")
        self.check("average", 0 <= self.average < 1, "in [0, 1)")
        self.check("schedule", self.schedule in SCHEDULES, f"one of {SCHEDULES}")
        self.check("dtype", self.dtype in DTYPES, f"one of {DTYPES}")
        for name in ("autoencoder_rate", "diffusion_rate", "adversary_rate"):
            self.check(name, getattr(self, name) > 0, "above 0")
        for name in ("samples_seen", "adversary_alone"):
            self.check(name, getattr(self, name) >= 0, "at least 0")
        batches = ("autoencoder_batch", "diffusion_batch", "adversary_batch")
        for name in (*batches, "autoencoder_steps", "diffusion_steps", "held_out", "shard", "reuse", "validate_every"):
            self.check(name, getattr(self, name) >= 1, "at least 1")

    def check(self, name: str, good: bool, allowed: str) -> None:
        """Raise InputError that names the knob unless its value is good."""
        if not good:
            raise InputError(f"task.{name} must be {allowed}, got {getattr(self, name)!r}")
