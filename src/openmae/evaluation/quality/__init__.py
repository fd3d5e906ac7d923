"""Quality without labels, measured while a network is pre-trained: on the same images, with the same masks."""
