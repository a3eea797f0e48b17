"""What commit 2976abf wrote, before the code moved house, is read, sampled from and gone on with.

`tests/stored/2976abf.zip` is the project folder after `kedro run --pipelines data_processing,diffusion` of that commit,
on 64 phantom cells and with the parameters in it, without the figures.
"""

import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
import yaml

import malaria_diffusion as md
from malaria_diffusion.cells.lineage import refuse_other_cells, refuse_other_weights
from malaria_diffusion.datasets.cells import PackedCells, SyntheticCells
from malaria_diffusion.diffusion.training.trainer import epochs_done
from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.comparison import Comparison
from malaria_diffusion.study.training import export_ddpm, plan_training, train_ddpm

from .projects import ROOT

IDENTITY = "9b97b7c3f6d17f8e"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    with zipfile.ZipFile(ROOT / "tests/stored/2976abf.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def cells(stored):
    return PackedCells(filepath=str(stored / "data/03_primary/cells.npy")).load()


@pytest.fixture
def synthetic(stored):
    return SyntheticCells(filepath=str(stored / "data/07_model_output/synthetic_cells.npy")).load()


@pytest.fixture
def model(stored):
    return md.DiffusionModel.load(stored / "data/06_models/ddpm")


def test_cells_model_and_synthetic_cells_belong_together(cells, model, synthetic):
    assert (len(cells), len(cells.part("train")), len(synthetic)) == (64, 23, 8)
    lineage = model.lineage.model_dump(mode="json")
    refuse_other_cells(lineage, cells.fingerprint, cells.table)
    refuse_other_weights(lineage, synthetic.lineage)
    comparison = Comparison.choose(cells, synthetic, 8, 0)
    assert len(comparison.synthetic) == len(comparison.unseen) == 8


def test_the_model_makes_the_images_that_it_made_then(stored, model, synthetic):
    asked = yaml.safe_load((stored / "conf/local/parameters.yml").read_text())["diffusion"]["sampling"]
    again = model.generate(md.SamplingParameters.model_validate(asked))
    assert again.labels.tolist() == synthetic.labels.tolist()
    apart = np.abs(again.pixels.astype(int) - synthetic.pixels)
    assert apart.max() <= 1  # another processor rounds otherwise


def test_the_training_has_the_name_it_had_and_goes_on(stored, cells, model, tmp_path):
    old = model.lineage
    longer = old.training.model_copy(update={"epochs": 3})
    plan = plan_training(cells, old.process, old.network, longer, md.SamplingParameters(evaluations=4))
    assert plan["identity"] == IDENTITY == old.identity
    folder = tmp_path / "ddpm" / IDENTITY
    shutil.copytree(stored / "data/02_intermediate/ddpm" / IDENTITY, folder)
    assert epochs_done(folder) == 2
    record, history = train_ddpm(cells, plan, longer, tmp_path)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert np.isfinite(history[["loss", "val_loss", "kernel_distance"]]).all(axis=None)
    before = pd.read_csv(stored / "data/06_models/training_history.csv")
    pd.testing.assert_frame_equal(history.head(2)[before.columns.to_list()], before, check_dtype=False)
    assert export_ddpm(record, plan, tmp_path).lineage.epochs == 3
    for other in ({"identity": "another"}, {"epochs": 4}):
        with pytest.raises(UserError, match=rf"{IDENTITY}.*now ask for .*{next(iter(other.values()))}"):
            export_ddpm(record, plan | other, tmp_path)


def test_its_parameters_are_still_understood(stored):
    kinds = {
        "process": md.ProcessParameters,
        "network": md.NetworkParameters,
        "training": md.TrainingParameters,
        "sampling": md.SamplingParameters,
    }
    given = yaml.safe_load((stored / "conf/local/parameters.yml").read_text())["diffusion"]
    for name, kind in kinds.items():
        assert kind.model_validate(given[name]).model_dump(mode="json").items() >= given[name].items()
