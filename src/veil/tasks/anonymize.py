"""Stage 1: mask and repaint, and keep what was made in an anonymised set."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from hydra.utils import instantiate
from jaxtyping import Float
from torch import Tensor

from veil.anonymization.anonymized_set import ATTACKERS, GALLERY, PROBES, AnonymizedSet, Role, Writer
from veil.anonymization.anonymizer import Anonymizer, Masking, Write
from veil.anonymization.foreign import adopt
from veil.config import Config
from veil.data.faces import Enrolment, FaceSet, moved
from veil.data.known import known_people, people_are_listed
from veil.errors import InputError
from veil.evaluation.material import needed_faces
from veil.faces.pictures import sample_sheet
from veil.storage.atomic import whole
from veil.storage.folders import Row
from veil.storage.progress import console
from veil.tasks.setup import Setup

SAMPLES = 8  # people shown in samples.png
Advance = Callable[[int], None]
Loop = Callable[[Setup, Anonymizer, Role, FaceSet, Advance], None]


def with_lightning(setup: Setup, anonymizer: Anonymizer, role: Role, faces: FaceSet, advance: Advance) -> None:
    """Anonymise the faces by Lightning's trainer, on each of the devices."""
    from veil.tasks.devices import spread

    if len(setup.devices) > 1 and len(faces) > setup.config.batch_size:
        anonymizer.to("cpu")  # room for the networks of the process that works on the first device
        torch.cuda.empty_cache()
        paint = partial(_paint_share, setup.enrolment, role)
        spread(setup.config, setup.devices, paint, faces, role.run.add, advance, setup.stages)
    else:
        _predict(setup, anonymizer, faces, advance)


def _paint_share(
    enrolment: Enrolment, role: Role, config: Config, faces: FaceSet, take: Callable[[list[Row]], None]
) -> dict[str, float]:
    """In a process of its own: anonymise these faces with networks of its own; gives the seconds of its stages."""
    from veil.tasks.devices import refuse_other_code

    setup = Setup(config)
    setup.enrolment = enrolment
    refuse_other_code(setup.place.path == role.path.parent)
    anonymizer = _anonymizer(setup, _writer(setup, role, faces, take))
    setup.stages.seconds.clear()  # making networks was not the run's work
    _predict(setup, anonymizer, faces, lambda _: None)
    return setup.stages.seconds


def _predict(setup: Setup, anonymizer: Anonymizer, faces: FaceSet, advance: Advance) -> None:
    from pytorch_lightning.callbacks import LambdaCallback

    from veil.anonymization.module import Anonymization
    from veil.tasks.devices import alone
    from veil.tasks.fit import Stoppable, new_trainer, quiet_lightning

    quiet_lightning()
    config = alone(setup.config)
    progress = LambdaCallback(on_predict_batch_end=lambda *args: advance(len(args[3].keys)))
    # in single precision; the masker's own is the white box's
    trainer = new_trainer(config, callbacks=[progress, Stoppable()], precision="32-true")
    trainer.predict(
        Anonymization(anonymizer), faces.loader(config.batch_size, config.workers), return_predictions=False
    )
    anonymizer.to(setup.device)  # Lightning leaves it on the CPU


def by_itself(setup: Setup, anonymizer: Anonymizer, role: Role, faces: FaceSet, advance: Advance) -> None:
    """Anonymise the faces on the first device, without loading Lightning, which takes seconds."""
    config = setup.config
    anonymizer.to(setup.device)
    for batch in faces.loader(config.batch_size, config.workers):
        advance(len(anonymizer.step(moved(batch, setup.device))))


def anonymize(config: Config) -> Path:
    """Anonymise the probes, and what `attacks=` need beside them; print where they are."""
    made = made_set(Setup(config))
    console.print(f"Anonymised: {made.path}", soft_wrap=True)
    return made.path


def made_set(setup: Setup, loop: Loop = with_lightning) -> AnonymizedSet:
    """The set of this config: ours, or of the pictures of `anonymized=`."""
    return anonymized_set(setup, loop) if setup.config.anonymized is None else adopted_set(setup)


def anonymized_set(setup: Setup, loop: Loop = with_lightning) -> AnonymizedSet:
    """The set of this config, with every photo that the evaluation asks for; what is there already is not repainted."""
    made = AnonymizedSet(setup.place)
    with made.run.claimed():
        if not made.path.exists():
            made.run.say_what_changed()
        made.begin()
        grown = False
        for name, faces in _roles(setup).items():
            role = made.role(name)
            missing = role.missing(faces, made.rows())
            if len(missing):
                _paint(setup, role, missing, "anonymize" if name == PROBES else f"anonymize {name}", loop)
            grown |= role.finish()
        if not made.notes:
            made.note(_notes(setup))
        if grown or not (made.path / "samples.png").exists():
            _write_samples(made)
    return made


@torch.no_grad()
def scored(setup: Setup) -> dict[str, Float[Tensor, "i j"]]:
    """The masker's scores of each probe, by its key."""
    masker, whitebox = setup.masker, setup.whitebox.to(setup.device)
    probes, config = setup.sides[0].probes, setup.config
    found: dict[str, Tensor] = {}
    with setup.stages.bar("score", len(probes)) as advance:
        for faces in probes.loader(config.batch_size, config.workers):
            found |= zip(faces.keys, masker(moved(faces, setup.device), whitebox).cpu(), strict=True)
            advance(len(faces.keys))
    return found


def adopted_set(setup: Setup) -> AnonymizedSet:
    """The set of `anonymized=`: pictures that another tool made, cut where the originals' faces are."""
    config, enrolment, matches = setup.config, setup.enrolment, setup.matches
    made = AnonymizedSet(setup.place)
    with made.run.claimed():
        made.begin()
        roles = _everything(setup)
        refused = adopt(
            made,
            matches.pictures,
            config.anonymized_as,
            roles,
            instantiate(config.data),
            enrolment.people,
            setup.stages,
        )
        probes = setup.sides[0].probes.keys
        missing = [key for key in probes if key not in matches.pictures or key in refused]
        if len(missing) == len(probes):
            raise InputError(f"anonymized: {config.anonymized} has pictures of none of the {len(probes)} probes")
        counts = f"{len(matches.pictures)} pictures, {len(matches.unmatched)} of no photo, {len(refused)} refused"
        console.print(f"{counts}; {len(missing)} of {len(probes)} probes have none", soft_wrap=True)
        notes = {"missing": missing, "unmatched": matches.unmatched, "refused": refused}
        told = {"same_for_every_seed": False, "trained_on": [], "people_listed": False}
        made.note(notes | told | {"inpainter": "another tool"})
    return made


def _everything(setup: Setup) -> dict[str, FaceSet]:
    """All photos that an attack might take; a set of another tool has what it has."""
    evaluation, attackers = setup.sides
    theirs = attackers.probes.union(attackers.gallery)
    return {PROBES: evaluation.probes, GALLERY: evaluation.gallery, ATTACKERS: theirs}


def _roles(setup: Setup) -> Mapping[str, FaceSet]:
    evaluation, attackers = setup.sides
    gallery, theirs = needed_faces(
        instantiate(setup.config.attacks), evaluation, attackers, setup.config.attribute_classifiers
    )
    return {PROBES: evaluation.probes, GALLERY: gallery, ATTACKERS: theirs}


def _anonymizer(setup: Setup, write: Write) -> Anonymizer:
    config = setup.config
    masking = Masking(config.ratio, config.cells, config.protect, config.hide_at_far is not None, config.raggedness)
    return Anonymizer(setup.masker, setup.inpainter, setup.whitebox, masking, config.image_format, write, setup.stages)


def _writer(setup: Setup, role: Role, faces: FaceSet, note: Callable[[list[Row]], None] | None = None) -> Writer:
    return Writer(role, faces, setup.enrolment.people, setup.config.image_format, note)


def _paint(setup: Setup, role: Role, faces: FaceSet, label: str, loop: Loop) -> None:
    """Repaint faces into a role's partial folder."""
    done = len(role.run.rows())
    if done:
        console.print(f"Resuming after {done} of {done + len(faces)} faces")
    # for several devices too: what is downloaded or fitted is there then, and a wrong knob is told
    anonymizer = _anonymizer(setup, _writer(setup, role, faces))
    with setup.stages.bar(label, len(faces)) as advance:
        loop(setup, anonymizer, role, faces, advance)


def _notes(setup: Setup) -> dict[str, object]:
    """Whether the pictures depend on the seed, and which of the enrolled people the inpainter was trained on."""
    probes, people = setup.sides[0].probes, setup.enrolment.people
    sample = next(iter(probes.select(range(min(len(probes), 4))).loader(4)))
    anonymizer = _anonymizer(setup, lambda *_: None).to(setup.device)
    known = known_people(people, getattr(setup.inpainter, "training_people", frozenset()))
    return {
        "inpainter": setup.config.choices.inpainter,
        "same_for_every_seed": anonymizer.repeats_itself(moved(sample, setup.device)),
        "trained_on": [number for number, person in enumerate(people) if person in known],
        "people_listed": people_are_listed(setup.inpainter),
    }


def _write_samples(made: AnonymizedSet) -> None:
    """`samples.png`: the first probe of `SAMPLES` people spread over the data set."""
    role = made.role(PROBES)
    first: dict[int, Row] = {}
    for row in role.rows():
        first.setdefault(row["label"], row)
    shown = list(first.values())[:: max(len(first) // SAMPLES, 1)][:SAMPLES]
    paths = [[role.path / row[kind] for row in shown] for kind in ("original", "mask", "result")]
    with whole(made.path / "samples.png") as partial:
        sample_sheet(*paths).save(partial)
