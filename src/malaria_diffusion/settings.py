"""Project settings (https://docs.kedro.org/en/stable/configure/configuration_basics/)."""

from kedro.config import OmegaConfigLoader
from omegaconf.resolvers import oc

from malaria_diffusion.hooks import GuidanceHooks, LauncherHooks, TrackingHooks, is_main_process

# TrackingHooks is kedro-mlflow's own hook with additions, in place of the one it would register itself
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow",)
HOOKS = (GuidanceHooks(), LauncherHooks(), *([TrackingHooks()] if is_main_process() else []))

CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # an environment states what differs from base, not everything
    "merge_strategy": {"parameters": "soft", "catalog": "soft", "mlflow": "soft"},
    "custom_resolvers": {"oc.env": oc.env},
    "config_patterns": {
        "mlflow": ["mlflow*", "mlflow*/**"],
        # the catalog reads raw_cells from the file that the parameters are in, so that one file makes an environment
        "globals": ["parameters.yml"],
    },
}
