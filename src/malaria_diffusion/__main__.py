"""`malaria_diffusion`: what `kedro run` does, where the package is installed without its project folder."""

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project

PACKAGE = "malaria_diffusion"


def main() -> None:
    """Run the study with the options of `kedro run`, of which `--conf-source` says where the configuration is."""
    configure_project(PACKAGE)
    find_run_command(PACKAGE)(prog_name=PACKAGE)


if __name__ == "__main__":
    main()
