"""Do anonymised photos still teach attributes? A classifier trained on them and tested on clear photos of other people.

The use that anonymised data is made for, where the data has labels that are true or false: CelebA's 40 (Liu et al.
2015, arXiv:1411.7766). Beside it stands the classifier trained on the same photos clear, the ceiling.
"""

from collections.abc import Iterable

import numpy as np
from numpy import ndarray
from sklearn.linear_model import LogisticRegression

from veil.attacks.material import Material
from veil.attacks.parrot import together
from veil.data.photos import UNLABELLED
from veil.metrics.intervals import Interval, bootstrap_mean
from veil.types import Embeddings

PHOTOS = 4  # of each attacker person
SEEN = ("anonymized", "clear")  # what the classifier is trained on
FEWEST = 10  # photos with, and without, an attribute, on either side; of fewer nothing is learnt or measured


def unmeasured(judges: Iterable[str], reason: str) -> dict[str, str]:
    """The figures of `attributes`, absent."""
    return {f"utility/attributes/{judge}/{seen}": reason for judge in judges for seen in SEEN}


def attributes(material: Material, unlabelled: str = UNLABELLED) -> tuple[dict[str, Interval], dict[str, str]]:
    """`utility/attributes/<judge>/anonymized` and `.../clear`: balanced accuracy on clear probes, mean over attributes.

    Logistic regression on the judge's embeddings, trained on photos of the attacker people. An attribute that fewer
    than `FEWEST` photos have, or lack, is left out. Where the data has no labels, `unlabelled` is the reason.
    """
    if not material.evaluation.probes.labels:
        return {}, unmeasured(material.recognizers, unlabelled)
    known, probes = together(material.attackers, PHOTOS), material.evaluation.probes
    figures, absent = {}, {}
    people = np.array(probes.identities)
    for judge in material.recognizers:
        tested = material.clear(judge, probes).numpy()
        for name, seen in zip(SEEN, (material.anonymized, material.clear), strict=True):
            figure = f"utility/attributes/{judge}/{name}"
            shares = accuracies(seen(judge, known), known.labels, tested, probes.labels)
            if shares is None:
                absent[figure] = (
                    f"no attribute that {FEWEST} photos have and {FEWEST} lack, of the attacker's and clear"
                )
            else:
                figures[figure] = bootstrap_mean(shares, people)
    return figures, absent


def accuracies(
    embeddings: Embeddings, labels: dict[str, ndarray], tested: ndarray, truth: dict[str, ndarray]
) -> ndarray | None:
    """For each tested photo, what it adds to the mean balanced accuracy; `None` where there is no attribute to learn.

    Of n tested photos, n1 with the attribute, a right answer counts n / (2 n1) where it is there and n / (2 (n - n1))
    where not, so that the mean over photos is the mean of the two shares of right answers.
    """
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
