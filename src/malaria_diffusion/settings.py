"""Project settings (https://docs.kedro.org/en/stable/configure/configuration_basics/)."""

import logging
import warnings

from kedro import KedroDeprecationWarning
from kedro.config import OmegaConfigLoader
from omegaconf.resolvers import oc

# what nobody who runs a study can act on: packages that use each other's older ways
warnings.filterwarnings("ignore", message=r"register_new_resolver\(\) is deprecated", category=UserWarning)
warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated", category=KedroDeprecationWarning)
with warnings.catch_warnings(record=True):  # mlflow warns of a class of kedro-mlflow, past every filter
    import kedro_mlflow.framework.hooks  # noqa: F401
for talkative in ("kedro_mlflow", "mlflow"):  # importing them undoes what logging.yml says of them
    logging.getLogger(talkative).setLevel(logging.WARNING)

from malaria_diffusion.datasets.catalog import WholeFiles  # noqa: E402
from malaria_diffusion.hooks.garbage import GarbageHooks  # noqa: E402
from malaria_diffusion.hooks.lineage import LineageHooks  # noqa: E402
from malaria_diffusion.hooks.preflight import LauncherHooks, PreflightHooks, is_main_process  # noqa: E402
from malaria_diffusion.hooks.progress import ProgressHooks  # noqa: E402
from malaria_diffusion.hooks.tracking import TrackingHooks  # noqa: E402
from malaria_diffusion.hooks.turns import Session, TurnHooks  # noqa: E402

# TrackingHooks is kedro-mlflow's own hook with additions, in place of the one it would register itself
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow",) if is_main_process() else ("kedro_mlflow", "kedro-viz")
# of those that come first the last in this list does: what is refused does not wait for its turn, and what lies there
# is looked at when it has come
HOOKS = (
    GarbageHooks(),
    LineageHooks(),
    *([TurnHooks()] if is_main_process() else []),
    PreflightHooks(),
    LauncherHooks(),
    *([TrackingHooks(), ProgressHooks()] if is_main_process() else []),
)

SESSION_CLASS = Session
DATA_CATALOG_CLASS = WholeFiles
CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # an environment states what differs from base, not everything
    "merge_strategy": {"parameters": "soft", "catalog": "soft", "mlflow": "soft"},
    "custom_resolvers": {"oc.env": oc.env},
    "config_patterns": {
        "mlflow": ["mlflow*", "mlflow*/**"],
        # The catalog reads raw_cells, and Kedro lets a catalog read globals only, not parameters. As parameters.yml is
        # among the globals, one file makes an environment for other images; docs/your_own_images.md says so.
        "globals": ["globals*", "parameters.yml"],
    },
}
