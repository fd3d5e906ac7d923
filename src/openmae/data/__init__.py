"""From bytes on disk to uint8 batches; everything random about an image is a function of (seed, epoch, image index)."""
