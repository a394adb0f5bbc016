"""How the face inpainter is trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from veil.errors import InputError

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
