"""The attacker who runs our own pipeline and learns from what comes out."""

from veil.attacks.adapt import adapt, separation
from veil.data.faces import FaceSet, Side, pictures
from veil.errors import InputError
from veil.evaluation.material import Attempt, Material, first, identities, needs, together
from veil.metrics.comparison import Comparison
from veil.types import Embeddings


@needs(gallery="photos", attackers="photos")
def parrot(material: Material, judge: str, photos: int = 4, steps: int = 60) -> Attempt:
    """Parrot recognition (Newton, Sweeney and Malin 2005): the recogniser adapted to anonymised photos of attacker
    people (`veil.attacks.adapt`), against a gallery that is clear or anonymised, whichever does better on those of them
    who were held out.

    A recogniser without a `last_block` is used as it is.

    Args:
        photos: of each person that are anonymised, of the gallery and of the attacker people; a clear gallery is whole.
        steps: of the adaptation.

    """
    if not len(material.attackers.probes):
        raise InputError("attacks.parrot learns from attacker people: split.attackers must leave some, got none")
    known = together(material.attackers, photos)
    recognizer, repaint = material.recognizers[judge], False
    if hasattr(recognizer, "last_block"):
        with material.stages.clock(f"adapt {judge}"):
            recognizer, repaint = adapt(
                recognizer,
                pictures(material.anonymize(known)),
                pictures(known),
                identities(known),
                steps=steps,
                seed=material.seed,
            )

    def see(faces: FaceSet) -> Embeddings:
        return material.embed(recognizer, faces, f"parrot {judge}")

    if not hasattr(recognizer, "last_block"):
        seen, clear = see(material.anonymize(known)), see(known)
        repaint = separation(seen, seen, identities(known)) > separation(seen, clear, identities(known))

    def compare(side: Side) -> Comparison:
        gallery = first(side.gallery, photos) if repaint else side.gallery
        templates = see(material.anonymize(gallery) if repaint else gallery)
        return Comparison(see(material.anonymize(side.probes)), identities(side.probes), templates, identities(gallery))

    side = material.evaluation
    gallery = first(side.gallery, photos)
    thresholds = Comparison(see(side.probes), identities(side.probes), see(gallery), identities(gallery))
    return Attempt(compare(side), thresholds, compare(material.attackers))
