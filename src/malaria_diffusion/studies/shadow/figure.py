"""How many members are found at how few false alarms, by both attacks, as Carlini et al. 2022 draw it."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from malaria_diffusion.figures.style import FLOOR, REAL, SYNTHETIC, new_figure
from malaria_diffusion.studies.shadow.attack import LIKELIHOOD_RATIO, THRESHOLD, Attack

STYLES = {LIKELIHOOD_RATIO: (SYNTHETIC, "-"), THRESHOLD: (REAL, "--")}


def roc_figure(found: Attack, caption: str) -> Figure:
    """ROC curves on logarithmic axes, of all shadow models together and of the diffusion model.

    Args:
        found: See `Attack`.
        caption: What the cells are.
    """
    figure = new_figure(9, 4.4)
    for axes, (target, said) in zip(figure.subplots(1, 2), found.summary.items(), strict=True):
        if not said["testable"]:
            axes.set_axis_off()
            axes.set_title(target, fontsize=9)
            axes.text(0.5, 0.5, f"Not testable: {said['reason']}", ha="center", va="center", fontsize=8, wrap=True)
            continue
        least = 1 / said["non_members"]
        axes.plot([least, 1], [least, 1], color=FLOOR, linestyle=":", label="chance")
        for attack, (colour, line) in STYLES.items():
            auc, curve = (
                said[attack]["auc"],
                found.roc[(found.roc["target"] == target) & (found.roc["attack"] == attack)],
            )
            label = f"{attack}: AUC {auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]"
            axes.step(curve["fpr"], curve["tpr"], where="post", color=colour, linestyle=line, label=label)
        axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("non-members taken for members")
        axes.set_ylabel("members found")
        counts = f"{said['members']} members, {said['non_members']} non-members"
        of_all = f" of {said['models']} models" if said["models"] > 1 else ""
        axes.set_title(f"{target}: {said['verdict']}\n{counts}{of_all}", fontsize=9)
        axes.legend(fontsize=7, loc="best", title=caption, title_fontsize=7)
    return figure
