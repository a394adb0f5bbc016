"""How many bits of identity are left: what an attacker's posterior over the enrolled people says of the true one."""

import math

import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from veil.metrics.identification import Comparison, in_columns, matches_in_chunks
from veil.metrics.measure import Measure

BITS = Measure("bits", "identity information left, in bits", "privacy", "bits", (0, None), better="lower", prominence=1)
COLDEST, HOTTEST = 1e-3, 10.0  # temperatures that cosines can need: nearly the best match alone, nearly chance
FITTED = 2**25  # cosines kept while the temperature is fitted: 128 MiB


def bits_left(comparison: Comparison, temperature: float, doubt: float = 0.0) -> Float[Tensor, " p"]:
    """Each probe's log2(N) + log2 q(true person), N people enrolled, q = (1 - doubt) softmax(best cosine per person /
    temperature) + doubt / N.

    At most log2(N); 0 where the posterior is uniform, as it is for a face that is not found; negative where the
    attacker is misled. The mean is a lower bound of the mutual information between the person, uniform over the
    enrolled, and the probe (Barber and Agakov 2003, "The IM algorithm"): log2(N) less the attacker's cross-entropy.
    Everybody must weigh the same: where people have unequal numbers of probes, average each person's first. Mutual
    information is at least 0, so a negative mean bounds nothing and max(0, mean) is valid; never clip single probes,
    which lifts the mean above the bound.

    Args:
        temperature: fitted on other people (`fit_temperature`), or the mean is no bound for new probes.
        doubt: the attacker's own, in [0, 1): how often he expects to know nothing (`doubt_after`). Without it a single
            surprise outweighs every probe, where the temperature was fitted on people who were never mistaken.

    """
    if temperature <= 0:
        raise ValueError(f"temperature: must be above 0, got {temperature}")
    if not 0 <= doubt < 1:
        raise ValueError(f"doubt: must be in [0, 1), got {doubt}")
    comparison = in_columns(comparison)
    bits = torch.empty(len(comparison.probes), dtype=torch.float64)
    for part, matches in matches_in_chunks(comparison):
        surprise = _surprise(matches, comparison.probed[part], temperature, doubt)
        bits[part] = (math.log(comparison.people) - surprise).cpu() / math.log(2)
    return bits


def doubt_after(probes: int) -> float:
    """1 / (probes + 2): how often an attacker who tried himself on so many must expect to fail, had he never failed
    (Laplace's rule of succession).
    """
    return 1 / (probes + 2)


def fit_temperature(comparison: Comparison, doubt: float = 0.0) -> float:
    """The temperature in [0.001, 10] of the least cross-entropy on people whom the attacker knows.

    Brent's method within bounds (scipy); without doubt convex in 1 / temperature, so the minimum is the only one. More
    cosines than fit into 128 MiB are thinned: one number needs no more than every n-th probe.
    """
    probes, probed, templates, enrolled = in_columns(comparison)
    step = math.ceil(len(probes) * comparison.people / FITTED)
    known = Comparison(probes[::step], probed[::step], templates, enrolled)
    matches = torch.cat([matches for _, matches in matches_in_chunks(known)])

    def cross_entropy(log_temperature: float) -> float:
        return _surprise(matches, known.probed, math.exp(log_temperature), doubt).double().mean().item()

    bounds = math.log(COLDEST), math.log(HOTTEST)
    return math.exp(minimize_scalar(cross_entropy, bounds=bounds, method="bounded").x)


def _surprise(
    matches: Float[Tensor, "b people"], probed: Int[Tensor, " b"], temperature: float, doubt: float
) -> Float[Tensor, " b"]:
    """Negative log posterior of the true person, in nats."""
    surprise = F.cross_entropy(matches.double() / temperature, probed, reduction="none")
    return surprise if doubt == 0 else -((1 - doubt) * (-surprise).exp() + doubt / matches.shape[1]).log()
