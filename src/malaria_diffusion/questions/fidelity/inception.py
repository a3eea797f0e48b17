"""FID and KID as they are published, in the space of Inception-v3 that all papers use, each beside its floor.

Heusel et al. 2017, Binkowski et al. 2018: 2,048 pooled features of the network of 2015-12-05 at 299 pixels, resized as
TensorFlow did (torch-fidelity). What it learned are photographs: of cells it sees less than its fame suggests (Stein et
al. 2023, section 4), but its numbers are those that others give.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from malaria_diffusion.compute.config import DeviceName
from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.fidelity.measure import SIDES, kernel_distances, resampled
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.comparison import beside_floor, compared_groups, in_group

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
SKIPPED = (
    f"FID and KID are not measured, as there are no weights of their network: get them with `curl -LO {URL}` and give "
    "the file with `--params validation.fidelity.inception_weights=PATH`"
)
COLUMNS = ("metric", "group", "better", "n", "value", "floor", "difference")
AT_ONCE = 16


def inception(weights: Path) -> Any:
    """The network: a torch module from uint8 images (N, 3, S, S) to a tuple of one tensor (N, 2048).

    Raises:
        UserError: no such file, or not the weights of this network.
    """
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    if not weights.is_file():
        raise UserError(
            f"validation.fidelity.inception_weights is {str(weights)!r}, and there is no such file; get it with `curl "
            f"-LO {URL}`, or set it to null to do without FID and KID"
        )
    try:
        torch.load(weights, weights_only=True)  # the extractor would run whatever a pickle says
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(weights))
    except Exception as error:  # whatever pickle, zip or the network made of it
        raise UserError(
            f"validation.fidelity.inception_weights: {weights} does not hold the weights of FID's Inception-v3 "
            f"({type(error).__name__}); get the file anew with `curl -LO {URL}`"
        ) from error


def embed(network: Any, cells: NDArray[np.uint8], device: DeviceName) -> NDArray[np.float32]:
    """Features (N, 2048) of cells, uint8, (N, 3, S, S).

    Raises:
        UserError: features that are not finite.
    """
    import torch

    from malaria_diffusion.compute.device import resolve_device

    place = resolve_device(device)
    network.to(place)
    features = np.empty((len(cells), 2048), np.float32)
    with tqdm(total=len(cells), desc="Inception", unit="cell", disable=len(cells) < 4 * AT_ONCE) as bar:
        for start in range(0, len(cells), AT_ONCE):
            batch = torch.from_numpy(np.array(cells[start : start + AT_ONCE])).to(place)
            with torch.inference_mode():
                features[start : start + len(batch)] = network(batch)[0].cpu().numpy()
            bar.update(len(batch))
    if not np.isfinite(features).all():
        raise UserError(
            "validation.fidelity.inception_weights gives features that are not finite; get the file anew with `curl "
            f"-LO {URL}`"
        )
    return features


def frechet_inception_distance(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """FID of features (N, D) and (M, D), exact also for fewer images than dimensions.

    The trace of the root of the product of both covariances is the sum of the singular values of one product of the
    centred features, which is a matrix of N by M.
    """
    mean, other_mean = (z.mean(axis=0, dtype=np.float64) for z in (x, y))
    first, second = (x - mean) / np.sqrt(len(x) - 1), (y - other_mean) / np.sqrt(len(y) - 1)
    shared = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    apart = np.square(mean - other_mean).sum() + np.square(first).sum() + np.square(second).sum() - 2 * shared
    return max(0.0, float(apart))


def inception_table(
    features: Mapping[str, NDArray[np.floating]], cells: Mapping[str, pd.DataFrame], bootstrap: Bootstrap
) -> pd.DataFrame:
    """FID and KID of synthetic against unseen real cells, beside their floors.

    KID counts pairs of different people only, see `kernel_distances`, and its interval resamples them. FID has no
    interval: 2,048 dimensions need many more images than there are, so it says nothing but how it compares with its
    floor, which is of as many images.

    Args:
        features: For "real" (unseen people), "floor" (training people) and "synthetic", (N, 2048).
        cells: For each side one row an image, with the columns label and person (unused for synthetic ones).
        bootstrap: Of people for real cells, of images for synthetic ones.

    Returns:
        One row for each metric and group, as `fidelity_table` has; what FID has not is missing.

    Raises:
        UserError: too few images or people.
    """
    fid, kid = list[dict[str, Any]](), list[dict[str, Any]]()
    for group in tqdm(compared_groups(cells["real"]["label"], 2), desc="measuring FID and KID", unit="group"):
        sides = {}
        for side in SIDES:
            chosen = in_group(cells[side]["label"], group)
            people = None if side == "synthetic" else cells[side].loc[chosen, "person"].to_numpy(dtype=str)
            sides[side] = resampled(features[side][chosen], people, bootstrap)
        real = sides["real"]
        about = {"group": group, "better": "smaller", "n": len(real.features)}
        value, floor = (
            frechet_inception_distance(real.features, sides[side].features) for side in ("synthetic", "floor")
        )
        fid.append({"metric": "FID"} | about | {"value": value, "floor": floor, "difference": value - floor})
        draws, of_floor = (kernel_distances(real, sides[side]) for side in ("synthetic", "floor"))
        found = ((drawn[0], bootstrap.interval(drawn[1:])) for drawn in (draws, of_floor, draws - of_floor))
        kid.append({"metric": "KID"} | about | beside_floor(found))
    return pd.DataFrame(kid + fid)
