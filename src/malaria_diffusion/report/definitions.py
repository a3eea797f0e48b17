"""What each number and word of the report means."""

from __future__ import annotations

from typing import NamedTuple

from malaria_diffusion.questions.privacy import membership
from malaria_diffusion.questions.privacy import novelty as privacy


class Definition(NamedTuple):
    """A term and what it means."""

    name: str
    text: str


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


_DISTANCE = "Small is alike."
DEFINITIONS = {
    key: Definition(name, meaning)
    for key, name, meaning in (
        (
            "interval",
            "Interval",
            "The numbers in brackets. People are left out in turn (classifier) or drawn again (all else), as cells "
            "of one person are alike; of synthetic cells, images. They hold for this split and these trainings.",
        ),
        ("real", "Real", "Cells that trained neither the diffusion model nor the classifier, of people held out."),
        (
            "floor",
            "Floor",
            "The same number for real cells of other people in place of synthetic ones: same code, as many cells. "
            "Synthetic cells cannot be expected to come closer.",
        ),
        (
            "margin",
            "Margin",
            "The difference up to which things are called alike: of intensities chosen beforehand (a parameter), of "
            "associations what two groups of real people differ by, exceeded only at the rate 1 - confidence.",
        ),
        ("accuracy", "Accuracy", "(TN + TP) / (TN + FP + FN + TP): the share of cells classified rightly."),
        ("sensitivity", "Sensitivity", "The share of the positive class's cells called so."),
        ("specificity", "Specificity", "The share of other cells not called of the positive class."),
        ("f1", "F1", "2 TP / (2 TP + FP + FN)."),
        ("balanced_accuracy", "Balanced accuracy", "Mean over classes of the share of their cells classified rightly."),
        ("macro_f1", "Macro F1", "Mean over classes of F1, each class against all others."),
        (
            "auc",
            "AUC",
            "Area under the ROC curve: chance that a cell of the positive class gets a higher score than another. "
            "0.5 is chance.",
        ),
        (
            "ece",
            "ECE",
            "Expected calibration error (Guo et al. 2017): mean gap between stated confidence and accuracy, 15 bins, "
            "less what chance adds. 0 is calibrated.",
        ),
        (
            "threshold",
            "Threshold chosen on validation cells",
            "The probability from which on a cell is called of the positive class; maximises sensitivity + specificity "
            "on validation cells (Youden 1950).",
        ),
        (
            "protocol",
            "Protocol",
            "Who is kept apart: by cell, images of one person train and test, as it seems in the paper; by person they "
            "do not; folds by person judge every cell once.",
        ),
        (
            "recognised",
            "Recognised as intended",
            "Share of cells that the classifier calls what they are or, if synthetic, were meant to be. As real: two "
            "one-sided tests find the difference within 0.05 of zero.",
        ),
        (
            "bound",
            "Variational bound",
            "Upper bound of the negative log-likelihood of held-out 8-bit cells (Ho et al. 2020, eq. 5). Fewer bits "
            "per dimension are better.",
        ),
        (
            "chi2",
            "Chi-square",
            "Pearson's test on counts of pixels. Small p: the two sides differ. It takes pixels as independent, which "
            "they are not.",
        ),
        (
            "kl",
            "KL",
            "Log-likelihood ratio: the Kullback-Leibler divergence of the table from independence, times twice the "
            "count. Its p has the fault of chi-square's.",
        ),
        (
            "v",
            "Cramer's V",
            "Effect size of the chi-square on shares: 0 alike, 1 disjoint; less what chance adds, so that it does not "
            "grow with few cells or people.",
        ),
        (
            "imagep",
            "Image p",
            "p of chi-square when images, not pixels, change sides at random within their class.",
        ),
        (
            "rank",
            "Resplit rank",
            "Share of differences between two groups of real people that are as large as that of synthetic cells. "
            "Small: further away than people are from each other.",
        ),
        ("q", "q", "p corrected for the number of tests (Benjamini and Hochberg 1995)."),
        (
            "alike",
            "Alike",
            "V lies within the margin with the stated confidence (one-sided). Else: not shown to be alike, or too few "
            "people to tell.",
        ),
        (
            "ks",
            "KS",
            "Kolmogorov-Smirnov statistic: largest gap between two cumulative distributions, 0 alike, 1 disjoint. "
            "Intervals lie rather high.",
        ),
        (
            "descriptor",
            "Descriptors",
            "fill_fraction: foreground's share of the frame; eccentricity: 0 circle, 1 line; hue in degrees and "
            "saturation of the stain; texture: local variation of absorbance; dark_spots and dark_area: number and "
            "share of spots that absorb far more than the cell's median.",
        ),
        (
            "association",
            "Difference of associations",
            "Mean absolute difference between the rank correlations (Spearman) of all pairs of descriptors. "
            + _DISTANCE,
        ),
        (
            "factor",
            "Image factors",
            "Conditions that show in the image, measured beside the dark spots: hue, saturation, brightness, focus. "
            "Day, hour and microscope are read from file names.",
        ),
        (
            "factorauc",
            "AUC of a factor",
            "Chance that a model of the factor alone orders a pair of the two sides rightly, for people it was not "
            "fitted to. 0.5: the factor tells nothing.",
        ),
        (
            "scope",
            "Scope",
            "people: pairs of any people. within person: pairs of cells of one person, whose slide and stain are the "
            "same.",
        ),
        (
            "delta",
            "Cliff's delta",
            "Chance that a cell of the positive class has more of the factor than another, less the chance that it has "
            "less. -1 to 1.",
        ),
        (
            "kept",
            "Keeps, loses, exaggerates",
            "The association of a factor with the positive class in synthetic cells beside that in real ones; where "
            "none is shown in real cells there is none to keep. Not decided: the interval settles nothing.",
        ),
        (
            "space",
            "Feature space",
            "Activations of the named network, projected on whitened principal components of real cells.",
        ),
        (
            "kernel",
            "Kernel distance",
            "Squared maximum mean discrepancy with KID's cubic kernel, unbiased (Binkowski et al. 2018). " + _DISTANCE,
        ),
        (
            "frechet",
            "Frechet distance",
            "Between Gaussians with the features' means and covariances (Heusel et al. 2017); biased upwards. "
            + _DISTANCE,
        ),
        (
            "precision",
            "Precision and density",
            "Precision: share of synthetic cells within reach of a real one (Kynkaanniemi et al. 2019). Density: how "
            "many real ones reach them (Naeem et al. 2020). Large is good.",
        ),
        (
            "coverage",
            "Recall and coverage",
            "Recall: share of real cells within reach of a synthetic one. Coverage: share of real cells with a "
            "synthetic one in their neighbourhood. Large is varied.",
        ),
        (
            "member",
            "Member and non-member",
            "Member: a cell that trained the diffusion model. Non-member: a cell of the same people that trained "
            "nothing, kept for this audit.",
        ),
        ("share", "Share nearer to a member", _sentence(privacy.DEFINITIONS["share"])),
        ("ratio", "Distance ratio", _sentence(privacy.DEFINITIONS["distance_ratio"])),
        ("relative", "Relative distance", _sentence(privacy.DEFINITIONS["relative_distance"])),
        ("copy", "Copy", _sentence(privacy.DEFINITIONS["copy"] + "; " + privacy.DEFINITIONS["threshold"])),
        ("falsealarm", "False alarm rate", _sentence(privacy.DEFINITIONS["false_alarm_rate"])),
        ("pcopies", "p of copies", _sentence(privacy.DEFINITIONS["p_value"])),
        ("caught", "Caught", _sentence(privacy.DEFINITIONS["caught"])),
        ("attack", "AUC of the attack", _sentence(membership.DEFINITIONS["auc"])),
        ("tpr", "TPR", _sentence(membership.DEFINITIONS["tpr"])),
        ("difficulty", "Difficulty", _sentence(membership.DEFINITIONS["difficulty"])),
        ("peopleauc", "AUC of people", _sentence(membership.DEFINITIONS["people"])),
        (
            "augmentation",
            "Augmentation",
            "A DDPM is trained on the few people alone, and its cells are added to theirs: nothing from outside comes "
            "in.",
        ),
        (
            "sharing",
            "Data sharing",
            "Cells of the DDPM of all training people are added to those of the few, or given alone.",
        ),
        (
            "gain",
            "Gain",
            "Accuracy less that of the same real cells alone (of synthetic cells alone: less that of as many real "
            "ones), after as many optimizer steps; paired by person and seed. Its interval is for new people and "
            "seeds.",
        ),
        (
            "shap",
            "SHAP",
            "Owen values (Lundberg and Lee 2017): what each part of a cell adds to the log-odds of the positive class "
            "(without one: of the cell's own).",
        ),
        (
            "localisation",
            "Localisation ratio",
            "Share of the attribution on the mask over the mask's share of the cell. 1: the mask is ignored.",
        ),
        (
            "random",
            "Random weights",
            "The same network untrained (Adebayo et al. 2018). Only what exceeds its ratio was learned.",
        ),
    )
}
