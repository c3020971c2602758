"""The tools of the project, called in this process, which leave it as it was."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import random
import subprocess
import sys
import traceback
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmpretrain.visualization import UniversalVisualizer

from mmarcface.cli import run_command

ROOT = Path(__file__).parent.parent
# Each keeps its instances in a dict of its own, and takes the last one as the current one.
MANAGERS = (MMLogger, MessageHub, DefaultScope, Visualizer, UniversalVisualizer)


def load_tool(name: str) -> ModuleType:
    """Anew each time, as what it imports may have been patched."""
    spec = importlib.util.spec_from_file_location(
        f'tools_{name.removesuffix(".py")}', ROOT / 'tools' / name
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def fresh_state() -> Iterator[None]:
    """Global state as in a process that has just started; put back in the end."""
    generators = random.getstate(), np.random.get_state(), torch.get_rng_state()
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    dtype, deterministic = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()
    benchmark, figures = torch.backends.cudnn.benchmark, set(plt.get_fignums())
    with ExitStack() as stack:
        for manager in MANAGERS:
            stack.enter_context(patch.object(manager, '_instance_dict', OrderedDict()))
        stack.enter_context(patch.dict(os.environ))
        # It takes a second to describe the machine in the log.
        stack.enter_context(patch.object(Runner, '_log_env', lambda *_: None))
        try:
            yield
        finally:
            for logger in MMLogger._instance_dict.values():
                for handler in logger.handlers:
                    if isinstance(handler, logging.FileHandler):
                        handler.close()
            for visualizer in {
                *Visualizer._instance_dict.values(),
                *UniversalVisualizer._instance_dict.values(),
            }:
                visualizer.close()
            for number in set(plt.get_fignums()) - figures:
                plt.close(number)
            random.setstate(generators[0])
            np.random.set_state(generators[1])
            torch.set_rng_state(generators[2])
            torch.set_num_threads(threads)
            cv2.setNumThreads(cv2_threads)
            torch.set_default_dtype(dtype)
            torch.use_deterministic_algorithms(deterministic)
            torch.backends.cudnn.benchmark = benchmark


@contextmanager
def loaded_tool(name: str, *words: object) -> Iterator[ModuleType]:
    """A tool in the state in which the command line would start it."""
    argv = [name, *map(str, words)]
    with fresh_state(), patch.object(sys, 'argv', argv):
        yield load_tool(name)


def call_tool(name: str, *words: object) -> None:
    """Call a tool with its arguments; what it raises is raised, and what it prints is printed."""
    with loaded_tool(name, *words) as tool:
        tool.main()


def run_in_process(
    folder: Path, name: str, *words: object, **env: str
) -> subprocess.CompletedProcess:
    """Call a tool in a folder; gives what a process would give."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as here, redirect_stdout(stdout), redirect_stderr(stderr):
        here.chdir(folder)
        for variable, value in env.items():
            here.setenv(variable, value)
        try:
            with loaded_tool(name, *words) as tool:
                run_command(tool.main)
        except SystemExit as end:
            code = end.code
        except Exception:
            traceback.print_exc()
            code = 1
    return subprocess.CompletedProcess(
        [name, *words], code or 0, stdout.getvalue(), stderr.getvalue()
    )


def run_process(folder: Path, name: str, *words: object, **env: str) -> subprocess.CompletedProcess:
    """Run a tool in a folder as a user would."""
    program = 'bash' if name.endswith('.sh') else sys.executable
    return subprocess.run(
        [program, str(ROOT / 'tools' / name), *map(str, words)],
        cwd=folder,
        env=os.environ
        | {
            'PYTHONPATH': str(ROOT),
            'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
            'PYTHONWARNINGS': 'ignore',
        }
        | env,
        capture_output=True,
        text=True,
    )
