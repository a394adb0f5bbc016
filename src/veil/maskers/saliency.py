"""Input gradients."""

import torch

from veil.recognizers.whitebox import WhiteBox
from veil.types import Faces, Scores, view


@torch.enable_grad()
def saliency(faces: Faces, recognizer: WhiteBox) -> Scores:
    """Largest absolute input gradient of the classifier's loss for the true person (Simonyan et al. 2013,
    arXiv:1312.6034), over colour channels.
    """
    images = faces.images.detach().requires_grad_()
    loss = recognizer.loss(images, faces.identities)
    (gradient,) = torch.autograd.grad(loss.sum(), images)
    return view(gradient).abs().amax(dim=1)
