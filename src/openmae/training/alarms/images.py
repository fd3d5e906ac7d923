"""Alarms about the first images of a run: constant ones, copies, wrong statistics."""

from openmae.training.alarms.alarm import Kind
from openmae.training.alarms.first_images import FirstImages

# A share of the images that is worth an alarm. Crops of healthy sets are sometimes empty: black borders, sky.
MANY = 0.05
# At least so many, for small samples.
SOME = 4

# Photographs of other kinds than ImageNet's are within 0.6 of its mean and 0.7 … 1.3 of its deviation. Images beyond
# these bounds were normalised with numbers of others; and the network's initial weights expect 0 and 1.
FAR_MEAN, SMALLEST_STD, LARGEST_STD = 1.0, 1 / 3, 3.0


def constant(found: FirstImages) -> str | None:
    """Images of one colour."""
    if found.constant < max(SOME, MANY * found.images):
        return None
    return (
        f"{found.constant} of the first {found.images} images have one value in all of their pixels and teach nothing; "
        "look at them with openmae check, and leave them out"
    )


def duplicates(found: FirstImages) -> str | None:
    """Images that are equal."""
    if found.duplicates < max(SOME, MANY * found.compared):
        return None
    return (
        f"{found.duplicates} of the first {found.compared} images equal another one of them exactly; leave the copies "
        "out: they add time, no knowledge"
    )


def statistics(found: FirstImages) -> str | None:
    """Pixels that are far from mean 0 and deviation 1 after normalisation."""
    for channel, (mean, std) in enumerate(zip(found.mean, found.std, strict=True)):
        if abs(mean) > FAR_MEAN or not SMALLEST_STD <= std <= LARGEST_STD:
            return (
                f"normalised pixels of channel {channel} have mean {mean:.2g} and deviation {std:.2g} rather than 0 "
                "and 1; measure --mean and --std with --normalize from-data"
            )
    return None


def alarms_of(found: FirstImages, *, statistics_matter: bool) -> dict[Kind, str | None]:
    """The message of each rule about images; None where all is well.

    Args:
        found: what was found in the first images.
        statistics_matter: weights that were trained before bring their own statistics, to which images of another kind
            must not be adapted.
    """
    return {
        "constant": constant(found),
        "duplicates": duplicates(found),
        "statistics": statistics(found) if statistics_matter else None,
    }
