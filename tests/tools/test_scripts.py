"""What the shell scripts start, with a stand-in for Python that shows its arguments."""

import pytest

from tests.conftest import ROOT, checked
from tests.in_process import run_process

TOOLS = ROOT / 'tools'
ON_THREE = '-m torch.distributed.run --standalone --nproc-per-node=3'


@pytest.mark.parametrize(
    ('script', 'started'),
    [
        ('dist_train.sh a.py 3 --amp', f'{ON_THREE} {TOOLS}/train.py a.py --amp'),
        ('dist_test.sh a.py b.pth 3 --amp', f'{ON_THREE} {TOOLS}/test.py a.py b.pth --amp'),
        # Of a model that brings its weights.
        ('dist_test.sh a.py 3 --amp', f'{ON_THREE} {TOOLS}/test.py a.py --amp'),
    ],
)
@pytest.mark.parametrize('nodes', [1, 4])
def test_torchrun_gets_the_tool_and_its_arguments(tmp_path, script, started, nodes):
    (tmp_path / 'python').write_text('#!/bin/sh\necho "$@"\necho "$PYTHONPATH" >&2\n')
    (tmp_path / 'python').chmod(0o755)
    env = dict(PATH=f'{tmp_path}:/usr/bin:/bin')
    if nodes > 1:
        env |= dict(NNODES='4', NODE_RANK='2', MASTER_ADDR='10.0.0.1', PORT='29511')
        meeting = '--nnodes=4 --node-rank=2 --master-addr=10.0.0.1 --master-port=29511'
        started = started.replace('--standalone', meeting)
    done = checked(run_process(tmp_path, *script.split(), **env))
    assert done.stdout == f'{started} --launcher pytorch\n'
    assert done.stderr.split(':')[0] == str(ROOT)
