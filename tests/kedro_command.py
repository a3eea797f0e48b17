"""A kedro command in a process forked from one that has imported what it needs; see `projects.Project.kedro`.

Run as a script whose globals are `arguments`, `folder`, `variables` and `printed`, the files of what it prints.
"""

import atexit
import os
import sys

os.chdir(folder)  # noqa: F821
os.environ.clear()
os.environ.update(variables)  # noqa: F821
for descriptor, file in zip((1, 2), printed, strict=True):  # noqa: F821
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
sys.argv = ["kedro", *arguments]  # noqa: F821

from kedro.framework.cli.cli import main  # noqa: E402

try:
    main()
finally:
    atexit._run_exitfuncs()  # as at the end of any other process
