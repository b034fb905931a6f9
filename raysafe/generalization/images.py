"""Images of one size: two domains, or a model and its data, need it."""

from __future__ import annotations

from raysafe.data.labelled import Labelled
from raysafe.errors import ConfigError


def resized(labelled: Labelled, size: tuple[int, int] | None) -> Labelled:
    """Images of this height and width, their pixels averaged over areas; the same where there is nothing to change.

    Raises ConfigError for features, which have no size.
    """
    if size is None or labelled.x.shape[2:] == size:
        return labelled
    if not labelled.is_images:
        raise ConfigError(f"size {size[0]} {size[1]} is for images, and these data are features: leave it out")
    import torch
    from torch.nn.functional import interpolate

    before = labelled.x.shape[2:]
    shrinks = all(new <= old for new, old in zip(size, before, strict=True))
    x = torch.from_numpy(labelled.x)
    # bilinear without averaging would skip pixels where images shrink, and areas make blocks where they grow
    made = interpolate(x, size, mode="area") if shrinks else interpolate(x, size, mode="bilinear", antialias=True)
    return Labelled(made.clamp(0, 1).numpy(), labelled.y, labelled.labels)
