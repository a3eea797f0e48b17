"""The report on small made-up results: what it says, what it leaves out, and what its verdicts are."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import t

from malaria_diffusion.cells.lineage import LineageError
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.pipelines.validation.report import create_pipeline
from malaria_diffusion.questions import text
from malaria_diffusion.questions.classification.question import fit_of, judge_fit
from malaria_diffusion.questions.question import Verdict
from malaria_diffusion.questions.results import Results
from malaria_diffusion.report import figure_names, headlines, render_report, result_names, summary
from malaria_diffusion.report.claims import paper_claims
from malaria_diffusion.report.contents import definitions
from malaria_diffusion.report.sections.steps.question import STEP_CLAIMS
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.study import validation

from .projects import ROOT
from .toys import toy

FIGURES = figure_names()
DEFINITIONS = definitions()

FINGERPRINT = "1e948c2b0023be1d"
CLASSES = ("Parasitized", "Uninfected")
GROUPS = ("all", *CLASSES)
SECTIONS = [
    "scorecard",
    "claims",
    "cells",
    "diffusion",
    "classifier",
    "split",
    "recognised",
    "intensities",
    "descriptors",
    "acquisition",
    "constraint",
    "fidelity",
    "privacy",
    "utility",
    "explanations",
    "steps",
    "limits",
    "definitions",
    "reproducibility",
]


def spread(value, **more):
    return {"value": value, "low": value - 0.05, "high": value + 0.05} | more


def metrics(**values):
    names = {"accuracy": 0.9, "sensitivity": 0.91, "specificity": 0.89, "f1": 0.88, "auc": 0.95, "ece": 0.07} | values
    return {name: spread(value) for name, value in names.items()}


def distributions(verdict="alike", q=0.6):
    row = {"chi2": 12000.0, "chi2_p": 0.0, "g": 13000.0, "g_p": 0.0, "kl": 0.03, "cramers_v": 0.111, "bins": 32}
    row |= {"v": 0.111, "v_low": 0.101, "v_high": 0.121, "floor_chi2": 900.0, "floor_chi2_p": 1e-9, "floor_g_p": 1e-9}
    row |= {
        "floor_v": 0.083,
        "floor_v_low": 0.0,
        "floor_v_high": 0.09,
        "margin": 0.23,
        "image_chi2_p": 0.001,
        "image_chi2_q": 0.002,
    }
    row |= {"resplit_p": q, "resplit_q": q, "verdict": verdict}
    variables = ("grey", "red", "green", "blue", "score")
    return pd.DataFrame([{"variable": variable, "group": group} | row for variable in variables for group in GROUPS])


def fidelity(kernel=0.0, recall=0.0):
    rows = []
    for metric, better, apart in (("kernel distance", "smaller", kernel), ("recall", "larger", recall)):
        rows += [
            spread(0.4, metric=metric, group=group, better=better, n=40, space="pixels of <x>", dimensions=9)
            | {"floor": 0.31, "floor_low": 0.21, "floor_high": 0.41}
            | {"difference": apart, "difference_low": apart - 0.01, "difference_high": apart + 0.01}
            for group in GROUPS
        ]
    rows += [row | {"metric": "coverage"} for row in rows[3:]]
    return pd.DataFrame(rows)


def inception():
    """What FID has not is missing."""
    row = {"group": "all", "better": "smaller", "n": 40, "value": 0.31, "floor": 0.21, "difference": 0.1}
    spans = {
        f"{name}{end}": place for name in ("", "floor_", "difference_") for end, place in (("low", 0.0), ("high", 0.4))
    }
    return pd.DataFrame([{"metric": "KID"} | row | spans, {"metric": "FID"} | row | {"value": 123.4}])


def constraint(share=0.04):
    row = spread(
        share, limit=0.0, floor=0.01, floor_low=0.0, floor_high=0.03, synthetic_cells=40, real_cells=40, people=6
    )
    row |= {"difference": share - 0.01, "difference_low": -0.02, "difference_high": 0.08}
    return pd.DataFrame([{"violation": kind, "group": group} | row for kind in ("any", "hole") for group in GROUPS])


def recognised(difference=0.0, verdict="as real"):
    row = {"real": 0.93, "synthetic": 0.93 + difference, "difference": difference, "verdict": verdict}
    return pd.DataFrame(
        [{"group": group} | row | {"low": difference - 0.1, "high": difference + 0.1} for group in GROUPS]
    )


def descriptors(q=0.5):
    row = {"ks": 0.31, "low": 0.21, "high": 0.41, "floor_ks": 0.2, "energy": 0.1, "floor_energy": 0.1, "rank_p": q}
    row |= {"rank_p_adjusted": q, "real_cells": 40, "synthetic_cells": 40}
    return pd.DataFrame(
        [{"descriptor": name, "group": group} | row for name in ("hue", "dark_spots") for group in GROUPS]
    )


def associations(low=0.13):
    row = {"difference": 0.15, "low": low, "high": 0.2, "floor": 0.04, "first": "hue", "second": "dark_spots"}
    row |= {"real_spearman": 0.2, "synthetic_spearman": -0.6, "floor_spearman": 0.4}
    return pd.DataFrame([{"group": group} | row for group in GROUPS])


def audit(share=0.5, copies="no more than false alarms", attack=0.5, caught=8, testable=True):
    count = {"n": 40, "flagged": 1, "share": 0.025, "low": 0.001, "high": 0.13}
    count |= {"false_alarm_rate": 0.01, "expected_false_alarms": 0.4, "p_value": 0.3, "verdict": copies}
    near = {"n": 40, "share": share, "low": share - 0.1, "high": share + 0.1, "distance_ratio": 1.01}
    spaces = ("pixels", "features")
    power = {"kind": "all", "planted": 8, "caught": caught, "recall": caught / 8, "low": 0.1, "high": 1.0}
    if not testable:
        lack = {"testable": False, "reason": "3 cells are too few; raise data_processing.split.audit_fraction"}
        empty = {"comparison": [], "copies": [], "power": [], "matched_by": "nothing"}
        return {"novelty": lack | empty, "membership": dict(lack)}
    people = {"training_people": 12, "other_people": 10, "auc": 0.52, "low": 0.3, "high": 0.7, "p_value": 0.4}
    rows = [{"cells": cells} | people for cells in ("trained on", "never trained on")]
    by_person = {"testable": True, "reason": "", "rows": rows, "verdict": "people are not told apart"}
    return {
        "novelty": {
            "testable": True,
            "reason": "",
            "non_members": 30,
            "matched_by": "person and label",
            "comparison": [
                {"space": space, "group": group, "verdict": "no sign of memory"} | near
                for space in spaces
                for group in GROUPS
            ],
            "copies": [{"space": space} | count for space in (*spaces, "any")],
            "power": [{"space": space} | power for space in (*spaces, "any")],
        },
        "membership": {"testable": True, "reason": "", "members": 30, "non_members": 30, "people": 9}
        | {"matched_by": "person and label", "auc": attack, "low": attack - 0.04, "high": attack + 0.04}
        | {"uncalibrated": {"auc": attack, "low": attack - 0.04, "high": attack + 0.04}, "by_person": by_person}
        | {"tpr": 0.02, "tpr_low": 0.0, "tpr_high": 0.05, "fpr": 0.01, "verdict": "members are not told apart"},
    }


def utility(gain=0.0, shares=(0.25, 1.0)):
    rows = [{"arm": arm, "share": share} for share in shares for arm in ("real cells", "data sharing")]
    rows += [{"arm": "augmentation", "share": share} for share in shares if share < 1]
    rows += [{"arm": "synthetic cells alone", "share": 0.0}]
    rows += [{"arm": "as many real cells", "share": 1.0}]
    values = {"steps": 300, "seeds": 10, "real_cells": 90.0, "synthetic_cells": 40.0}
    values |= {"accuracy": 0.8, "low": 0.7, "high": 0.9}
    return pd.DataFrame(rows).assign(**values, gain=gain, gain_low=gain - 0.02, gain_high=gain + 0.02)


def protocols(by_cell=0.97, fingerprint=FINGERPRINT):
    rows = [
        {"protocol": protocol, "threshold": threshold, "metric": name} | metric
        for protocol, value in (("folds by person", 0.912), ("split by cell", by_cell))
        for threshold in ("one half", "by validation")
        for name, metric in metrics(accuracy=value).items()
        if threshold == "one half" or name not in ("auc", "ece")
    ]
    return pd.DataFrame(rows).assign(cells=60, people=6, fingerprint=fingerprint)


def steps(*verdicts, fingerprint=FINGERPRINT):
    """The claims of the ablation; the verdicts of unscaled and scaled betas."""
    rows = [
        {"claim": claim, "betas": betas, "verdict": verdict}
        for claim in STEP_CLAIMS
        for betas, verdict in zip(("unscaled", "scaled"), verdicts, strict=True)
    ]
    numbers = {"effect": 0.34, "low": 0.24, "high": 0.44, "margin": 0.1, "tau": -0.8, "p": 0.04}
    return pd.DataFrame(rows).assign(
        **numbers, measured="distance 0.5", rests_on="5 trainings", fingerprint=fingerprint
    )


def made(phantom=False, strategy="person", **changes):
    """Results of a run; `changes` replace tables."""
    test = {"people": 6, "cells": 60}
    dataset = {"images": "phantom cells" if phantom else "real cells", "cells": 240, "people": 24, "audit": 30}
    dataset |= {
        "classes": ["Parasitized", "Uninfected"],
        "rejected": 1,
        "rejected_by_reason": {"unreadable": 1},
        "size": 16,
        "split_strategy": strategy,
    }
    dataset |= {"split_seed": 7, "unseen": "unseen people" if strategy == "person" else "unseen images"}
    dataset |= {"source": "cells.zip", "fingerprint": FINGERPRINT, "splits": {"test": test}}
    terms = {"total": 3.9, "standard_error": 0.03, "middle": 3.0, "reconstruction": 0.9}
    person = {"cells": 10, "errors": 4, "accuracy": 0.61, "low": 0.26, "high": 0.88}
    delta = {
        f"{side}{end}": value
        for side in ("real", "floor", "synthetic", "difference")
        for end, value in (("", 0.2), ("_low", 0.1), ("_high", 0.3))
    }
    explained = {"factor": "all image factors", "scope": "people", "cells": 80, "people": 6}
    spots = {"mask": "dark spots", "cells": 8, "mask_share": 0.1, "low": 1.5, "high": 2.5}
    pair = {"space": "pixels", "rank": 1, "synthetic": 35, "label": "Uninfected", "member": 96, "person": "P14"}
    given = {
        "yolo_history": curves([0.6, 0.2, 0.2], [0.7, 0.4, 0.35]),
        "rejected_cells": pd.DataFrame([{"path": "a/<i>.png", "reason": "unreadable"}]),
        "variational_bound": {
            "images": 400,
            "people": 400,
            "prior": 0.001,
            "variances": {"beta": terms, "beta_tilde": terms},
        },
        "classification_metrics": {
            "unseen": metrics(accuracy=0.913, specificity=0.814),
            "threshold": 0.57,
            "unseen_at_threshold": metrics(accuracy=0.923),
        },
        "unseen_people": pd.DataFrame(
            [person | {"name": "<b>", "of": "person"}, person | {"name": "S1", "of": "smear"}]
        ),
        "recognised": recognised(),
        "distribution_tests": distributions(),
        "descriptor_tests": descriptors(),
        "association_differences": associations(),
        "acquisition_explained": pd.DataFrame(
            [
                {"target": target, "auc": value, "low": value - 0.1, "high": value + 0.1} | explained
                for target, value in (("real against synthetic", 0.86), ("real against real", 0.52))
            ]
        ),
        "acquisition_untestable": pd.DataFrame(
            [{"target": "positive class", "factor": "day", "scope": "people", "reason": "4 people"}]
        ),
        "acquisition_kept": pd.DataFrame([{"factor": "hue", "margin": 0.3, "verdict": "loses"} | delta]),
        "constraint_metrics": constraint(),
        "fidelity_metrics": fidelity(),
        "inception_metrics": inception(),
        "privacy_audit": audit(),
        "closest_pairs": pd.DataFrame([pair | {"distance": 105.0, "relative_distance": 0.97, "copy": False}]),
        "utility_metrics": utility(),
        "explanations": pd.DataFrame(
            [
                {"side": "real", "label": label, "network": network, "units": 7, "ratio": ratio} | spots
                for label in CLASSES
                for network, ratio in (("trained", 2.0), ("random", 1.1))
            ]
        ),
        "protocol_metrics": protocols(),
        "ablation_claims": steps("confirmed", "confirmed"),
    }
    return Results(dataset, CLASSES[0], 0.95, given | changes)


def curves(training, validation):
    epochs = np.arange(1, len(training) + 1)
    return pd.DataFrame({"epoch": epochs, "train_loss": training, "val_loss": validation})


@pytest.mark.parametrize(
    ("training", "validation", "verdict", "why"),
    [
        ([0.5, 0.1, 0.02, 0.01, 0.01], [0.4, 0.1, 0.12, 0.2, 0.3], "refuted", "overfits"),
        ([0.9, 0.8, 0.7, 0.6, 0.5], [0.9, 0.8, 0.7, 0.6, 0.5], "refuted", "underfits"),
        ([0.5, 0.2, 0.101, 0.1, 0.1], [0.5, 0.25, 0.2, 0.205, 0.2], "not decided", "neither"),
        ([0.5], [0.5], "not decided", "neither"),
        ([0.1, 1e-5, 0.0, 0.0, 0.0], [0.1, 0.0, 1e-5, 1e-5, 2e-5], "not decided", "neither"),  # all is learned
    ],
)
def test_an_optimal_fit_is_refuted_by_either_curve_and_never_confirmed(training, validation, verdict, why):
    judged = judge_fit(fit_of(curves(training, validation)))
    assert judged.verdict == verdict
    assert why in judged.why


def test_a_flat_noisy_curve_is_not_called_overfitted():
    rng = np.random.default_rng(0)
    for epochs in (8, 100):
        falling = np.linspace(0.5, 0.48, epochs)
        said = [judge_fit(fit_of(curves(falling, 0.2 * (1 + 0.03 * rng.normal(size=epochs))))) for _ in range(200)]
        assert np.mean([judged.verdict is Verdict.REFUTED for judged in said]) <= 0.05


def summary_of(results):
    return {
        "dataset": results.dataset,
        "ddpm": {
            "identity": "5dd4af9e",
            "epochs": 2,
            "images_seen": 224,
            "process": {"prediction": "v_prediction", "timesteps": 10},
            "training": {"batch_size": 16, "optimizer": "adam", "seed": 3},
            "sampling": {
                "solver": "ddim",
                "evaluations": 4,
                "guidance": 1.5,
                "seed": 5,
                "cells": 40,
                "cells_by_class": dict.fromkeys(CLASSES, 20),
            },
        },
        "classifier": {
            "initial_weights": "from scratch",
            "fit": fit_of(curves([0.6, 0.2, 0.2], [0.7, 0.4, 0.35])),
            "parameters": {"architecture": "yolov8n-cls", "epochs": 2, "batch_size": 32, "optimizer": "AdamW"}
            | {"learning_rate": 0.002, "momentum": 0.9, "seed": 11}
            | {"image_size": 64, "kept_epoch": "last", "colour": 0.1, "test_time_augmentation": True},
        },
        "n": {"real": 40, "synthetic": 40},
        "positive_class": "Parasitized",
        "confidence": 0.95,
        "seed": 13,
        "headlines": headlines(results),
        "code_version": "4d4db08",
    }


def rendered(results=None):
    results = results or made()
    return render_report(summary_of(results), results, dict.fromkeys(figure_names(), b"png"))


class Page(HTMLParser):
    """What a browser would make of the page."""

    VOID = ("meta", "img", "br")

    def __init__(self, html):
        super().__init__()
        self.open, self.ids, self.links, self.sources, self.headings, self.words = [], [], [], [], [], []
        self.titles = {}
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        of = dict(attributes)
        self.ids += [of["id"]] if "id" in of else []
        if "href" in of:
            self.links.append(of["href"])
            self.titles[of["href"]] = of.get("title")
        self.sources += [of["src"]] if "src" in of else []
        self.headings += [of["id"]] if tag == "h2" else []
        self.open += [] if tag in self.VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def judged(results, what):
    (claim,) = [claim for _, claim in paper_claims(results, headlines(results)) if what in claim.what]
    return claim


@pytest.fixture(scope="module")
def page():
    return Page(rendered())


def test_every_section_is_there_once_and_in_order(page):
    assert page.headings == SECTIONS
    assert len(page.ids) == len(set(page.ids))


def test_nothing_comes_from_outside_and_every_link_has_its_target(page):
    assert len(page.sources) == len(FIGURES)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert not re.search(r"url\(|@import|<script", rendered())


def test_terms_say_on_hover_and_in_the_list_what_they_mean(page):
    terms = {link for link in page.links if link.startswith("#def-")}
    assert len(terms) > 30
    for link in terms:
        assert page.titles[link] == DEFINITIONS[link.removeprefix("#def-")].text
    for definition in DEFINITIONS.values():
        assert " ".join(definition.text.split()) in page.text


@pytest.mark.parametrize("phantom", [True, False])
def test_phantom_cells_alone_have_the_reference_model_s_beside_them(phantom):
    catalog = yaml.safe_load((ROOT / "conf/base/catalog.yml").read_text())
    sheet = (ROOT / catalog["reference_sheet"]["dataset"]["filepath"]).read_bytes()
    results = made(phantom=phantom)
    html = render_report(summary_of(results), results, {}, sheet)
    assert html.count("data:image/png;base64," + base64.b64encode(sheet).decode()) == phantom
    assert ("Not of this run." in Page(html).text) == phantom
    assert "Not of this run." not in rendered(results)


def test_figures_are_numbered_once_from_0(page):
    numbers = [int(number) for number in re.findall(r"Figure (\d+)\.", page.text)]
    assert sorted(numbers) == list(range(len(FIGURES)))
    later = [number for number in numbers if number > 8]
    assert later == sorted(later)


@pytest.mark.parametrize(
    "results",
    [
        {},
        {"phantom": True},
        {"protocol_metrics": None, "ablation_claims": None, "distribution_tests": distributions("cannot tell", 1.0)},
        {"privacy_audit": audit(testable=False), "strategy": "cell"},
        {"utility_metrics": utility(shares=(1.0,)), "explanations": made()["explanations"].iloc[:0]},
        {"constraint_metrics": constraint().iloc[:0]},
        {"inception_metrics": inception().iloc[:0]},
        {"acquisition_explained": made()["acquisition_explained"].iloc[:0]},
        {"unseen_people": made()["unseen_people"].iloc[:0], "rejected_cells": made()["rejected_cells"].iloc[:0]},
        {"ablation_claims": steps("confirmed", "refuted").assign(tau=np.nan, p=np.nan, effect=np.inf)},
    ],
)
def test_whatever_is_missing_nothing_unmeant_is_printed(results):
    html = rendered(made(**results))
    page = Page(html)
    assert page.headings == SECTIONS
    assert not re.search(r"\b(nan|inf|None|NaN|True)\b|\[\]|\{\}|\.[A-Z][a-z]", page.text)
    if results.get("strategy") == "cell":
        assert "unseen people" not in html
        assert "People were not kept apart" in page.text


@pytest.mark.parametrize(
    "shown",
    [
        "0.913 [0.863, 0.963]",  # accuracy
        "0.814 [0.764, 0.864]",  # specificity
        "0.923 [0.873, 0.973]",  # at the threshold chosen
        "0.610 [0.260, 0.880]",  # a person's
        "0.111 [0.101, 0.121]",  # V
        "0.310 [0.210, 0.410]",  # a descriptor, and a floor
        "0.860 [0.760, 0.960]",  # a factor
        "0.400 [0.350, 0.450]",  # a kernel distance
        "0.310 [0.000, 0.400]",  # KID
        "123",  # FID
        "0.025 [0.001, 0.130]",  # copies
        "0.500 [0.460, 0.540]",  # attack
        "2.00 [1.50, 2.50]",  # localisation
        "+0.340 [0.240, 0.440]",  # steps
        "3.90 [3.84, 3.96]",  # bound
        "0.912 [0.862, 0.962]",  # folds
        "8 of 8",
    ],
)
def test_numbers_stand_with_their_intervals(page, shown):
    assert shown in page.text


def test_code_data_model_and_seeds_are_named(page):
    for what in ("4d4db08", FINGERPRINT, "5dd4af9e", "split 7, diffusion 3, sampling 5, classifier 11, comparison 13"):
        assert what in page.text


def test_what_the_classifiers_answers_rest_on_is_told(page):
    assert "64 px, the last epoch kept, tints of 0.1, answers the mean of eight views" in page.text


def test_names_are_text_and_not_html():
    html = rendered()
    assert "&lt;b&gt;" in html
    assert "<b></td>" not in html
    assert "a/&lt;i&gt;.png" in html
    assert "pixels of &lt;x&gt;" in html


@pytest.mark.parametrize("other", [None, "another"])
def test_without_results_of_these_cells_the_command_is_shown(other):
    given = {"protocol_metrics": None, "ablation_claims": None}
    if other:
        given = {
            "protocol_metrics": protocols(0.777, other),
            "ablation_claims": steps("refuted", "refuted", fingerprint=other),
        }
    html = rendered(made(**given))
    for pipeline in ("folds", "ablation"):
        assert f"<code>kedro run --pipeline {pipeline}</code>" in html
        assert f"not run: kedro run --pipeline {pipeline}" in html
    assert "0.777" not in html
    assert 'refuted">' not in html
    old = made(ablation_claims=steps("refuted", "refuted").drop(columns="fingerprint"))
    assert old.of_these_cells("ablation_claims") is None


def test_with_results_of_these_cells_no_command_is_shown(page):
    assert "kedro run" not in page.text


@pytest.mark.parametrize(
    ("what", "changes", "verdict"),
    [
        ("Accuracy", {"protocol_metrics": protocols(0.97)}, "not decided"),
        ("Accuracy", {"protocol_metrics": protocols(0.97).assign(low=0.955)}, "confirmed"),
        ("Accuracy", {"protocol_metrics": protocols(0.97).assign(low=0.949)}, "not decided"),
        ("Accuracy", {"protocol_metrics": protocols(0.99).assign(low=0.98, high=1.0)}, "confirmed"),
        ("Accuracy", {"protocol_metrics": protocols(0.9)}, "refuted"),
        ("Accuracy", {"protocol_metrics": None}, "not testable"),
        ("Accuracy", {"protocol_metrics": None, "strategy": "cell"}, "refuted"),
        ("Intensities", {}, "confirmed"),
        ("Intensities", {"distribution_tests": distributions("not shown to be alike", 0.01)}, "refuted"),
        ("Intensities", {"distribution_tests": distributions("not shown to be alike", 0.3)}, "not decided"),
        ("Intensities", {"distribution_tests": distributions("cannot tell", 1.0)}, "not testable"),
        ("very similar", {}, "confirmed"),
        ("very similar", {"fidelity_metrics": fidelity(kernel=0.2)}, "refuted"),
        ("very similar", {"fidelity_metrics": fidelity(recall=-0.2)}, "refuted"),
        ("very similar", {"fidelity_metrics": fidelity(kernel=-0.2, recall=0.2)}, "confirmed"),
        (
            "very similar",
            {"fidelity_metrics": fidelity().assign(difference_low=-0.01, difference_high=0.2)},
            "not decided",
        ),
        (
            "very similar",
            {"fidelity_metrics": fidelity().assign(difference_low=-0.2, difference_high=0.01)},
            "not decided",
        ),
        ("very similar", {"fidelity_metrics": fidelity(recall=-0.2).replace("recall", "density")}, "not decided"),
        ("very similar", {"recognised": recognised(-0.2)}, "refuted"),
        ("very similar", {"recognised": recognised(0.06, "cannot tell")}, "not decided"),
        ("very similar", {"descriptor_tests": descriptors(0.01)}, "not decided"),
        ("very similar", {"descriptor_tests": descriptors(np.nan)}, "not decided"),
        ("very similar", {"distribution_tests": distributions("not shown to be alike")}, "not decided"),
        ("denoise better", {}, "confirmed"),
        ("denoise better", {"ablation_claims": steps("refuted", "refuted")}, "refuted"),
        ("takes longer", {"ablation_claims": steps("refuted", "confirmed")}, "not decided"),
        ("Few steps", {"ablation_claims": None}, "not testable"),
        ("improve models", {"utility_metrics": utility(0.03)}, "confirmed"),
        ("improve models", {"utility_metrics": utility(-0.03)}, "refuted"),
        ("improve models", {"utility_metrics": utility(0.01)}, "not decided"),
        ("improve models", {"utility_metrics": utility(0.03, shares=(1.0,))}, "not testable"),
        ("train models", {"utility_metrics": utility(0.03)}, "confirmed"),
        ("train models", {"utility_metrics": utility(-0.02)}, "confirmed"),
        ("train models", {"utility_metrics": utility(-0.04)}, "not decided"),
        ("train models", {"utility_metrics": utility(-0.08)}, "refuted"),
        ("train models", {"utility_metrics": utility(0.03).assign(gain_low=np.nan, gain_high=np.nan)}, "not decided"),
        ("train models", {"utility_metrics": utility().query("arm != 'synthetic cells alone'")}, "not testable"),
        ("keep the associations", {}, "not decided"),
        ("Privacy", {}, "not decided"),
        ("Privacy", {"privacy_audit": audit(share=0.7)}, "refuted"),
        ("Privacy", {"privacy_audit": audit(copies="copies found")}, "refuted"),
        ("Privacy", {"privacy_audit": audit(attack=0.6)}, "refuted"),
        ("Privacy", {"privacy_audit": audit(caught=3)}, "not testable"),
        ("Privacy", {"privacy_audit": audit(testable=False)}, "not testable"),
        ("environmental", {}, "not testable"),
        ("SHAP", {}, "not testable"),
    ],
)
def test_verdicts_go_both_ways(what, changes, verdict):
    assert judged(made(**changes), what).judged.verdict == verdict


def test_help_is_judged_where_people_are_fewest():
    table = pd.concat([utility(0.03, (0.5,)), utility(-0.03, (0.25,))])
    assert judged(made(utility_metrics=table), "improve models").judged.verdict is Verdict.REFUTED


def test_phantom_cells_settle_nothing_but_cost_and_show_all_numbers():
    real, phantom = (paper_claims(made(phantom=way), headlines(made(phantom=way))) for way in (False, True))
    assert [claim.here for _, claim in phantom] == [claim.here for _, claim in real]
    settled = {claim.what for _, claim in phantom if claim.judged.verdict is not Verdict.NOT_TESTABLE}
    assert settled == {"Training with more steps takes longer"}
    page = Page(rendered(made(phantom=True)))
    assert "These are phantom cells." in page.text
    assert "not testable here phantom cells" in page.text


def test_other_images_settle_nothing_but_cost_either():
    other = made()
    other = replace(other, dataset=other.dataset | {"classes": ["0", "1"]})
    judged_here = paper_claims(other, headlines(other))
    settled = {claim.what for _, claim in judged_here if claim.judged.verdict is not Verdict.NOT_TESTABLE}
    assert settled == {"Training with more steps takes longer"}
    assert "This run (other images)" in Page(rendered(other)).text


def test_privacy_is_never_called_safe():
    claim = judged(made(), "Privacy")
    assert (claim.judged.verdict, claim.judged.why) == ("not decided", "nothing found by these audits")


def test_every_headline_has_a_number_within_its_interval_or_a_reason():
    for lines in (headlines(made()), headlines(made(privacy_audit=audit(testable=False)))):
        for line in lines.values():
            assert line["what"]
            assert line.get("reason") or (line["low"] <= line["value"] <= line["high"] and line["rests_on"])


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ((0.5, 0.4, 0.62), "0.500 [0.400, 0.620]"),
        ((68.9, 42.34, 106.7), "69 [42, 107]"),
        ((-0.0001, -0.2, 0.2), "0.000 [-0.200, 0.200]"),
        ((0.0021, 0.00026, 0.0076), "0.0021 [0.0003, 0.0076]"),
        ((0.0, 0.0, 0.0), "0.000 [0.000, 0.000]"),
        ((float("nan"), float("-inf"), 12.0), "\N{EN DASH} [\N{EN DASH}, 12.0]"),
    ],
)
def test_numbers_have_the_decimals_of_their_interval(numbers, shown):
    assert text.interval(*numbers) == shown


def test_the_nodes_give_the_report_all_it_needs():
    nodes = {node.name: set(node.inputs) for node in create_pipeline().nodes}
    results = set(result_names()) | {"cells"}  # which know of themselves
    assert set(FIGURES) | results | {"summary", "reference_sheet"} == nodes["write_report"]
    assert results < nodes["summarise_study"]


def test_the_bound_s_interval_is_of_the_confidence_asked_for():
    usual = headlines(made())["bound"]
    wide = headlines(replace(made(), confidence=0.99))["bound"]
    people = made()["variational_bound"]["people"]
    ratio = t.ppf(0.995, people - 1) / t.ppf(0.975, people - 1)
    assert wide["high"] - wide["value"] == pytest.approx(ratio * (usual["high"] - usual["value"]))


@pytest.mark.parametrize("other", [{"identity": "another"}, {"best_epoch": 1}])
def test_a_bound_of_another_model_or_epoch_is_refused(other):
    lineage = {"identity": "5dd4af9e", "best_epoch": 2}
    synthetic = toy(np.zeros((1, 3, 8, 8), np.uint8), pd.DataFrame({"label": CLASSES[:1]}))
    results = made(variational_bound=made()["variational_bound"] | lineage | other)
    with pytest.raises(LineageError, match=rf"{next(iter(other.values()))}.*5dd4af9e.*measure it again"):
        summary.summary_of(results, replace(synthetic, lineage=lineage), ClassifierParameters(), ComparisonParameters())


def test_a_report_is_kept_whatever_the_encoding_of_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "text_encoding", lambda encoding, *_: encoding or "ascii")
    monkeypatch.setattr(validation, "render_report", lambda *_: "Pietro Liò")
    written = validation.Validation(made(), {}, {}).report(tmp_path / "report.html")
    assert written.read_text(encoding="utf-8") == "Pietro Liò"
