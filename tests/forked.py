"""A Python script in a process forked from one that has imported much; see `processes.run_forked`."""

import atexit
import gc
import multiprocessing
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path


def run(
    script: str,
    arguments: tuple[str, ...],
    folder: str,
    variables: Mapping[str, str],
    printed: tuple[str, str],
    session: bool,
) -> None:
    """Run it; `printed` are the files of what it prints. With `session` it leads a process group."""
    gc.freeze()  # a collection, as after every training of a classifier, need not visit what is there to stay
    multiprocessing.set_start_method(None, force=True)  # its own processes start as anybody's
    if "FORK_FRESH_PROCESSES" in variables:  # but for those that would import everything anew
        spawned = multiprocessing.get_context
        multiprocessing.get_context = lambda method=None: spawned("fork" if method == "spawn" else method)
    if session:
        os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for descriptor, file in zip((1, 2), printed, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    if "TORCHDYNAMO_DISABLE" in variables:
        sys.modules["torch._dynamo"].config.disable = True  # it read the variable when it was imported
    sys.argv = [script, *arguments]
    sys.path.insert(0, os.path.dirname(script))  # noqa: PTH120
    main = types.ModuleType("__main__")
    main.__file__ = script
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main  # the second is where its own processes' answers look
    try:
        exec(compile(Path(script).read_bytes(), script, "exec"), vars(main))
    finally:
        atexit._run_exitfuncs()  # as at the end of any other process
