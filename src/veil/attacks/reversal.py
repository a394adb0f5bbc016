"""The attacker who learns the way back from the anonymised face to the clear one."""

from veil.attacks.rebuild import Rebuilder, rebuild, train_rebuilder
from veil.data.faces import FaceSet, Side, pictures
from veil.errors import InputError
from veil.evaluation.material import Attempt, Material, attempt, clear_comparison, identities, needs, together
from veil.metrics.comparison import Comparison
from veil.types import Images


@needs(attackers="photos")
def reversal(material: Material, judge: str, photos: int = 10, steps: int = 300) -> Attempt:
    """A U-Net, trained on pairs of attacker people, rebuilds the probes (`veil.attacks.rebuild`); then as `naive`.

    One network is trained, with the white box's features, and shown to every judge.

    Args:
        photos: of each attacker person.
        steps: of the training.

    """
    if not len(material.attackers.probes):
        raise InputError("attacks.reversal learns from attacker people: split.attackers must leave some, got none")

    def train() -> Rebuilder:
        pairs = together(material.attackers, photos)
        anonymized = pictures(material.anonymize(pairs))
        with material.stages.clock("train reversal"):
            recognizer = material.recognizers[material.whitebox]
            return train_rebuilder(anonymized, pictures(pairs), recognizer=recognizer, steps=steps, seed=material.seed)

    rebuilder = material.once("rebuilder", train)

    def rebuilt(faces: FaceSet) -> Images:
        return material.once(f"rebuilt {faces.keys}", lambda: rebuild(rebuilder, pictures(material.anonymize(faces))))

    def compare(side: Side) -> Comparison:
        clear = clear_comparison(material, judge, side)
        seen = material.embed(material.recognizers[judge], rebuilt(side.probes), f"reversal {judge}")
        return Comparison(seen, identities(side.probes), clear.templates, clear.enrolled)

    return attempt(material, judge, compare)._replace(rebuilt=rebuilt(material.evaluation.probes))
