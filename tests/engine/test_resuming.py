"""Which checkpoint a training goes on from, and when it does not."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmarcface.engine.launch import build_runner, latest_checkpoint, train_unless_done
from mmarcface.engine.resuming import MovedFilesHook

from .test_inversion import PIPELINE, loader, tiny

pytestmark = pytest.mark.both_stacks
NAMES = ['ben', 'carl', 'dora']


def write(path: Path, iteration: int = 1, without=(), **more) -> Path:
    content = dict(
        state_dict=dict(weight=torch.ones(100)),
        meta=dict(epoch=iteration, iter=iteration),
        message_hub=dict(runtime_info={}),
        optimizer={},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({k: v for k, v in content.items() if k not in without} | more, path)
    return path


def note(folder: Path, named: str | Path) -> None:
    (folder / 'last_checkpoint').write_text(str(named))


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-200])
    return path


@pytest.fixture
def work(tmp_path):
    """Of a training that was broken off after two epochs."""
    folder = tmp_path / 'a' / 'work dir é'
    for epoch in (1, 2):
        note(folder, write(folder / f'epoch_{epoch}.pth', epoch))
    return folder


@pytest.fixture
def warnings(monkeypatch):
    """What was said in a warning."""
    said = []
    monkeypatch.setattr('mmarcface.engine.resuming.print_log', lambda text, *_: said.append(text))
    return said


# Which file.


@pytest.mark.parametrize('how', ['stays', 'moved', 'copied', 'by another system', 'linked'])
def test_the_checkpoint_is_beside_the_note(work, tmp_path, how, warnings, monkeypatch):
    folder = tmp_path / 'b' / 'renamed'
    folder.parent.mkdir()
    if how == 'copied':
        shutil.copytree(work, folder)
    elif how == 'linked':
        folder.symlink_to(work)
    elif how == 'stays':
        folder = work
    else:
        work.rename(folder)
    if how == 'by another system':
        note(folder, 'C:\\Users\\me\\work_dirs\\net\\epoch_2.pth')
    assert latest_checkpoint(folder) == str(folder / 'epoch_2.pth')
    assert latest_checkpoint(str(folder)) == str(folder / 'epoch_2.pth')
    monkeypatch.chdir(folder)
    assert Path(latest_checkpoint('.')).samefile(folder / 'epoch_2.pth')
    assert not warnings


def test_nothing_to_go_on_from(tmp_path, warnings):
    assert latest_checkpoint(tmp_path / 'nowhere') is None
    # Weights to start from are none to go on from.
    write(tmp_path / 'resnet.pth', without=['message_hub'])
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'bare.pth')
    assert latest_checkpoint(tmp_path) is None
    assert not warnings


NOTES = {
    'missing': 'is missing or empty',
    'empty': 'is missing or empty',
    'zeros': 'is missing or empty',
    'of a file that is gone': 'epoch_12.pth, which is gone',
    'of a damaged file': 'is cut short',
}


@pytest.mark.parametrize('kind', NOTES)
def test_else_the_newest_one_is_taken(work, kind, warnings):
    write(work / 'best_score_epoch_2.pth', 2, without=['optimizer'])
    # By its content: as a name it comes before epoch_2.pth.
    newest = str(write(work / 'epoch_10.pth', 10))
    cut(write(work / 'epoch_11.pth', 11))
    if kind == 'missing':
        (work / 'last_checkpoint').unlink()
    else:
        gone = work / 'epoch_11.pth' if 'damaged' in kind else work / 'epoch_12.pth'
        note(work, dict(empty='\n', zeros='\0' * 40).get(kind, gone))
    assert latest_checkpoint(work) == newest
    [said] = warnings
    assert f'going on from {newest}, the newest' in said
    assert 'epoch_11.pth cannot be read' in said
    assert NOTES[kind] in said


def test_iterations_and_names_of_ones_own(tmp_path, warnings):
    write(tmp_path / 'epoch_1.pth', 50)
    newest = str(write(tmp_path / 'my-00060.pth', 60))
    write(tmp_path / 'iter_40.pth', 40)
    assert latest_checkpoint(tmp_path) == newest
    # Rather an older one with the state of the optimizer.
    write(tmp_path / 'best.pth', 70, without=['optimizer'])
    assert latest_checkpoint(tmp_path) == newest


def test_all_is_lost_and_the_advice_works(work, warnings):
    for path in work.glob('*.pth'):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r'epoch_2\.pth, which is gone, and .* delete'):
        latest_checkpoint(work)
    cut(write(work / 'epoch_3.pth', 3))
    with pytest.raises(
        FileNotFoundError, match=r'gone; epoch_3\.pth cannot be read, and .* no oth'
    ):
        latest_checkpoint(work)
    (work / 'last_checkpoint').unlink()
    assert not warnings
    assert latest_checkpoint(work) is None
    assert 'epoch_3.pth cannot be read: training from the start' in warnings[0]


def test_checkpoints_kept_elsewhere(work, tmp_path):
    """CheckpointHook.out_dir has a folder of the name of the work dir; a copy's has a note."""
    elsewhere = write(tmp_path / 'out' / work.name / 'epoch_7.pth', 7)
    note(work, elsewhere)
    assert latest_checkpoint(work) == str(elsewhere)
    note(work, 's3://bucket/net/epoch_7.pth')
    assert latest_checkpoint(work) == 's3://bucket/net/epoch_7.pth'
    # A copy without checkpoints, under the same name in another folder.
    copy = tmp_path / 'b' / work.name
    copy.mkdir(parents=True)
    note(copy, work / 'epoch_2.pth')
    with pytest.raises(FileNotFoundError, match=r'epoch_2\.pth, which is gone'):
        latest_checkpoint(copy)


def test_a_copy_leaves_the_best_checkpoint_of_the_original_alone(work, tmp_path):
    """mmengine removes the best one so far, by its absolute path, when there is a better one."""
    best = write(work / 'best_score_epoch_1.pth')
    hub = dict(runtime_info=dict(
        best_ckpt=str(best), best_ckpt_other=str(work / 'gone.pth'), best_score=3.0, epoch=2,
        last_ckpt='s3://bucket/epoch_2.pth',
    ))  # fmt: skip
    copy = tmp_path / 'copy'
    shutil.copytree(work, copy)
    runner = SimpleNamespace(work_dir=str(copy), _train_loop=None, _resume=False)
    MovedFilesHook().after_load_checkpoint(runner, dict(state_dict={}, message_hub=hub))
    assert hub['runtime_info'] == dict(
        best_ckpt=str(copy / best.name),
        best_score=3.0,
        epoch=2,
        last_ckpt='s3://bucket/epoch_2.pth',
    )


# The same classes.


@pytest.fixture(scope='module')
def trained(tmp_path_factory, orl):
    """A folder with people and the training of an epoch on them."""
    folder = tmp_path_factory.mktemp('trained')
    for name, person in zip(NAMES, (3, 5, 7), strict=True):
        for number in (1, 2, 3):
            (folder / 'faces' / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(orl / f's{person}' / f'{number}.pgm', folder / 'faces' / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        build_runner(config_of()).train()
    return folder


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    """A copy of it, of which the people may change."""
    shutil.copytree(trained, tmp_path / 'place')
    monkeypatch.chdir(tmp_path / 'place')
    return tmp_path / 'place'


def config_of(epochs=1, **changes) -> Config:
    people = dict(type='mmarcface.IdentityFolder', data_root='faces', pipeline=PIPELINE)
    config = tiny(work_dir='work', train_dataloader=loader(()))
    config.train_dataloader.dataset = people
    config.train_cfg.max_epochs = epochs
    config.merge_from_dict(changes)
    return config


def change(path: Path, edit) -> None:
    content = torch.load(path)
    edit(content)
    torch.save(content, path)


def add(place, name='anna'):
    shutil.copytree(place / 'faces' / 'carl', place / 'faces' / name)


def resume_by_config():
    build_runner(config_of(2, resume=True)).train()


def resume_a_file():
    build_runner(config_of(2, resume=True, load_from='work/epoch_1.pth')).train()


def resume_by_hand():
    build_runner(config_of(2)).resume('work/epoch_1.pth')


def resume_a_stage():
    """As if it had been broken off."""

    def edit(content):
        content['meta']['cfg'] = content['meta']['cfg'].replace('max_epochs=1', 'max_epochs=2')

    change(Path('work/epoch_1.pth'), edit)
    train_unless_done(config_of(2))


def find_it_done():
    train_unless_done(config_of(1))


WAYS = [resume_by_config, resume_a_file, resume_by_hand, resume_a_stage, find_it_done]


@pytest.mark.parametrize('go_on', WAYS)
def test_other_labels_are_refused_on_every_way(place, go_on):
    add(place)
    with pytest.raises(ValueError, match=r"epoch_1\.pth was trained on other classes: label 0 was "
                       r"'ben' and is 'anna' \(3 classes then, 4 now\).* centers .* Give the data"
                       ):  # fmt: skip
        go_on()
    assert not (place / 'work' / 'epoch_2.pth').exists()
    # As the message says.
    shutil.rmtree(place / 'faces' / 'anna')
    go_on()


def test_a_checkpoint_has_the_names_of_all_parts(place):
    """mmengine's has those of the first part only."""
    shutil.copytree(place / 'faces', place / 'more')
    config = config_of()
    first = config.train_dataloader.dataset
    config.train_dataloader.dataset = dict(
        type='ConcatDataset',
        datasets=[first, dict(first, data_root=str(place / 'more'))],
        ignore_keys=['classes'],
    )
    config.work_dir = str(place / 'both')
    build_runner(config).train()
    meta = torch.load(place / 'both' / 'epoch_1.pth', weights_only=True)['meta']
    assert meta['class_names'] == NAMES
    (place / 'more' / 'dora').rename(place / 'more' / 'dorothy')
    config.train_cfg.max_epochs = 2
    config.resume = True
    with pytest.raises(ValueError, match=r"label 2 was 'dora' and is 'dora / dorothy' \(3 cl"):
        build_runner(config).train()


@pytest.mark.parametrize('names', [None, ['anna', 'ben', 'carl'], NAMES])
def test_checkpoints_of_a_plain_runner(place, names):
    def edit(content):
        del content['meta']['class_names']
        content['meta']['dataset_meta']['classes'] = names

    change(place / 'work' / 'epoch_1.pth', edit)
    if names in (None, NAMES):
        resume_by_config()
        return
    with pytest.raises(ValueError, match=r"label 0 was 'anna' and is 'ben' \(3 classes then, 3"):
        resume_by_config()


def test_weights_of_other_classes_may_be_a_start(place, monkeypatch):
    add(place)
    shutil.rmtree(place / 'faces' / 'carl')
    path = str(place / 'work' / 'epoch_1.pth')
    runner = build_runner(config_of(load_from=path, work_dir=str(place / 'new')))
    said = []
    monkeypatch.setattr(runner.logger, 'warning', said.append)
    runner.train()
    assert any("of other classes: label 0 was 'ben' and is 'anna'" in text for text in said)


def test_a_copied_work_dir_goes_on_by_itself(place, tmp_path):
    """And its config, which is copied along, names no checkpoint of the original."""
    shutil.copytree(place / 'work', place / 'copy')
    changes = dict(work_dir=str(place / 'copy'))
    runner = build_runner(config_of(2, resume=True, **changes))
    assert runner._load_from == str(place / 'copy' / 'epoch_1.pth')
    runner.train()
    assert (place / 'copy' / 'epoch_2.pth').exists()
    assert not (place / 'work' / 'epoch_2.pth').exists()
    train_unless_done(config_of(2, **changes))
    dumped = [Config.fromfile(path) for path in (place / 'copy').glob('2*.py')]
    assert dumped
    assert all(config.get('load_from') is None for config in dumped)


def test_the_best_checkpoint_lacks_what_going_on_needs(place, monkeypatch):
    change(place / 'work' / 'epoch_1.pth', lambda content: content.pop('optimizer'))
    runner = build_runner(config_of(2, resume=True))
    said = []
    monkeypatch.setattr(runner.logger, 'warning', said.append)
    runner.train()
    assert any('was written without optimizer, which start from scratch' in text for text in said)


@pytest.mark.parametrize('tested', ['val', 'test'])
def test_labels_of_other_people_are_not_counted_as_errors(place, tested):
    """The model tells ben, carl and dora, and is tested on folders of carl and dora."""

    def run(names):
        config = config_of(work_dir='new')
        config.model.test_cfg = dict(classify=True)
        config[f'{tested}_dataloader'] = loader(())
        config[f'{tested}_dataloader'].dataset = dict(
            config.train_dataloader.dataset, identities=names
        )
        config[f'{tested}_evaluator'] = dict(type='Accuracy')
        config[f'{tested}_cfg'] = {}
        if tested == 'test':
            config.load_from = 'work/epoch_1.pth'
        runner = build_runner(config)
        runner.test() if tested == 'test' else runner.train()

    with pytest.raises(
        ValueError, match=r"other labels in this .*: label 0 was 'ben' and is 'carl'"
    ):
        run(['carl', 'dora'])
    run(['ben', 'carl'])


def test_a_runner_of_another_type(place):
    """As configs may name one."""
    add(place)
    config = config_of(2, resume=True, runner_type='Runner')
    assert type(build_runner(config)) is Runner
    with pytest.raises(ValueError, match="label 0 was 'ben' and is 'anna'"):
        build_runner(config).train()
