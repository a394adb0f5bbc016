"""Do the results look like photos to the judges? KID and FID between results and clear photos, on their embeddings."""

from veil.attacks.material import Material, first, identities
from veil.metrics.frechet import frechet_distance
from veil.metrics.intervals import Interval
from veil.metrics.realism import kernel_distance_interval

PHOTOS = 2  # of each person that results are compared with
PEOPLE = 4  # fewest on either side for KID's interval
IMAGES = 2000  # fewest on either side for FID (Chong and Forsyth 2020, arXiv:1911.07023, find more to be needed still)


def realism(material: Material) -> tuple[dict[str, Interval], dict[str, str]]:
    """`utility/kid/<judge>` and `utility/fid/<judge>`, on embeddings of mean square 1, and why others are absent.

    Results in which the judge finds no face are left out. FID has no interval of its own: low and high are its value.
    """
    figures, absent = {}, {}
    probes, gallery = material.evaluation.probes, first(material.evaluation.gallery, PHOTOS)
    for judge in material.recognizers:
        results, clear = material.anonymized(judge, probes), material.clear(judge, gallery)
        found, shown = results.any(dim=1), clear.any(dim=1)
        people, others = identities(probes)[found], identities(gallery)[shown]
        results, clear = (part * part.shape[1] ** 0.5 for part in (results[found], clear[shown]))
        if min(len(people.unique()), len(others.unique())) < PEOPLE:
            seen = f"{len(people.unique())}, in {len(results)} of {len(probes)} results"
            absent[f"utility/kid/{judge}"] = f"the judge finds the faces of fewer than {PEOPLE} people: of {seen}"
        else:
            figures[f"utility/kid/{judge}"] = kernel_distance_interval(results, clear, people, others)
        if min(len(results), len(clear)) < IMAGES:
            absent[f"utility/fid/{judge}"] = (
                f"needs {IMAGES} faces on either side, has {len(results)} results and {len(clear)} clear photos"
            )
        else:
            value = frechet_distance(results, clear)
            figures[f"utility/fid/{judge}"] = Interval(value, value, value, len(results))
    return figures, absent
