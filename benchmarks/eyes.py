"""Are both eyes there? KID of recognisers' embeddings does not see that one is missing; a classifier of eyes does."""

import numpy as np
import torch
from numpy import ndarray
from skimage.feature import hog
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from veil.faces.landmarks import MEAN_FACE, REGIONS
from veil.faces.pictures import to_pixels
from veil.types import CROP, VIEW, Images

WIDE, HIGH = 36, 24  # px of the crop, round an eye without its brow
PASSED = 0.95  # share of clear faces in which both eyes are said to be there
APART = 24  # px, from an eye to what is certainly none
OTHERS = 6  # patches a face that are no eyes


def eye_centres() -> ndarray:
    """(x, y) in pixels of the crop, left eye and right; over faces they have a standard deviation of 2 px."""
    mean = np.array(MEAN_FACE)
    eyes = np.stack([mean[list(eye)].mean(axis=0) for eye in REGIONS["eyes"]])
    return (eyes * VIEW + (1 - VIEW) / 2) * CROP


class EyeCheck:
    """Says of a face whether both its eyes look like eyes.

    A linear classifier of histograms of gradients (Dalal and Triggs 2005), trained on clear photos: eyes against other
    places of the same faces and against the same eyes washed out or doubled, which is how inpainters fail.
    """

    def __init__(self, clear: Images, seed: int = 0) -> None:
        random, centres, grey = np.random.default_rng(seed), eye_centres(), _grey(clear)
        eyes = [_descriptor(face, centre, side) for face in grey for side, centre in enumerate(centres)]
        wrong = []
        for face in grey:
            places = random.uniform(0.25 * CROP, 0.75 * CROP, (50, 2))
            far = np.linalg.norm(places[:, None] - centres, axis=2).min(axis=1) > APART
            wrong += [_descriptor(face, place, 0) for place in places[far][:OTHERS]]
            washed = np.asarray(torch.nn.functional.avg_pool2d(torch.from_numpy(face)[None], 13, 1, 6)[0])
            doubled = np.maximum(face, np.roll(face, (random.integers(3, 9), random.integers(-9, 9)), (0, 1)))
            for bad in (washed, doubled):
                wrong += [_descriptor(bad, centre, side) for side, centre in enumerate(centres)]
        self.classifier: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        self.classifier.fit(np.stack(eyes + wrong), np.repeat([1, 0], [len(eyes), len(wrong)]))
        self.least = -np.inf

    def calibrate(self, clear: Images) -> "EyeCheck":
        """Let `PASSED` of these clear faces pass, whom it was not trained on."""
        self.least = float(np.quantile(self.scores(clear), 1 - PASSED))
        return self

    def scores(self, images: Images) -> ndarray:
        """Of each face, the score of the less eye-like of its eyes."""
        centres = eye_centres()
        rows = [_descriptor(face, centre, side) for face in _grey(images) for side, centre in enumerate(centres)]
        return self.classifier.decision_function(np.stack(rows)).reshape(-1, 2).min(axis=1)

    def __call__(self, images: Images) -> ndarray:
        """Of each face, whether both eyes look like eyes."""
        return self.scores(images) >= self.least


def _grey(images: Images) -> ndarray:
    return np.stack([pixels.astype(np.float32).mean(axis=2) / 255 for pixels in to_pixels(images)])


def _descriptor(face: ndarray, centre: ndarray, side: int) -> ndarray:
    """Of the patch round `centre`; a right eye (`side` 1) is mirrored, so that all look the same way."""
    left, top = round(centre[0] - WIDE / 2), round(centre[1] - HIGH / 2)
    patch = face[top : top + HIGH, left : left + WIDE]
    patch = patch[:, ::-1] if side else patch
    contrast = np.array([patch.std()])
    shape = hog(patch, orientations=8, pixels_per_cell=(6, 6), cells_per_block=(2, 2), feature_vector=True)
    return np.concatenate([shape, contrast]).astype(np.float32)
