"""The algorithm of He et al. 2021 (arXiv 2111.06377): hide most patches, encode the others, predict the hidden ones.

Read in this order:

1. `geometry`: how images are cut into patches, and put together again
2. `masking`: which patches are hidden
3. `positions`: the fixed sine-cosine table
4. `patches`: the normalised target, and taking the patches of a mask
5. `encoder`: a timm VisionTransformer on the visible patches
6. `decoder`: from encoded tokens to a prediction for every patch
7. `model`: the masked autoencoder, which puts these together, and its loss
8. `network`: the values that describe a network, and building it from them
9. `drop_path`: for fine-tuning only

"Section" and "appendix" refer to the paper. Every file uses these letters for shapes: B batch, L patches, K kept
patches, T tokens (prefix + patches), D width, P values per patch, C channels.
"""
