"""Do anonymised photos still teach attributes? A classifier trained on them and tested on clear photos of other people.

The use that anonymised data is made for, where the data has labels that are true or false: CelebA's 40 (Liu et al.
2015, arXiv:1411.7766). Beside it stands the classifier trained on the same photos clear, the ceiling.
"""

import numpy as np
from numpy import ndarray

from veil.data.photos import UNLABELLED
from veil.evaluation.material import ATTRIBUTES as PHOTOS
from veil.evaluation.material import Absent, Material, together
from veil.metrics.intervals import bootstrap_mean
from veil.metrics.measure import ANONYMISED, CLEAR, Figure, Measure
from veil.types import Embeddings

ATTRIBUTES = Measure(
    "attributes",
    "balanced accuracy on clear photos of attribute classifiers trained on such photos; 0.5 is chance",
    "utility",
    "share",
    (0, 1),
    better="higher",
)
FEWEST = 10  # photos with, and without, an attribute, on either side; of fewer nothing is learnt or measured


def attributes(material: Material, unlabelled: str = UNLABELLED) -> list[Figure]:
    """Balanced accuracy on clear probes, mean over attributes, of classifiers trained on anonymised and clear photos.

    Logistic regression on the judge's embeddings, trained on photos of the attacker people. An attribute that fewer
    than `FEWEST` photos have, or lack, is left out. Where the data has no labels, `unlabelled` is the reason.
    """
    seen = {ANONYMISED: material.anonymized, CLEAR: material.clear}
    places = [{"subject": judge, "condition": condition} for judge in material.recognizers for condition in seen]
    if not material.evaluation.probes.labels:
        return [Figure(ATTRIBUTES, unlabelled, **place) for place in places]
    known, probes = together(material.attackers, PHOTOS), material.evaluation.probes
    people = np.array(probes.identities)
    found = []
    for place in places:
        judge = place["subject"]
        try:
            learnt = seen[place["condition"]](judge, known)
        except Absent as error:
            found.append(Figure(ATTRIBUTES, str(error), **place))
            continue
        tested = material.clear(judge, probes).numpy()
        shares = accuracies(learnt, known.labels, tested, probes.labels)
        if shares is None:
            reason = f"no attribute that {FEWEST} photos have and {FEWEST} lack, of the attacker's and clear"
            found.append(Figure(ATTRIBUTES, reason, **place))
        else:
            found.append(Figure(ATTRIBUTES, bootstrap_mean(shares, people), **place))
    return found


def accuracies(
    embeddings: Embeddings, labels: dict[str, ndarray], tested: ndarray, truth: dict[str, ndarray]
) -> ndarray | None:
    """For each tested photo, what it adds to the mean balanced accuracy; `None` where there is no attribute to learn.

    Of n tested photos, n1 with the attribute, a right answer counts n / (2 n1) where it is there and n / (2 (n - n1))
    where not, so that the mean over photos is the mean of the two shares of right answers.
    """
    from sklearn.linear_model import LogisticRegression  # a second that other runs are spared

    faced = embeddings.any(dim=1).numpy()
    learnt = embeddings.numpy()[faced]
    total, count = np.zeros(len(tested)), 0
    for name, values in labels.items():
        if values.dtype != bool:
            continue
        answers, right = values[faced], truth[name]
        if min(answers.sum(), (~answers).sum(), right.sum(), (~right).sum()) < FEWEST:
            continue
        guess = LogisticRegression(class_weight="balanced", max_iter=1000).fit(learnt, answers).predict(tested)
        weight = np.where(right, len(right) / (2 * right.sum()), len(right) / (2 * (~right).sum()))
        total, count = total + weight * (guess == right), count + 1
    return total / count if count else None
