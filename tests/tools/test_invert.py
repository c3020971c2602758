"""The command, with nets that train for seconds."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmarcface.apis import get_model
from mmarcface.apis.inversion.state import SearchState
from mmarcface.engine.launch import build_runner
from mmarcface.fingerprints import fingerprint_model
from mmarcface.manifest import describe_model
from tests.engine.test_inversion import tiny, train
from tests.in_process import call_tool

INVERSION = dict(
    targets='classes',
    per_target=2,
    preset='small',
    steps=3,
    seed=5,
    center_weight=7.0,
    bn_weight=0.05,
    tv_weight=0.01,
    judge=dict(config='judge.py'),
)


@pytest.fixture(scope='module')
def nets(tmp_path_factory):
    """A folder with net.py, net/epoch_1.pth, judge.py and judge/epoch_1.pth."""
    folder = tmp_path_factory.mktemp('nets')
    for name, seed in (('net', 0), ('judge', 1)):
        changes = dict(inversion=INVERSION) if name == 'net' else {}
        tiny(seed, **changes).dump(folder / f'{name}.py')
        train(folder / name, **tiny(seed, **changes))
    return folder


@pytest.fixture
def run(nets, tmp_path, monkeypatch, capsys):
    """The tool, in this process, for speed; gives the output folder, its report and the words."""
    monkeypatch.chdir(tmp_path)

    def call(*flags, command=(), checkpoint=None, config='net.py', out='out'):
        checkpoint = checkpoint or nets / 'net' / 'epoch_1.pth'
        words = [*command, nets / config, checkpoint, '--out', tmp_path / out, *flags]
        call_tool('invert.py', *words)
        report = json.loads((tmp_path / out / 'report.json').read_text())
        return tmp_path / out, report, ' '.join(capsys.readouterr().out.split())

    return call


def judge(nets):
    return '--judge', nets / 'judge.py', nets / 'judge' / 'epoch_1.pth'


def files_in(folder):
    return sorted(p.name for p in (folder / 'images').iterdir())


def test_as_a_user_runs_it(run_tool, nets, tmp_path):
    """What the config says, with a judge that has to be trained first."""
    done = run_tool('invert.py', nets / 'net.py', nets / 'net' / 'epoch_1.pth')
    out = tmp_path / 'work_dirs' / 'net' / 'inversion'
    assert 'Images, grid.png, convergence.gif and report.json are in' in done.stdout
    assert files_in(out) == [f'label{n}_{i}.png' for n in range(3) for i in (0, 1)]
    assert {p.name for p in out.iterdir()} == {
        'images', 'grid.png', 'convergence.gif', 'convergence.png', 'report.json'
    }  # fmt: skip
    report = json.loads((out / 'report.json').read_text())
    assert report['labels'] == [0, 1, 2, 0, 1, 2]
    assert report['seed'] == 5
    assert report['settings']['center_weight'] == 7
    assert report['config'] == str(nets / 'net.py')
    row = re.search(r'as it is +│ +([\d.]+)% │', done.stdout)
    assert float(row[1]) == pytest.approx(100 * report['attack_accuracy'], abs=0.06)
    assert (tmp_path / 'work_dirs' / 'judge' / 'epoch_1.pth').exists()


@pytest.mark.parametrize('command', [[], ['run'], ['audit']])
def test_options_of_the_commands(run, capsys, command):
    """'run' may be left out, and has the targets that an audit chooses itself."""
    with pytest.raises(SystemExit) as stopped:
        run('--help', command=command)
    assert stopped.value.code == 0
    words = capsys.readouterr().out
    assert ('--identities' in words) == (command == ['audit'])
    assert ('--embeddings' in words) == (command != ['audit'])
    wrong = ['--labels', 1] if command == ['audit'] else ['--identities', 3]
    with pytest.raises(SystemExit):
        run(*wrong, command=command)
    assert f'unrecognized arguments: {wrong[0]} {wrong[1]}' in capsys.readouterr().err


def test_labels(run, nets):
    out, report, words = run(
        '--labels', 2, 0, '--per-target', 1, '--seed', 0, *judge(nets), command=['run']
    )
    assert files_in(out) == ['label0_0.png', 'label2_0.png']
    assert report['labels'] == [2, 0]
    assert report['seed'] == 0
    assert report['identities'] == 2
    assert 'Inverted images, by the judge' in words


def test_settings(run, nets):
    options = ['steps=2', 'bn_weight=0', 'gray=True']
    flags = ('--labels', 1, '--preset', 'paper', *judge(nets), '--settings', *options)
    out, report, _ = run(*flags)
    expected = dict(steps=2, bn_weight=0, gray=True, center_weight=7, lr=0.25, halvings=0)
    assert expected.items() <= report['settings'].items()
    image = cv2.imread(str(out / 'images' / 'label1_1.png'))
    assert (image == image[..., :1]).all()
    with pytest.raises(TypeError, match="there is no setting 'step'; there are steps"):
        run('--labels', 1, *judge(nets), '--settings', 'step=2')


def test_images(run, nets, orl, tmp_path, logged):
    """Of folders and without; the judge does not know them."""
    folder = tmp_path / 'people' / 'ann'
    folder.mkdir(parents=True)
    shutil.copy(orl / 's11' / '3.pgm', folder / 'a.pgm')
    shutil.copy(orl / 's12' / '4.pgm', tmp_path / 'people' / 'b.PGM')
    photograph = cv2.imread(str(orl / 's13' / '1.pgm'))
    for name, kind in (('c.jfif', 'jpg'), ('d', 'webp')):
        content = cv2.imencode(f'.{kind}', photograph)[1].tobytes()
        (tmp_path / 'people' / name).write_bytes(content)
    (tmp_path / 'people' / 'notes.txt').write_text('no image')
    out, report, words = run('--images', tmp_path / 'people', '--settings', 'target_weight=9')
    assert files_in(out) == ['0000_a_0.png', '0001_b_0.png', '0002_c_0.png', '0003_d_0.png']
    assert f'{tmp_path / "people"}: 1 file left out (no image), such as notes.txt' in logged
    assert report['labels'] is None
    assert 'The judge does not know these identities, and is not asked' in words
    assert 'attack_accuracy' not in report
    with pytest.raises(FileNotFoundError, match='there are no images in'):
        run('--images', tmp_path / 'out' / 'nothing')


def test_embeddings(run, nets, orl, tmp_path):
    """The same whether it embeds images itself or is given what tools/test.py wrote."""
    np.save(tmp_path / 'two.npy', np.random.default_rng(0).normal(size=(2, 8)))
    out, _, _ = run('--embeddings', tmp_path / 'two.npy', '--per-target', 1)
    assert files_in(out) == ['embedding0_0.png', 'embedding1_0.png']

    net = nets / 'net.py', nets / 'net' / 'epoch_1.pth'
    call_tool('test.py', *net, '--out', tmp_path / 'all.pkl')
    out, report, _ = run('--embeddings', tmp_path / 'all.pkl', '--per-target', 1)
    assert report['number'] == 20
    for wrong, error in (('none.npy', FileNotFoundError), ('all.txt', ValueError)):
        with pytest.raises(error, match=wrong):
            run('--embeddings', tmp_path / wrong)
    np.save(tmp_path / 'wide.npy', np.ones((2, 9)))
    with pytest.raises(ValueError, match='embeddings are 9 wide and those of the model 8'):
        run('--embeddings', tmp_path / 'wide.npy')


def test_embeddings_of_another_model(run, nets, tmp_path):
    model = get_model(str(nets / 'net.py'), str(nets / 'net' / 'epoch_1.pth'))
    made_by = dict(model=fingerprint_model(model), contract=describe_model(model).contract)
    vectors = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    torch.save(dict(embeddings=vectors, **made_by), tmp_path / 'own.pth')
    run('--embeddings', tmp_path / 'own.pth', '--per-target', 1)
    made_by['model'] = 'another'
    made_by['contract']['std'] = [128.0] * 3
    torch.save(dict(embeddings=vectors, **made_by), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other.pth holds embeddings of another .* in std'):
        run('--embeddings', tmp_path / 'other.pth')


def test_audit(run, nets):
    out, report, words = run('--identities', 2, *judge(nets), command=['audit'])
    assert report['labels'] == [0, 1, 0, 1]
    assert report['identities'] == 2
    assert 'judge names right' in words
    page = cv2.imread(str(out / 'audit.png'))
    assert page.shape[1] == 880
    assert page.std() > 10


def test_ablation(run, nets):
    out, report, words = run('--ablation', '--labels', 0, 1, '--per-target', 1, *judge(nets))
    reports = json.loads((out / 'ablation.json').read_text())
    assert list(reports) == [
        'as it is', 'without BN prior', 'without total variation', 'without both'
    ]  # fmt: skip
    assert reports['as it is'] == report
    weights = [(r['settings']['bn_weight'], r['settings']['tv_weight']) for r in reports.values()]
    assert weights == [(0.05, 0.01), (0, 0.01), (0.05, 0), (0, 0)]
    for name in reports:
        assert name in words
        folder = out if name == 'as it is' else out / name.replace(' ', '_')
        assert files_in(folder) == ['label0_0.png', 'label1_0.png']
        assert not (folder / 'state').exists()
    images = [(out / f / 'images' / 'label0_0.png').read_bytes() for f in ('', 'without_BN_prior')]
    assert images[0] != images[1]


@pytest.mark.parametrize(
    ('flags', 'error', 'message'),
    [
        (['--labels', 3], ValueError, r'target classes must be in \[0, 3\), got 3'),
        (['--labels', -1], ValueError, r'target classes must be in \[0, 3\), got -1'),
        (['--per-target', 0], ValueError, 'per_target must be at least 1, got 0'),
        (['--judge', 'a.py', 'b.pth'], FileNotFoundError, r'config a\.py does not exist'),
        (['--settings', 'steps=0'], ValueError, 'steps must be at least 1, got 0'),
    ],
)
def test_wrong_arguments(run, nets, flags, error, message):
    given = [] if '--judge' in flags else judge(nets)
    with pytest.raises(error, match=message):
        run(*flags, *given)


def test_judges_that_cannot_judge(run, nets, tmp_path):
    itself = '--judge', nets / 'net.py', nets / 'net' / 'epoch_1.pth'
    with pytest.raises(ValueError, match='the judge is the model itself'):
        run(*itself)
    config = Config.fromfile(nets / 'net.py')
    config.inversion.pop('judge')
    config.dump(nets / 'alone.py')
    for flags in (dict(command=['audit']), dict()):
        with pytest.raises(ValueError, match='an audit or ablation needs a judge: --judge CONFIG'):
            run(*([] if flags else ['--ablation']), config='alone.py', **flags)
    with pytest.raises(ValueError, match='max_targets must be at least 1, got 0'):
        run('--identities', 0, *judge(nets), command=['audit'])
    _, report, words = run('--labels', 0, config='alone.py')
    assert 'by the judge' not in words
    assert 'attack_accuracy' not in report


def test_checkpoint_without_classes(run, nets, tmp_path):
    model = get_model(str(nets / 'net.py'), str(nets / 'net' / 'epoch_1.pth'))
    state = {k: v for k, v in model.state_dict().items() if not k.startswith('head.')}
    torch.save(dict(state_dict=state), tmp_path / 'encoder.pth')
    with pytest.raises(ValueError, match=r'encoder\.pth has no weights of a head.*--embeddings'):
        run('--labels', 0, *judge(nets), checkpoint=tmp_path / 'encoder.pth')
    np.save(tmp_path / 'one.npy', np.ones((1, 8)))
    out, _, _ = run('--embeddings', tmp_path / 'one.npy', checkpoint=tmp_path / 'encoder.pth')
    assert files_in(out) == ['embedding0_0.png']


def test_interrupted_runs_go_on(run, nets, tmp_path, monkeypatch):
    """Ctrl-C in the last of two batches."""

    flags = ['--labels', 0, 1, 2, *judge(nets), '--settings', 'batch_size=3']
    finish = SearchState.finish

    def finish_and_stop(keeper, unit, result):
        finish(keeper, unit, result)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SearchState, 'finish', finish_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(*flags)
    state = tmp_path / 'out' / 'state'
    assert [p.name for p in state.iterdir()] == ['batch0_restart0.pth']
    with pytest.raises(ValueError, match='is of another inversion'):
        run(*flags, 'steps=4')
    out, report, _ = run(*flags)
    again, expected, _ = run(*flags, out='again')
    assert report['terms'] == expected['terms']
    for name in files_in(again):
        assert (out / 'images' / name).read_bytes() == (again / 'images' / name).read_bytes()
    assert not state.exists()


def test_a_judge_without_checkpoint(run, nets, tmp_path, monkeypatch):
    """Trained as that of the config is, unless there is nothing to train."""
    _, report, _ = run('--labels', 0, '--judge', nets / 'judge.py', config='net.py')
    assert report['judge'] == dict(config=str(nets / 'judge.py'))
    trained = tmp_path / 'work_dirs' / 'judge' / 'epoch_1.pth'
    before = trained.stat().st_mtime_ns
    # Where it was moved to, it is found, and not trained again.
    (tmp_path / 'elsewhere').mkdir()
    trained.parent.parent.rename(tmp_path / 'elsewhere' / 'work_dirs')
    monkeypatch.chdir(tmp_path / 'elsewhere')
    run('--labels', 0, '--judge', nets / 'judge.py', out='elsewhere/out')
    moved = tmp_path / 'elsewhere' / 'work_dirs' / 'judge' / 'epoch_1.pth'
    assert moved.stat().st_mtime_ns == before
    pixels = Config.fromfile(nets / 'judge.py')
    pixels.model = dict(
        type='mmarcface.EmbeddingRetriever', image_encoder=dict(type='mmarcface.RawPixels')
    )
    for name in ('train_dataloader', 'train_cfg', 'optim_wrapper'):
        pixels.pop(name)
    pixels.dump(nets / 'pixels.py')
    for words in ([], ['']):
        _, report, _ = run('--labels', 0, '--judge', nets / 'pixels.py', *words, out='pixels')
        assert report['identities'] == 1
    monkeypatch.chdir(tmp_path)
    pixels.model = Config.fromfile(nets / 'judge.py').model
    pixels.dump(nets / 'untrained.py')
    with pytest.raises(ValueError, match=r'untrained\.py does not say how to train .* name its ch'):
        run('--labels', 0, '--judge', nets / 'untrained.py')


@pytest.mark.parametrize('command', [[], ['audit']])
def test_wrong_judges(run, nets, tmp_path, capsys, command):
    with pytest.raises(SystemExit):
        run('--judge', 'a.py', 'b.pth', 'c', command=command)
    assert '--judge takes CONFIG and CHECKPOINT, got a.py b.pth c' in capsys.readouterr().err
    wrong = [
        (tmp_path / 'gone.pth', FileNotFoundError, r'gone\.pth does not exist'),
        (nets, FileNotFoundError, 'is a folder: name a file in it'),
        (nets / 'judge.py', ValueError, r'judge\.py .* cannot be read: .*not a checkpoint'),
    ]
    for path, error, message in wrong:
        with pytest.raises(error, match=message) as caught:
            run('--judge', nets / 'judge.py', path, command=command)
        assert 'pickl' not in str(caught.value)
        with pytest.raises(error, match=message):
            run(*judge(nets), checkpoint=path, command=command)


@pytest.fixture
def people(orl, nets, tmp_path):
    """A net of three folders, of which one was added since."""
    folder = tmp_path / 'faces'
    for name, person in dict(ben=3, carl=5, dora=7).items():
        shutil.copytree(orl / f's{person}', folder / name)
    config = tiny(inversion={k: v for k, v in INVERSION.items() if k != 'judge'})
    pipeline = config.train_dataloader.dataset.pipeline
    config.train_dataloader.dataset = dict(
        type='mmarcface.IdentityFolder', data_root=str(folder), pipeline=pipeline
    )
    config.dump(nets / 'people.py')
    config.work_dir = str(tmp_path / 'people')
    build_runner(config).train()
    shutil.copytree(orl / 's11', folder / 'anna')
    return dict(config='people.py', checkpoint=tmp_path / 'people' / 'epoch_1.pth')


def test_images_of_other_people(run, nets, people, tmp_path):
    message = r"other classes: label 0 was 'ben' and is 'anna' .*taken for those of others"
    with pytest.raises(ValueError, match=message):
        run(*judge(nets), command=['audit'], **people)
    with pytest.raises(ValueError, match=message):
        run('--labels', 0, *judge(nets), **people)
    with pytest.raises(ValueError, match=message):
        run(**people)
    _, _, words = run('--labels', 0, **people)
    assert "not of the current training set: label 0 was 'ben' and is 'anna'" in words
    # As the message says.
    shutil.rmtree(tmp_path / 'faces' / 'anna')
    _, report, _ = run(*judge(nets), command=['audit'], **people)
    assert report['identities'] == 3


def test_two_processes(nets, tmp_path, run_on_two):
    """Training with the hook, and the tool, each with a judge to be trained first."""
    hook = dict(type='mmarcface.BNPriorInversionHook', **INVERSION)
    config = Config.fromfile(nets / 'net.py')
    # Without it, BN statistics differ between the processes.
    sync = dict(type='SyncBuffersHook')
    config.custom_hooks = [sync, hook | dict(restarts=2)]
    config.inversion.update(restarts=2)
    config.dump(tmp_path / 'net.py')
    shutil.copy(nets / 'judge.py', tmp_path)

    run_on_two('train.py', tmp_path / 'net.py')
    work = tmp_path / 'work_dirs' / 'net'
    (folder,) = (work / 'inversion').iterdir()
    report = json.loads((folder / 'report.json').read_text())
    assert report['number'] == 6
    assert report['identities'] == 3
    assert (tmp_path / 'work_dirs' / 'judge' / 'epoch_1.pth').exists()
    assert list(work.glob(f'*/vis_data/vis_image/inversion_{folder.name}.png'))

    run_on_two('invert.py', tmp_path / 'net.py', work / 'epoch_1.pth', '--out', tmp_path / 'out')
    again = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert again['terms']['objective'] == pytest.approx(report['terms']['objective'], rel=1e-4)
    assert again['attack_accuracy'] == report['attack_accuracy']
