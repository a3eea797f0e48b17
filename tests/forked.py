"""A Python script in a process forked from one that has imported much; see `processes.run_forked`.

Run with these globals: `script`, `arguments`, `folder`, `variables`, `printed`, the files of what it prints, and
`session`, whether it leads a process group.
"""

import atexit
import multiprocessing
import os
import sys
import types

multiprocessing.set_start_method(None, force=True)  # its own processes start as anybody's
if "FORK_FRESH_PROCESSES" in variables:  # noqa: F821  (but for those that would import everything anew)
    spawned = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: spawned("fork" if method == "spawn" else method)
if session:  # noqa: F821
    os.setsid()
os.chdir(folder)  # noqa: F821
os.environ.clear()
os.environ.update(variables)  # noqa: F821
for descriptor, file in zip((1, 2), printed, strict=True):  # noqa: F821
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
if "TORCHDYNAMO_DISABLE" in variables:  # noqa: F821
    sys.modules["torch._dynamo"].config.disable = True  # it read the variable when it was imported
sys.argv = [script, *arguments]  # noqa: F821
sys.path.insert(0, os.path.dirname(script))  # noqa: F821, PTH120
main = types.ModuleType("__main__")
main.__file__ = script  # noqa: F821
sys.modules["__main__"] = sys.modules["__mp_main__"] = main  # the second is where its own processes' answers look
try:
    with open(script, "rb") as source:  # noqa: F821, PTH123
        exec(compile(source.read(), script, "exec"), vars(main))  # noqa: F821
finally:
    atexit._run_exitfuncs()  # as at the end of any other process
