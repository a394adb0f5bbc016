"""What stage 1 starts from, each part made when it is first asked for; stage 2 adds its own (`tasks.judges`)."""

import functools
from pathlib import Path

import torch
from hydra.utils import instantiate
from torch import nn

from veil.anonymization.anonymizer import Masker
from veil.anonymization.matching import Matches, match
from veil.config import Config
from veil.data.faces import Enrolment, Side, divide
from veil.data.splitfile import checksum
from veil.errors import InputError
from veil.recognizers.checkpoint import refuse_another_split
from veil.recognizers.embed import Embedder
from veil.recognizers.whitebox import WhiteBox
from veil.storage.addresses import foreign_folder, set_folder, split_folder
from veil.storage.fingerprint import device_count, device_kind
from veil.storage.folders import RunFolder, lock_file
from veil.storage.locks import locked
from veil.storage.packages import packaged_model
from veil.storage.progress import Stages
from veil.tasks.prepare import prepared
from veil.tasks.whitebox import asking_masker, asks_in_bfloat16, enrolled_whitebox, fit_classical
from veil.types import Inpainter

ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps")


class Setup:
    """A run's data, recognisers and device."""

    def __init__(self, config: Config) -> None:
        self.config, self.stages, self.name = config, Stages(), config.choices.recognizer
        self._embedders: dict[nn.Module, Embedder] = {}
        asks_in_bfloat16(config)  # refused before hours of work, as are outputs that cannot be written
        self.devices = devices_of(config)
        with locked(lock_file(Path(config.outputs), "set-up"), knob="outputs"):
            pass

    @functools.cached_property
    def inpainter(self) -> Inpainter:
        """What repaints."""
        with self.stages.clock("set-up"):
            return instantiate(self.config.inpainter)

    @functools.cached_property
    def masker(self) -> Masker:
        """What scores; a masker that repaints has the inpainter."""
        return asking_masker(self.config, lambda: self.inpainter, lambda: self.sides[1].gallery)

    @functools.cached_property
    def enrolment(self) -> Enrolment:
        """The data set, aligned and split."""
        if self.config.anonymized is None and not split_folder(self.config).complete:
            _ = self.masker, self.inpainter  # a wrong knob is told before hours of alignment
        return prepared(self.config, self.stages)

    @functools.cached_property
    def data(self) -> str:
        """Checksum of the split, contents included."""
        return checksum(self.enrolment)

    @functools.cached_property
    def sides(self) -> tuple[Side, Side]:
        """The people who are evaluated, and those whose photos the attacker learns from."""
        split = self.config.split
        return divide(self.enrolment, split.attackers, self.config.seed, split.probes)

    @functools.cached_property
    def matches(self) -> Matches:
        """The pictures of `anonymized=`."""
        keys = [*self.enrolment.gallery.keys, *self.enrolment.probes.keys]
        return match(Path(str(self.config.anonymized)).expanduser(), keys)

    @functools.cached_property
    def place(self) -> RunFolder:
        """Where the anonymised set of this config lies, now or later."""
        if self.config.anonymized is None:
            name = self.config.inpainter.get("model")
            if name and not Path(packaged_model(str(name))).expanduser().exists():
                _ = self.inpainter  # a model of the hub has its commit once it was downloaded
            return set_folder(self.config, self.data)
        return foreign_folder(self.config, self.data, self.matches.pictures)

    @property
    def device(self) -> torch.device:
        """Where networks run, but for what is spread over all devices."""
        return self.devices[0]

    @functools.cached_property
    def recognizer(self) -> nn.Module:
        """The white box's network, fitted where it learns from the gallery."""
        return self.ready({self.name: instantiate(self.config.recognizer)})[self.name]

    @functools.cached_property
    def whitebox(self) -> WhiteBox:
        """The white box with its classifier and surrogates."""
        clear = self.embedder(self.name, self.recognizer).both(self.enrolment)
        return enrolled_whitebox(self.config, self.recognizer, clear, self.enrolment, self.stages)

    def embedder(self, name: str, recognizer: nn.Module) -> Embedder:
        """A recogniser of this run with the cache of its embeddings, the same for all who ask."""
        if recognizer not in self._embedders:
            self._embedders[recognizer] = Embedder(name, recognizer, self.config.cache, self.stages)
        return self._embedders[recognizer]

    def ready(self, recognizers: dict[str, nn.Module]) -> dict[str, nn.Module]:
        """Recognisers on the device, fitted where they learn from the gallery. Raises InputError for one that was
        fine-tuned on another split.
        """
        for recognizer in recognizers.values():
            refuse_another_split(recognizer, self.enrolment)
        fit_classical(recognizers, self.enrolment.gallery)
        return {name: recognizer.to(self.device) for name, recognizer in recognizers.items()}


def devices_of(config: Config) -> list[torch.device]:
    """The devices of `trainer=`: one, or with trainer=ddp as many as it says. Raises InputError for others."""
    asked, count = config.trainer["devices"], device_count(config.trainer)
    if count != 1 and not str(config.trainer.get("strategy")).startswith("ddp"):
        raise InputError(
            f"trainer.devices must be 1 where faces are anonymised and evaluated, got {asked}; trainer=ddp spreads "
            "them over several devices, launcher=joblib has a sweep's runs go side by side"
        )
    kind = kind_of_devices(config)
    return [torch.device(kind) if kind == "cpu" else torch.device(kind, index) for index in range(count)]


def kind_of_devices(config: Config) -> str:
    """The kind of the devices that `trainer=` asks for, `cuda` say.

    Raises InputError where there are fewer. As many processes of the CPU as one likes, but only where it was asked for.
    """
    accelerator, asked, count = config.trainer["accelerator"], config.trainer["devices"], device_count(config.trainer)
    if accelerator not in ACCELERATORS:
        raise InputError(f"trainer.accelerator must be one of {ACCELERATORS}, got {accelerator!r}")
    kind, gpus = device_kind(accelerator), torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and not gpus:
        raise InputError(f"trainer.accelerator must be auto or cpu where torch finds no GPU, got {accelerator}")
    if kind == "cpu" and accelerator != "cpu" and count > 1:
        raise InputError(
            f"trainer.devices must be 1, or -1 for all, where torch finds no GPU, got {asked}; "
            f"trainer.accelerator=cpu takes {asked} processes of the CPU"
        )
    there = {"cuda": gpus, "cpu": None}.get(kind, 1)
    if count < 1 or (there is not None and count > there):
        allowed = "at least 1" if there is None else f"in [1, {there}], the devices there are, or -1 for all"
        raise InputError(f"trainer.devices must be {allowed}, got {asked}")
    return kind
