"""The algorithm of He et al. 2021 (arXiv 2111.06377): mask, encode what is visible, reconstruct what is not.

Shape legend used in every file here: B batch, L patches, K kept patches, T tokens (prefix + patches), D width,
P values per patch, C channels.
"""
