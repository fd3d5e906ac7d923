"""How much the features of images differ from each other: a network that collapses makes all of them alike."""

import torch
from torch import Tensor

RANK_EPS = 1e-7
# A channel that varies less than this share of what channels vary on average says nothing about an image.
DEAD = 0.01


def rank_me(features_ND: Tensor) -> float:
    """The effective rank of the features: how many directions they really use, from 1 to min(N, D).

    RankMe (Garrido et al., arXiv 2210.02885, equation 1): the exponential of the entropy of the singular values, each
    as a share of their sum.
    """
    values = torch.linalg.svdvals(features_ND.double())
    shares = values / values.sum().clamp(min=RANK_EPS) + RANK_EPS
    return float((-(shares * shares.log()).sum()).exp())


def deviation(features_ND: Tensor) -> float:
    """How far normalised features spread: 0 when all are the same, 1 when they lie evenly in all directions.

    The standard deviation over the images of features of length 1, mean over the channels, times the root of D
    (SimSiam, arXiv 2011.10566, section 4.1, where 1 / sqrt(D) is the value of features that have not collapsed).
    """
    unit_ND = torch.nn.functional.normalize(features_ND.double(), dim=1)
    return float(unit_ND.std(dim=0, correction=0).mean() * features_ND.shape[1] ** 0.5)


def dead_channels(features_ND: Tensor) -> float:
    """The share of the channels that are nearly the same for all images: 0 … 1."""
    spread_D = features_ND.double().std(dim=0, correction=0)
    usual = spread_D.square().mean().sqrt()
    return float((spread_D <= DEAD * usual).double().mean())
