"""The command, with nets that train for seconds."""

import csv
import json
import re
import runpy
import shlex
import shutil

import pytest
import torch
from mmengine.config import Config

from mmarcface.datasets import ORLFaces
from mmarcface.engine.purification_pipeline import training_set
from tests.conftest import ROOT
from tests.engine.test_inversion import PIPELINE, tiny
from tests.in_process import call_tool

PEOPLE = (3, 5, 7, 11)
ORL = dict(type='mmarcface.ORLFaces', people=list(PEOPLE))
NOISY = dict(type='mmarcface.NoisyLabels', dataset=ORL, symmetric=0.25, pipeline=PIPELINE)
BATCH = 5
STAGES = ['noisy, K=1', 'noisy, K=3', 'purified, K=1']


def config_of(dataset=NOISY, **changes) -> Config:
    config = tiny(purification=dict(threshold=65.0, min_per_class=2))
    config.model.head = dict(
        type='mmarcface.SubCenterArcFaceHead', num_classes=len(PEOPLE), in_channels=8, scale=16.0
    )
    config.train_dataloader.dataset = dataset
    # Of what is kept, never a batch of one, and always some.
    config.train_dataloader.update(batch_size=BATCH, drop_last=True)
    config.train_cfg.max_epochs = config.train_cfg.val_interval = 2
    config.custom_hooks = [dict(type='mmarcface.SubCenterHook')]
    config.merge_from_dict(changes)
    return config


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with what a run leaves, and its config."""
    folder = tmp_path_factory.mktemp('run')
    config_of().dump(folder / 'net.py')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        call_tool('purify.py', 'run', folder / 'net.py', '--ceiling', '--seeds', 4)
    return folder


def next_command(said):
    """What the tool says to do next, for an epoch: the words after train.py."""
    [line] = re.findall(r'^python tools/train\.py (.*)$', said, re.MULTILINE)
    return [*shlex.split(line), '--cfg-options', 'train_cfg.max_epochs=1']


@pytest.fixture
def tool(tmp_path, monkeypatch, capsys):
    """The tool, in this process, for speed; gives what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        capsys.readouterr()
        call_tool('purify.py', *words)
        return capsys.readouterr().out

    return run


def checkpoint_in(folder):
    return folder / 'work_dirs' / 'net' / 'seed4' / 'subcenter' / 'epoch_2.pth'


def rows_of(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def files_of(folder):
    return {
        path.relative_to(folder): path.stat().st_mtime_ns
        for path in folder.rglob('epoch_*.pth')
    }  # fmt: skip


def test_as_a_user_runs_it(run_tool, trained, tmp_path):
    checkpoint = checkpoint_in(trained)
    done = run_tool('purify.py', trained / 'net.py', checkpoint, '--out', tmp_path / 'out')
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        'embeddings', 'keep.csv', 'drop.csv', 'summary.json', 'purified.py',
        'angles.png', 'subcenters.png', 'dropped.png',
    }  # fmt: skip
    kept, dropped = (rows_of(tmp_path / 'out' / f'{name}.csv') for name in ('keep', 'drop'))
    assert len(kept) + len(dropped) == 40
    assert dropped
    assert f'{len(kept)} kept, {len(dropped)} dropped of 40 samples in 4 classes' in done.stdout
    assert 'threshold 65.0 degrees, given' in done.stdout
    assert 'by the truth: precision' in done.stdout
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert summary['config'] == str(trained / 'net.py')
    assert summary['checkpoint'] == str(checkpoint)

    # What it says to do next.
    run_tool('train.py', *next_command(done.stdout))
    state = torch.load(tmp_path / 'out' / 'purified' / 'epoch_1.pth', weights_only=True)
    assert state['state_dict']['head.weight'].shape == (4, 8)
    assert state['meta']['iter'] == len(kept) // BATCH


def test_run(trained, tmp_path, tool):
    """The stages, and the same command again, which trains nothing."""
    config_of().dump(tmp_path / 'net.py')
    words = 'run', tmp_path / 'net.py', '--seeds', 1
    said = tool(*words)
    folder = tmp_path / 'work_dirs' / 'net' / 'seed1'
    results = json.loads((folder / 'results.json').read_text())
    assert list(results) == [*STAGES, 'purification']
    for stage in STAGES:
        assert stage in said
    assert len(files_of(folder)) == 6
    kept = rows_of(folder / 'purification' / 'keep.csv')
    assert results['purification']['kept'] == len(kept) < 40
    assert f'Seed 1: {len(kept)} kept' in said
    for stage, centers in (('noisy', 1), ('subcenter', 3), ('purified', 1)):
        state = torch.load(folder / stage / 'epoch_2.pth', weights_only=True)
        assert state['state_dict']['head.weight'].shape == (4 * centers, 8)
        # The noise is that of the seed.
        used = Config.fromstring(state['meta']['cfg'], '.py')
        dataset = used.train_dataloader.dataset
        noisy = dataset.dataset if stage == 'purified' else dataset
        assert noisy.seed == used.randomness.seed == 1
    assert dataset.filter_file == str((folder / 'purification' / 'keep.csv').relative_to(tmp_path))

    before = files_of(folder)
    keep = (folder / 'purification' / 'keep.csv').read_bytes()
    tool(*words)
    assert files_of(folder) == before
    assert json.loads((folder / 'results.json').read_text()) == results
    assert (folder / 'purification' / 'keep.csv').read_bytes() == keep


def test_purified_training_sees_what_is_kept(trained):
    folder = trained / 'work_dirs' / 'net' / 'seed4'
    kept = {row['sample']: int(row['label']) for row in rows_of(folder / 'purification/keep.csv')}
    state = torch.load(folder / 'purified' / 'epoch_2.pth', weights_only=True)
    config = Config.fromstring(state['meta']['cfg'], '.py')
    config.train_dataloader.dataset.pop('filter_file')
    whole = training_set(config)
    labels = {whole.sample_id(info): info['gt_label'] for info in map(whole.get_data_info, range(
        len(whole)
    ))}  # fmt: skip
    assert len(labels) == 40
    assert kept.items() <= labels.items()
    # Of two epochs.
    assert state['meta']['iter'] == 2 * (len(kept) // BATCH)
    clean = torch.load(folder / 'clean' / 'epoch_2.pth', weights_only=True)
    used = Config.fromstring(clean['meta']['cfg'], '.py').train_dataloader.dataset
    assert used.type == 'mmarcface.ORLFaces'
    results = json.loads((folder / 'results.json').read_text())
    assert list(results) == ['clean, K=1', *STAGES, 'purification']


def test_interrupted_runs_go_on(tmp_path, tool, monkeypatch):
    config_of().dump(tmp_path / 'net.py')
    words = 'run', tmp_path / 'net.py'
    folder = tmp_path / 'work_dirs' / 'net' / 'seed0'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmarcface.engine.purification_pipeline.purify', stop)
        with pytest.raises(KeyboardInterrupt):
            tool(*words)
    before = files_of(folder)
    assert {path.parts[0] for path in before} == {'subcenter'}
    said = tool(*words)
    after = files_of(folder)
    assert before.items() <= after.items()
    assert 'purified, K=1' in said
    results = json.loads((folder / 'results.json').read_text())
    # In the middle of a stage.
    purified = folder / 'purified'
    (purified / 'epoch_2.pth').unlink()
    (purified / 'last_checkpoint').write_text(str(purified / 'epoch_1.pth'))
    after = files_of(folder)
    tool(*words)
    assert after.items() <= files_of(folder).items()
    assert (purified / 'epoch_2.pth').exists()
    again = json.loads((folder / 'results.json').read_text())
    assert list(again) == list(results)
    for stage in STAGES:
        assert again[stage] == pytest.approx(results[stage], abs=15)
    # As if a stage had never begun.
    shutil.rmtree(purified)
    tool(*words)
    assert before.items() <= files_of(folder).items()
    assert json.loads((folder / 'results.json').read_text()) == results


def stop(*args, **kwargs):
    raise KeyboardInterrupt


def test_another_threshold_is_not_mixed_with_what_is_there(trained, tool, monkeypatch):
    monkeypatch.chdir(trained)
    words = 'run', trained / 'net.py', '--seeds', 4
    folder = trained / 'work_dirs' / 'net' / 'seed4'
    before, keep = files_of(folder), (folder / 'purification' / 'keep.csv').read_bytes()
    tool(*words, '--threshold', 40)
    assert (folder / 'purification' / 'keep.csv').read_bytes() != keep
    trainings = {path.parts[0] for path in files_of(folder) if path.suffix == '.pth'}
    (aside,) = (name for name in trainings if name.startswith('purified-'))
    kept = json.loads((folder / 'purification' / 'summary.json').read_text())['keep_list']
    state = torch.load(folder / 'purified' / 'epoch_2.pth', weights_only=True)
    assert Config.fromstring(state['meta']['cfg'], '.py').keep_list == kept != aside[9:]
    tool(*words)
    assert before.items() <= files_of(folder).items()
    assert (folder / f'purified-{kept}' / 'epoch_2.pth').exists()
    assert (folder / 'purification' / 'keep.csv').read_bytes() == keep


def test_settings(trained, tmp_path, tool):
    net = trained / 'net.py', checkpoint_in(trained)
    tool(*net, '--out', tmp_path / 'a', '--threshold', 180)
    assert len(rows_of(tmp_path / 'a' / 'keep.csv')) == 40
    flags = '--threshold', 50, '--min-per-class', 4, '--relabel'
    tool(*net, '--out', tmp_path / 'b', *flags, '--format', 'parquet')
    summary = json.loads((tmp_path / 'b' / 'summary.json').read_text())
    wanted = dict(threshold=50, min_per_class=4, samples=40)
    assert wanted.items() <= summary.items()
    assert (tmp_path / 'b' / 'keep.parquet').exists()
    assert not (tmp_path / 'b' / 'keep.csv').exists()
    said = tool(*net)
    folder = tmp_path / 'work_dirs' / 'net' / 'purification'
    assert f'are in {folder.relative_to(tmp_path)}' in said
    summary = json.loads((folder / 'summary.json').read_text())
    assert dict(threshold=65, min_per_class=2).items() <= summary.items()
    assert min(sum(int(row['label']) == y for row in rows_of(folder / 'keep.csv')) for y in range(
        4
    )) >= 2  # fmt: skip


def test_wrong_arguments(trained, tool):
    net = trained / 'net.py', checkpoint_in(trained)
    with pytest.raises(ValueError, match=r'threshold must be in \(0, 180\], got 200'):
        tool(*net, '--threshold', 200)
    with pytest.raises(SystemExit):
        tool(*net, '--threshold', 'best')
    with pytest.raises(SystemExit):
        tool(*net, '--ceiling')


def test_the_command_find_may_be_left_out():
    parse = runpy.run_path(str(ROOT / 'tools' / 'purify.py'))['parse_args']
    words = ['a.py', 'b.pth', '--out', 'c', '--threshold', '70', '--cfg-options', 'x=1']
    assert vars(parse(words)) == vars(parse(['find', *words]))
    assert parse(words).run.__name__ == 'purify_once'
    stages = parse(['run', 'a.py', '--seeds', '1', '2', '--ceiling', '--format', 'parquet'])
    assert (stages.config, stages.seeds, stages.ceiling) == ('a.py', [1, 2], True)
    assert stages.run.__name__ == 'run_for_seeds'


def test_ceiling_needs_the_truth(tmp_path, tool):
    config_of(ORL | dict(pipeline=PIPELINE)).dump(tmp_path / 'net.py')
    with pytest.raises(ValueError, match=r'a ceiling needs the true labels: .* NoisyLabels'):
        tool('run', tmp_path / 'net.py', '--ceiling')
    assert not list(tmp_path.rglob('*.pth'))


def test_checkpoint_with_one_center(trained, tmp_path, tool):
    one = trained / 'work_dirs' / 'net' / 'seed4' / 'noisy' / 'epoch_2.pth'
    with pytest.raises(ValueError, match='was trained with one center a class, which cannot'):
        tool(trained / 'net.py', one)
    config = config_of()
    config.model.head.num_subcenters = 1
    config.dump(tmp_path / 'one.py')
    with pytest.raises(ValueError, match='was trained with one center a class, which cannot'):
        tool(tmp_path / 'one.py', one)
    with pytest.raises(ValueError, match=r'must have several centers a class: .*Head with 1$'):
        tool('run', tmp_path / 'one.py')
    config.model.head.type = 'mmarcface.ArcFaceHead'
    config.model.head.pop('num_subcenters')
    config.dump(tmp_path / 'arcface.py')
    with pytest.raises(ValueError, match='was trained with one center a class, which cannot'):
        tool(tmp_path / 'arcface.py', one)
    with pytest.raises(ValueError, match=r'must have several centers a class: .*Head with 1$'):
        tool('run', tmp_path / 'arcface.py')


def test_checkpoint_of_other_data(trained, tmp_path, tool):
    config = config_of()
    config.train_dataloader.dataset.dataset.people = [1, 2, 3, 4, 5]
    config.dump(tmp_path / 'net.py')
    with pytest.raises(ValueError, match=r"label 0 was 's3' and is 's1' .4 classes then, 5 now"):
        tool(tmp_path / 'net.py', checkpoint_in(trained))


def test_what_was_purified_is_purified_again(trained, tmp_path, tool):
    """Only what the first list keeps is looked at."""
    tool(trained / 'net.py', checkpoint_in(trained), '--out', tmp_path / 'out')
    first = {row['sample']: row for row in rows_of(tmp_path / 'out' / 'keep.csv')}
    config = config_of()
    config.train_dataloader.dataset = dict(
        type='mmarcface.FilteredDataset',
        dataset=NOISY | dict(pipeline=[]),
        filter_file=str(tmp_path / 'out' / 'keep.csv'),
        pipeline=PIPELINE,
    )
    config.dump(tmp_path / 'net.py')
    tool(tmp_path / 'net.py', checkpoint_in(trained), '--out', tmp_path / 'on', '--threshold', 40)
    rows = [row for name in ('keep', 'drop') for row in rows_of(tmp_path / 'on' / f'{name}.csv')]
    assert {row['sample'] for row in rows} == set(first)
    assert {row['data_set'] for row in rows} == {row['data_set'] for row in first.values()}
    assert 8 <= len(rows_of(tmp_path / 'on' / 'keep.csv')) < len(first)
    purified = Config.fromfile(tmp_path / 'on' / 'purified.py')
    assert purified.train_dataloader.dataset.filter_file == str(tmp_path / 'on' / 'keep.csv')
    assert purified.train_dataloader.dataset.dataset.type == NOISY['type']


def test_an_edited_list_is_taken_as_it_is(tmp_path, tool):
    config_of().dump(tmp_path / 'net.py')
    words = 'run', tmp_path / 'net.py'
    tool(*words)
    folder = tmp_path / 'work_dirs' / 'net' / 'seed0'
    keep = folder / 'purification' / 'keep.csv'
    before, lines = files_of(folder), keep.read_text().splitlines(keepends=True)
    edited = ''.join(lines[:1] + lines[2:])
    keep.write_text(edited)
    tool(*words)
    assert keep.read_text() == edited
    state = torch.load(folder / 'purified' / 'epoch_2.pth', weights_only=True)
    assert state['meta']['iter'] == 2 * ((len(lines) - 2) // BATCH)
    stays = {path for path in before if path.parts[0] != 'purified'}
    assert {path: files_of(folder)[path] for path in stays} == {p: before[p] for p in stays}
    # Another purification into the same folder keeps it, under another name.
    tool(tmp_path / 'net.py', folder / 'subcenter' / 'epoch_2.pth', '--out', keep.parent)
    assert keep.with_name('keep-edited.csv').read_text() == edited
    assert keep.read_text() == ''.join(lines)


@pytest.mark.parametrize('repeated', [False, True], ids=['bare', 'repeated'])
def test_data_sets_of_mmpretrain(orl, tmp_path, tool, repeated):
    for person in PEOPLE:
        (tmp_path / 'faces' / f'p{person}').mkdir(parents=True)
        for file in (orl / f's{person}').glob('*.pgm'):
            (tmp_path / 'faces' / f'p{person}' / file.name).write_bytes(file.read_bytes())
    custom = dict(
        type='CustomDataset',
        data_prefix=str(tmp_path / 'faces'),
        extensions=['.pgm'],
        pipeline=PIPELINE,
    )
    dataset = dict(type='RepeatDataset', dataset=custom, times=2) if repeated else custom
    config_of(dataset).dump(tmp_path / 'net.py')
    tool('run', tmp_path / 'net.py')
    folder = tmp_path / 'work_dirs' / 'net' / 'seed0'
    kept = {row['sample'] for row in rows_of(folder / 'purification' / 'keep.csv')}
    dropped = {row['sample'] for row in rows_of(folder / 'purification' / 'drop.csv')}
    names = {f'p{person}/{number}.pgm' for person in PEOPLE for number in range(1, 11)}
    assert kept | dropped == names
    assert kept
    assert dropped
    state = torch.load(folder / 'purified' / 'epoch_2.pth', weights_only=True)
    times = 2 if repeated else 1
    assert state['meta']['iter'] == 2 * (len(kept) * times // BATCH)
    used = Config.fromstring(state['meta']['cfg'], '.py').train_dataloader.dataset
    inner = used.dataset if repeated else used
    assert (used.type, inner.type) == (
        'RepeatDataset' if repeated else inner.type, 'mmarcface.FilteredDataset'
    )  # fmt: skip
    assert inner.filter_file.endswith('purification/keep.csv')


@pytest.mark.parametrize('repeated', [False, True], ids=['bare', 'repeated'])
def test_next_command_suits_the_data_set(orl, trained, tmp_path, tool, repeated):
    """As of mmpretrain's, which know no lists."""
    lines = [
        f'{orl}/s{person}/{number}.pgm {label}'
        for label, person in enumerate(PEOPLE)
        for number in range(1, 11)
    ]
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    custom = dict(type='CustomDataset', ann_file=str(tmp_path / 'list.txt'), pipeline=PIPELINE)
    dataset = dict(type='RepeatDataset', dataset=custom, times=2) if repeated else custom
    config_of(dataset).dump(tmp_path / 'net.py')
    said = tool(tmp_path / 'net.py', checkpoint_in(trained), '--out', tmp_path / 'out')
    call_tool('train.py', *next_command(said))
    state = torch.load(tmp_path / 'out' / 'purified' / 'epoch_1.pth', weights_only=True)
    kept = len(rows_of(tmp_path / 'out' / 'keep.csv')) * (2 if repeated else 1)
    assert state['meta']['iter'] == kept // BATCH


@pytest.mark.parametrize('kind', ['symmetric', 'asymmetric'])
def test_seeds_are_of_the_noise_too(tmp_path, tool, monkeypatch, kind):
    used = []

    def record(config, *args):
        used.append((config.randomness.seed, config.train_dataloader.dataset.get('seed')))
        stages = {stage: {'retrieval/Recall@1': 50.0} for stage in STAGES}
        return stages | dict(purification=SUMMARY)

    monkeypatch.setattr('mmarcface.engine.purification_pipeline.run_stages', record)
    noisy = {key: value for key, value in NOISY.items() if key != 'symmetric'} | {kind: 0.25}
    config_of(noisy).dump(tmp_path / 'net.py')
    for seed in (3, 8):
        (tmp_path / 'work_dirs' / 'net' / f'seed{seed}').mkdir(parents=True)
    said = tool('run', tmp_path / 'net.py', '--seeds', 3, 8)
    assert used == [(3, 3), (8, 8)]
    assert 'Seed 8: 3 kept, 1 dropped of 4 samples' in said


SUMMARY = dict(
    kept=3,
    dropped=1,
    relabeled=0,
    samples=4,
    classes=2,
    threshold=60.0,
    auto=None,
    truth=None,
    below_minimum=0,
)


def test_training_set_is_prepared_as_for_testing():
    config = config_of()
    config.train_dataloader.dataset.pipeline = [
        PIPELINE[0], dict(type='RandomFlip', prob=0.5), *PIPELINE[1:]
    ]  # fmt: skip
    config.test_dataloader.dataset.pipeline[1].update(scale=(12, 14))
    dataset = training_set(config)
    assert dataset[0]['inputs'].shape == (3, 14, 12)
    assert 'RandomFlip' not in str(dataset.pipeline)
    assert len(dataset) == len(ORLFaces(people=PEOPLE))
    # The config stays as it was.
    assert len(config.train_dataloader.dataset.pipeline) == 4
    for name in ('train_dataloader', 'test_dataloader'):
        lacking = config_of()
        lacking.pop(name)
        with pytest.raises(ValueError, match=f'the config has no {name}'):
            training_set(lacking)
    bare = config_of()
    bare.test_dataloader.dataset.pipeline = []
    with pytest.raises(ValueError, match='has no pipeline to prepare images with'):
        training_set(bare)


def test_two_processes(trained, tmp_path, tool, run_on_two):
    """The same lists as on one; and a whole run."""
    checkpoint = checkpoint_in(trained)
    tool(trained / 'net.py', checkpoint, '--out', tmp_path / 'one')
    run_on_two('purify.py', trained / 'net.py', checkpoint, '--out', tmp_path / 'two')
    for name in ('keep.csv', 'drop.csv'):
        assert (tmp_path / 'one' / name).read_bytes() == (tmp_path / 'two' / name).read_bytes()

    config = config_of()
    config.custom_hooks.append(dict(type='SyncBuffersHook'))
    config.dump(tmp_path / 'net.py')
    said = run_on_two('purify.py', 'run', tmp_path / 'net.py', '--seeds', '0')
    assert said.count('Seed 0: ') == 1
    results = json.loads((tmp_path / 'work_dirs/net/seed0/results.json').read_text())
    assert list(results) == [*STAGES, 'purification']


@pytest.fixture(params=['copied', 'moved'])
def elsewhere(request, trained, tmp_path):
    """A copy of the run; if moved, the original is not there."""
    work, hidden = trained / 'work_dirs', trained / 'hidden'
    shutil.copytree(work / 'net', tmp_path / 'another folder')
    if request.param == 'moved':
        work.rename(hidden)
    yield tmp_path / 'another folder'
    if request.param == 'moved':
        hidden.rename(work)


def test_a_run_in_another_folder_is_not_done_again(trained, elsewhere, tool):
    original, before = files_of(trained), files_of(elsewhere)
    results = json.loads((elsewhere / 'seed4' / 'results.json').read_text())
    tool('run', trained / 'net.py', '--ceiling', '--seeds', 4, '--work-dir', elsewhere)
    assert files_of(elsewhere) == before
    assert files_of(trained) == original
    again = json.loads((elsewhere / 'seed4' / 'results.json').read_text())
    assert {stage: again[stage] for stage in STAGES} == {stage: results[stage] for stage in STAGES}
    assert again['purification']['checkpoint'].startswith(str(elsewhere))


def test_the_purified_config_uses_the_list_beside_it(trained, tmp_path, tool):
    for name in ('a folder', "Anna's"):
        tool(trained / 'net.py', checkpoint_in(trained), '--out', tmp_path / name)
        config = Config.fromfile(tmp_path / name / 'purified.py')
        assert config.train_dataloader.dataset.filter_file == str(tmp_path / name / 'keep.csv')
        assert config.work_dir == str(tmp_path / name / 'purified')
    shutil.copytree(tmp_path / 'a folder', tmp_path / 'copy')
    config = Config.fromfile(tmp_path / 'copy' / 'purified.py')
    assert config.train_dataloader.dataset.filter_file == str(tmp_path / 'copy' / 'keep.csv')
    assert config.work_dir == str(tmp_path / 'copy' / 'purified')


def test_people_who_were_added_in_between(orl, tmp_path, tool):
    """Every way that leads from a checkpoint to the data set."""
    for person in PEOPLE:
        shutil.copytree(orl / f's{person}', tmp_path / 'faces' / f'p{person:02d}')
    dataset = dict(type='mmarcface.IdentityFolder', data_root=str(tmp_path / 'faces'))
    config_of(dataset | dict(pipeline=PIPELINE)).dump(tmp_path / 'net.py')
    tool('run', tmp_path / 'net.py')
    folder = tmp_path / 'work_dirs' / 'net' / 'seed0'
    results = (folder / 'results.json').read_text()
    shutil.copytree(orl / 's1', tmp_path / 'faces' / 'p01')
    message = r"trained on other classes: label 0 was 'p03' and is 'p01' \(4 classes then, 5 now\)"
    with pytest.raises(ValueError, match=message):
        tool('run', tmp_path / 'net.py')
    with pytest.raises(ValueError, match=message):
        tool(tmp_path / 'net.py', folder / 'subcenter' / 'epoch_2.pth')
    # Where a stage is to go on.
    (folder / 'subcenter' / 'epoch_2.pth').rename(tmp_path / 'epoch_2.pth')
    with pytest.raises(ValueError, match=message):
        tool('run', tmp_path / 'net.py')
    assert not (folder / 'subcenter' / 'epoch_2.pth').exists()
    # As the message says.
    (tmp_path / 'epoch_2.pth').rename(folder / 'subcenter' / 'epoch_2.pth')
    shutil.rmtree(tmp_path / 'faces' / 'p01')
    tool('run', tmp_path / 'net.py')
    assert (folder / 'results.json').read_text() == results


def test_a_wrong_checkpoint_is_refused_before_data_is_read(trained, tool):
    options = '--cfg-options', 'train_dataloader.dataset.dataset.data_root=nowhere'
    with pytest.raises(FileNotFoundError, match=r'checkpoint gone\.pth does not exist'):
        tool(trained / 'net.py', 'gone.pth', *options)
    with pytest.raises(ValueError, match=r'net\.py .* cannot be read: .*not a checkpoint'):
        tool(trained / 'net.py', trained / 'net.py', *options)
