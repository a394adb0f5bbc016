"""What stage 2 starts from: the judges that can be had, and why the others cannot; attacks, metrics, controls."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from veil.config import Config
from veil.errors import InputError
from veil.evaluation.campaign import Attack
from veil.evaluation.panel import Asked, assign
from veil.metrics.measure import WORST
from veil.recognizers.embed import Embedder
from veil.recognizers.lineage import lineage, see_the_same
from veil.tasks.setup import Setup
from veil.types import Inpainter

COMPARED = 64  # photos by which two recognisers are found to be one


class Instruments(NamedTuple):
    """What stage 2 measures with, as the config names it."""

    judges: dict[str, Embedder]  # the white box first
    missing: dict[str, str]  # judges that cannot be had, and why
    features: dict[str, Embedder]
    attacks: dict[str, Attack]
    asked: Asked


class Judging(Setup):
    """What stage 2 starts from."""

    @functools.cached_property
    def judges(self) -> tuple[dict[str, nn.Module], dict[str, str]]:
        """The judges beside the white box; and why others cannot be had."""
        judges, missing = available(other_judges(self.config, self.name))
        return self.ready(judges), missing

    @functools.cached_property
    def measuring(self) -> Instruments:
        """What stage 2 measures with. Raises InputError for two of one name."""
        with self.stages.clock("set-up"):
            judges, missing = self.judges
            features = instantiate(self.config.features)
            repeated = {WORST, self.name, *judges} & set(features) | {WORST} & {self.name, *judges}
            if repeated:
                raise InputError(
                    f"judges and features must have names of their own, none of them `{WORST}`: {repeated}"
                )
            return Instruments(
                {name: self.embedder(name, judge) for name, judge in ((self.name, self.recognizer), *judges.items())},
                missing,
                {name: self.embedder(name, network.to(self.device)) for name, network in features.items()},
                instantiate(self.config.attacks),
                assign(instantiate(self.config.metrics), self.name, list(judges)),
            )

    @functools.cached_property
    def held_out(self) -> list[str]:
        """Judges that took no part in making a mask: no kin of the white box or a surrogate, by weights or by what
        they see. Of another tool's pictures, all of them.
        """
        judges = self.measuring.judges
        if self.config.anonymized is not None:
            return list(judges)
        asked = [self.embedder(self.name, self.recognizer)]
        asked += [self.embedder("a surrogate", surrogate.recognizer) for surrogate in self.whitebox.members[1:]]
        ancestors = frozenset().union(*(lineage(embedder.network) for embedder in asked))
        photos = self.enrolment.probes.select(range(min(len(self.enrolment.probes), COMPARED)))
        seen = [embedder.clear(photos) for embedder in asked]
        return [
            name
            for name, judge in judges.items()
            if name != self.name
            and not lineage(judge.network) & ancestors
            and not any(see_the_same(judge.clear(photos), theirs) for theirs in seen)
        ]

    @functools.cached_property
    def controls(self) -> dict[str, Inpainter]:
        """The inpainters of the floors."""
        with self.stages.clock("set-up"):
            return instantiate(self.config.controls)


def other_judges(config: Config, whitebox: str) -> dict[str, Any]:
    """The configs of the judges, less one that is the white box under its own name: it judges anyhow.

    Raises InputError for another recogniser, or other settings of the same, under the white box's name.
    """
    settings = config.judges.get(whitebox, config.recognizer)
    if settings != config.recognizer:
        raise InputError(
            f"judges: `{whitebox}` is the white box's name (recognizer={whitebox}); a judge with other settings must "
            f"have another name, got {settings}"
        )
    return {judge: settings for judge, settings in config.judges.items() if judge != whitebox}


def available(judges: Mapping[str, Any]) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Instantiate each judge; what lacks its optional package or its download is absent, with the reason by name.

    Every other failure is raised: a misspelt knob is the user's to mend, not a reason to measure less.
    """
    loaded: dict[str, nn.Module] = {}
    absent: dict[str, str] = {}
    for name, settings in judges.items():
        try:
            loaded[name] = instantiate(settings)
        except InstantiationException as error:
            # a `_target_` that does not exist has the plain ImportError as its cause, and is not excused
            if not isinstance(error.__cause__, ModuleNotFoundError | ConnectionError):
                raise
            absent[name] = str(error.__cause__)
    return loaded, absent
