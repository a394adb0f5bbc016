"""Figures in words: how each is written, and what its name means."""

SHARES = (
    "rank1",
    "rank5",
    "rank10",
    "rank1@worst5",
    "accuracy",
    "nearest_centroid",
    "fooled",
    "eer",
    "aligned",
    "detected",
    "coverage",
    "ratio",
    "hidden",
    "tenth",
    "median",
    "nine_tenths",
)  # and TAR@FAR

MEANINGS = {  # by the last part of a metric's name
    "rank1": "the true person is the best match",
    "rank10": "the true person is among the ten best matches",
    "rank1@worst5": "rank-1 over the 5 % of people who are protected worst",
    "tar@far=1e-2": "genuine pairs accepted where 1 in 100 strangers is",
    "rank5": "the true person is among the five best matches",
    "tar@far=1e-3": "genuine pairs accepted where 1 in 1000 strangers is",
    "cosine": "likeness to the clear face, 1 the same",
    "eer": "error where strangers accepted and the person rejected are equally many; 50 % is chance",
    "auc": "chance that a genuine pair outscores an impostor pair; 0.5 is chance",
    "mrr": "mean of 1 / rank of the true person, 1 always first",
    "bits": "identity information left, in bits",
    "nearest_centroid": "the true person's mean enrolled photo is the best match",
    "accuracy": "the white box's classifier names the true person",
    "fooled": "rightly named when clear, no longer so",
    "transfer_gap": "rank-1 of the worst held-out judge less the white box's; below 0 the white box sees more",
    "ssim": "structural similarity to the clear face, 1 the same",
    "psnr": "pixel likeness to the clear face",
    "detected": "a detector still finds a face",
    "aligned": "the judge's own detector finds the face",
    "coverage": "masked share of the face's square",
    "ratio": "masked share of each face's square, as small as hides it from the white boxes",
    "hidden": "no white box takes the face for its person",
    "tenth": "a tenth of the faces needed no more",
    "median": "half of the faces needed no more",
    "nine_tenths": "nine tenths of the faces needed no more",
}

GLOSSARY = {
    "gallery, probe": "photos that the adversary knows with names; photos that are repainted and attacked",
    "genuine, impostor": "a pair of photos of one person; of two",
    "recogniser": "a network that turns a face into a vector (an embedding); alike faces have alike vectors",
    "cosine": "how alike two embeddings are, from -1 to 1",
    "white box": "the recogniser that helped to choose what to mask; its own verdict flatters the mask",
    "held-out judge": "a recogniser that only measures and took no part in making a mask",
    "rank": "place of the true person when everyone enrolled is ordered by likeness; rank-k counts ranks up to k",
    "threshold": "the cosine above which a recogniser says “same person”",
    "FAR, FRR, TAR": "impostor pairs accepted; genuine pairs rejected; genuine pairs accepted (1 - FRR)",
    "CMC curve": "share of photos whose person is among the k best matches, for each k",
    "DET curve": "genuine pairs rejected for each share of impostor pairs accepted, as the threshold moves",
    "naive attack": "repainted photos are compared with clear enrolled ones",
    "linkage, parrot, reversal": "stronger attacks: the adversary compares with photos repainted the same way, learns "
    "from such photos, or first tries to undo the repainting",
    "95 % interval": "where the figure would likely lie with other people like these",
    "chance": "what guessing without looking would reach: 1 in the number of people enrolled",
}


def percent(share: float) -> str:
    """0.7125 -> `71.2 %`, 0.5 -> `50 %`; never rounded to 0 or 100 % when it is neither."""
    for digits in (1, 2):
        text = f"{100 * share:.{digits}f}"
        if share in (0, 1) or float(text) not in (0, 100):
            break
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}\N{NO-BREAK SPACE}%"


def amount(name: str, value: float) -> str:
    """A metric's value with its unit."""
    figure = name.rsplit("/", 1)[-1]
    if figure in SHARES or figure.startswith("tar@"):
        return percent(value)
    units = {"psnr": "\N{NO-BREAK SPACE}dB", "bits": "\N{NO-BREAK SPACE}bits"}
    return f"{value:.1f}{units[figure]}" if figure in units else f"{value:.3f}"


def between(name: str, low: float, high: float) -> str:
    """An interval; the unit is said once where it can be."""
    lower, upper = amount(name, low), amount(name, high)
    number, _, unit = lower.partition("\N{NO-BREAK SPACE}")
    return f"{number if unit else lower} to {upper}"
