"""What mmpretrain's users type works once the plugin is loaded, and other models are left alone."""

import copy
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
import wrapt
from mmengine.config import Config
from mmpretrain import (
    FeatureExtractor,
    ImageClassificationInferencer,
    ImageRetrievalInferencer,
    get_model,
    list_models,
)
from mmpretrain.apis.base import BaseInferencer

from mmarcface.apis import VerificationInferencer
from mmarcface.datasets import IdentityRecords
from mmarcface.datasets.formats.recordio import RecordWriter
from mmarcface.models import EmbeddingRetriever
from mmarcface.registry import check_stack

from .conftest import ROOT

pytestmark = pytest.mark.both_stacks
INSHOP = 'resnet50-arcface_8xb32_inshop'
ORL = 'iresnet18-arcface_orl'


@pytest.mark.parametrize('order', [('mmarcface', 'mmpretrain'), ('mmpretrain', 'mmarcface')])
def test_names_are_known_whatever_is_imported_first(order):
    code = f'import {order[0]}, {order[1]}\nprint(mmpretrain.list_models("*arcface*"))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert f"'{INSHOP}'" in done.stdout
    assert f"'{ORL}'" in done.stdout


def test_models_are_listed_for_retrieval():
    assert {INSHOP, ORL} <= set(list_models('*arcface*', task='Image Retrieval'))


def test_types_build_by_name_where_only_mmpretrain_is_imported():
    code = (
        'from mmpretrain.registry import MODELS\n'
        "print(MODELS.build(dict(type='mmarcface.ArcFaceHead', num_classes=2, in_channels=3)))"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert 'ArcFaceHead' in done.stdout


@pytest.mark.parametrize('package', ['mmengine', 'mmpretrain', 'mmcv'])
def test_a_missing_package_says_how_to_get_it(package):
    code = f"import sys\nsys.modules['{package}'] = None\nimport mmarcface.registry"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode
    last = done.stderr.splitlines()[-1]
    assert f'mmarcface needs {package}: `pip install "mmarcface[lite]"`' in last
    assert '`pip install --no-deps mmcv-lite`' in last


@pytest.fixture
def distributions(tmp_path, monkeypatch):
    """Pretend that nothing but these is installed, each of some version."""

    def pretend(**versions):
        for name, version in versions.items():
            folder = tmp_path / f'{name}-{version}.dist-info'
            folder.mkdir()
            (folder / 'METADATA').write_text(f'Name: {name}\nVersion: {version}\n')
        monkeypatch.setattr(sys, 'path', [str(tmp_path)])

    return pretend


@pytest.mark.parametrize(
    ('versions', 'message'),
    [
        (
            dict(mmengine='0.10.7', onedl_mmengine='0.10.12'),
            r'^mmengine 0\.10\.7 and onedl-mmengine 0\.10\.12 are installed over each other, and '
            'mmengine is a mixture of their files: uninstall all of them',
        ),
        (dict(mmcv='2.1.0', mmcv_lite='2.2.0'), r'^mmcv 2\.1\.0 and mmcv-lite 2\.2\.0 are inst'),
    ],
)
def test_packages_over_each_other_are_named(distributions, versions, message):
    distributions(**versions)
    with pytest.warns(UserWarning, match=message) as said:
        check_stack()
    assert len(said) == 1


def test_one_of_each_is_fine(distributions, recwarn):
    distributions(onedl_mmengine='0.10.12', onedl_mmpretrain='1.3.6', mmcv_lite='2.2.0')
    check_stack()
    assert not recwarn


def test_a_start_is_quiet():
    code = 'import mmarcface.models, mmarcface.engine, mmpretrain.models'
    command = [sys.executable, '-W', 'default::UserWarning', '-c', code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 'MultiScaleDeformableAttention' not in done.stderr


@pytest.fixture(scope='module')
def released(tmp_path_factory):
    """A checkpoint in the form of the one that mmpretrain released."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('released') / 'resnet50-arcface_inshop.pth'
    theirs = get_model('resnet50-arcface_inshop')
    torch.save(dict(state_dict=theirs.state_dict(), meta={}), path)
    return theirs, str(path)


def test_released_inshop_checkpoint_loads_strictly(released):
    theirs, path = released
    ours = get_model(INSHOP)
    assert isinstance(ours, EmbeddingRetriever)
    assert sum(p.numel() for p in ours.parameters()) == 31_693_888
    ours.load_state_dict(torch.load(path)['state_dict'], strict=True)
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        feats = ours.extract_feat(image)
        torch.testing.assert_close(feats, theirs.extract_feat(image))
        torch.testing.assert_close(ours.head(feats), theirs.head(feats))
    assert feats[-1].shape == (1, 2048)


@pytest.fixture
def demo(orl, tmp_path):
    """A folder of photographs that are readable to anyone, as mmpretrain's demo/ is."""
    folder = tmp_path / 'demo'
    folder.mkdir()
    for person in range(1, 6):
        (folder / f's{person}.pgm').write_bytes((orl / f's{person}' / '1.pgm').read_bytes())
    return folder


def test_search_as_on_mmpretrains_page(released, demo):
    search = ImageRetrievalInferencer(INSHOP, pretrained=released[1], prototype=f'{demo}/')
    best, second = search(str(demo / 's3.pgm'), topk=2)[0]
    assert best['sample']['img_path'] == str(demo / 's3.pgm')
    assert best['match_score'] == pytest.approx(1, abs=1e-5)
    assert second['match_score'] < best['match_score']


@pytest.mark.parametrize('kind', ['folder', 'list', 'dict', 'data set', 'loader', 'tensor', 'file'])
def test_every_kind_of_gallery(demo, tmp_path, kind):
    torch.manual_seed(0)
    model = get_model(ORL)
    first = ImageRetrievalInferencer(model, str(demo))
    saved = str(tmp_path / 'gallery.pth')
    first.save_prototype(saved)
    prototype = {
        'folder': lambda: str(demo),
        'list': lambda: [str(path) for path in sorted(demo.iterdir())],
        'dict': lambda: dict(type='CustomDataset', with_label=False, data_root=str(demo)),
        'data set': lambda: first.prototype_dataset,
        'loader': lambda: first.model.prototype,
        'tensor': lambda: first.model.prototype_vecs.clone(),
        'file': lambda: saved,
    }[kind]()
    match = ImageRetrievalInferencer(model, prototype)(str(demo / 's4.pgm'), topk=1)[0][0]
    assert match['sample_idx'] == 3
    if kind != 'tensor':
        assert match['sample']['img_path'] == str(demo / 's4.pgm')


def test_gallery_of_every_image_in_a_folder(demo, logged):
    """By content where the name does not say it; what is no image is counted."""
    photograph = cv2.imread(str(demo / 's1.pgm'))
    for name, kind in {
        'a.webp': 'webp', 'b.tiff': 'tiff', 'c.gif': 'gif', 'd.jfif': 'jpg', 'e': 'png',
        'f.img': 'jpg', 'deep/g.png': 'jpg', 'h.jp2': 'jp2', 'i.avif': 'avif', 'j.JPG': 'jpg',
    }.items():  # fmt: skip
        (demo / name).parent.mkdir(exist_ok=True)
        (demo / name).write_bytes(cv2.imencode(f'.{kind}', photograph)[1].tobytes())
    for name in ('list.txt', '.hidden.txt', '.trash/a.png'):
        (demo / name).parent.mkdir(exist_ok=True)
        (demo / name).write_text('no image')
    model = get_model(ORL)
    search = ImageRetrievalInferencer(model, str(demo))
    assert len(search.prototype_dataset) == 15
    found = search(str(demo / 'a.webp'), topk=11)[0]
    assert {match['sample']['img_path'] for match in found} >= {
        str(demo / 'e'),
        str(demo / 'f.img'),
    }
    assert f'{demo}: 1 file left out (no image), such as list.txt' in logged


def test_cache_of_another_gallery_or_model_is_rebuilt(demo, tmp_path):
    cache = tmp_path / 'cache.pth'
    torch.manual_seed(0)
    model = get_model(ORL)
    ImageRetrievalInferencer(model, str(demo), prototype_cache=str(cache))
    written = cache.stat().st_mtime_ns
    ImageRetrievalInferencer(model, str(demo), prototype_cache=str(cache))
    assert cache.stat().st_mtime_ns == written

    fewer = [str(demo / 's4.pgm'), str(demo / 's2.pgm')]
    with pytest.warns(UserWarning, match='made from other images'):
        search = ImageRetrievalInferencer(model, fewer, prototype_cache=str(cache))
    assert search(str(demo / 's4.pgm'), topk=1)[0][0]['sample_idx'] == 0

    torch.manual_seed(1)
    with pytest.warns(UserWarning, match='made with another model: weights'):
        ImageRetrievalInferencer(get_model(ORL), fewer, prototype_cache=str(cache))


def test_result_can_be_drawn(demo, tmp_path):
    search = ImageRetrievalInferencer(get_model(ORL), str(demo))
    search(str(demo / 's1.pgm'), topk=3, show_dir=str(tmp_path / 'shown'))
    assert (tmp_path / 'shown' / 's1.png').stat().st_size > 1000


@pytest.mark.parametrize('kind', ['path', 'data set'])
def test_records_as_gallery(demo, tmp_path, kind):
    writer = RecordWriter(tmp_path / 'demo.rec')
    for key, path in enumerate(sorted(demo.iterdir()), 1):
        writer.write(key, (key,), path.read_bytes())
    writer.finish()
    rec = str(tmp_path / 'demo.rec')
    prototype = rec if kind == 'path' else IdentityRecords(rec)
    search = ImageRetrievalInferencer(get_model(ORL), prototype)
    found = search(str(demo / 's4.pgm'), topk=1, show_dir=str(tmp_path / 'shown'))[0][0]
    assert found['sample']['img_path'] == f'rec://{rec}#4'
    assert found['match_score'] == pytest.approx(1, abs=1e-5)
    assert (tmp_path / 'shown' / 's4.png').stat().st_size > 1000


def test_config_as_training_writes_it(demo, tmp_path):
    config = Config.fromfile(ROOT / 'configs' / 'arcface' / 'iresnet18-arcface_orl.py')
    config.dump(tmp_path / 'dumped.py')
    search = ImageRetrievalInferencer(str(tmp_path / 'dumped.py'), str(demo), pretrained=False)
    found = search(str(demo / 's2.pgm'), topk=1)[0][0]
    assert found['sample']['img_path'] == str(demo / 's2.pgm')
    verify = VerificationInferencer(str(tmp_path / 'dumped.py'), pretrained=False, threshold=0.5)
    assert verify([(demo / 's2.pgm', demo / 's2.pgm')])[0]['is_same']


def test_wrong_galleries_and_images(demo, tmp_path):
    model = get_model(ORL)
    (tmp_path / 'empty').mkdir()
    for prototype, error, message in (
        (str(tmp_path / 'nowhere'), FileNotFoundError, 'nowhere does not exist'),
        (str(tmp_path / 'empty'), ValueError, 'gallery is empty: there are no images in .*empty'),
        ([], ValueError, 'gallery is empty'),
        (torch.empty(0, 128), ValueError, 'gallery is empty'),
        ([str(demo / 'gone.pgm')], FileNotFoundError, 'gone.pgm'),
    ):
        with pytest.raises(error, match=message):
            ImageRetrievalInferencer(model, prototype)
    for content in (b'', b'not an image'):
        (demo / 'broken.png').write_bytes(content)
        for prototype in (str(demo), [str(demo / 'broken.png')]):
            with pytest.raises(ValueError, match=r'broken.png cannot be read'):
                ImageRetrievalInferencer(model, prototype)


def test_wrong_queries(demo):
    search = ImageRetrievalInferencer(get_model(ORL), str(demo))
    with pytest.raises(FileNotFoundError, match=r'gone.pgm does not exist'):
        search(str(demo / 'gone.pgm'))
    photograph = (demo / 's1.pgm').read_bytes()
    for content in (b'', b'not an image', photograph[:5]):
        (demo / 'broken.pgm').write_bytes(content)
        with pytest.raises(ValueError, match=r'broken.pgm cannot be read'):
            search([str(demo / 's1.pgm'), str(demo / 'broken.pgm')])


def test_query_may_be_an_array(demo):
    search = ImageRetrievalInferencer(get_model(ORL), str(demo))
    path = str(demo / 's2.pgm')
    scores = [
        match['match_score'] for query in (path, cv2.imread(path)) for match in search(query)[0]
    ]
    assert scores[0] == scores[1]


def test_bare_embeddings_cannot_be_drawn(tmp_path):
    search = ImageRetrievalInferencer(get_model(ORL), torch.rand(3, 128))
    with pytest.raises(ValueError, match=r'show_dir=.* needs images'):
        search(np.zeros((112, 92, 3), np.uint8), show_dir=str(tmp_path))


def test_topk_is_at_most_the_gallery(demo, tmp_path):
    search = ImageRetrievalInferencer(get_model(ORL), [str(demo / 's1.pgm')])
    assert len(search(str(demo / 's1.pgm'), topk=2)[0]) == 1
    assert len(search(str(demo / 's1.pgm'), show_dir=str(tmp_path / 'shown'))[0]) == 1


# Models that are not ours.


@pytest.fixture
def foreign(demo, tmp_path):
    """Calls of inferencers of mmpretrain's own models: right ones, and wrong ones."""
    torch.manual_seed(0)
    (demo / 'broken.png').write_bytes(b'no image')
    cv2.imwrite(str(tmp_path / 'small.png'), np.zeros((40, 30, 3), np.uint8))
    config = Config.fromfile(ROOT / 'configs' / 'arcface' / 'iresnet18-arcface_orl.py')
    data = dict(type='CustomDataset', data_root=str(demo), with_label=False)
    data['pipeline'] = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    config.test_dataloader.dataset = data
    net = dict(depth=18, num_stages=1, out_indices=(0,), strides=(1,), dilations=(1,))
    net.update(type='mmpretrain.ResNet', stem_channels=8, base_channels=8)
    pool = dict(type='mmpretrain.GlobalAveragePooling')
    head = dict(type='LinearClsHead', num_classes=5, in_channels=8)
    config.model = dict(type='ImageClassifier', backbone=net, neck=pool, head=head)
    classifier = get_model(config, device='cpu')
    wrapped = copy.deepcopy(config)
    wrapped.test_dataloader.dataset = dict(type='RepeatDataset', times=1, dataset=data)
    unready = get_model(wrapped, device='cpu')
    config.model = dict(type='ImageToImageRetriever', image_encoder=[net, pool], prototype='')
    retriever = get_model(config, device='cpu')
    faces = [str(demo / f's{number}.pgm') for number in (1, 2, 3)]
    given = dict(img=faces[0], landmarks=np.zeros((2, 2)))

    def search(*args, **kwargs):
        return ImageRetrievalInferencer(retriever, faces)(*args, **kwargs)

    return {
        'features': lambda: FeatureExtractor(classifier)(faces, batch_size=2),
        'features of sizes': lambda: FeatureExtractor(classifier)(
            [faces[0], str(tmp_path / 'small.png')], batch_size=2
        ),
        'features of nothing': lambda: FeatureExtractor(classifier)('gone.png'),
        'features of landmarks': lambda: FeatureExtractor(classifier)(given),
        'features of a wrapped set': lambda: FeatureExtractor(unready),
        'class': lambda: ImageClassificationInferencer(classifier, classes=list('abcde'))(faces),
        'class of a broken image': lambda: ImageClassificationInferencer(classifier)(
            str(demo / 'broken.png')
        ),
        'class of a wrapped set': lambda: ImageClassificationInferencer(unready),
        'search': lambda: search(faces[1], topk=2),
        'search beyond the gallery': lambda: search(faces[1], topk=4),
        'search and draw all': lambda: search(faces[1], show_dir=str(tmp_path / 'shown'), topk=4),
        'search for landmarks': lambda: search(given),
        'gallery of nothing': lambda: ImageRetrievalInferencer(retriever, []),
        'gallery of paths': lambda: ImageRetrievalInferencer(retriever, demo),
        'gallery of a wrapped set': lambda: ImageRetrievalInferencer(unready, faces),
    }


def outcomes(calls) -> dict[str, str]:
    found = {}
    for name, call in calls.items():
        try:
            found[name] = repr(call())
        except Exception as error:
            found[name] = f'{type(error).__name__}: {error}'
    return found


def test_models_of_mmpretrain_keep_its_inferencers(foreign, monkeypatch):
    with_plugin = outcomes(foreign)
    patched = 0
    for inferencer in (
        BaseInferencer,
        FeatureExtractor,
        ImageClassificationInferencer,
        ImageRetrievalInferencer,
    ):
        for name, method in list(vars(inferencer).items()):
            if isinstance(method, wrapt.FunctionWrapper):
                monkeypatch.setattr(inferencer, name, method.__wrapped__)
                patched += 1
    assert patched == 11
    without = outcomes(foreign)
    assert with_plugin == without
    failing = {name for name, found in without.items() if 'Error: ' in found}
    assert failing == foreign.keys() - {'features', 'class', 'search'}


# Ours, whatever the form of a call.


def test_calls_by_keyword(demo, tmp_path):
    search = ImageRetrievalInferencer(
        model=get_model(ORL), prototype=str(demo), prototype_cache=None, prepare_batch_size=2
    )
    faces = [dict(img=str(demo / f's{number}.pgm')) for number in (3, 5)]
    batches = [
        *search.preprocess(inputs=faces, batch_size=2),
        *search.preprocess(faces, 2),
        *search.preprocess(faces, batch_size=2),
    ]
    assert len(batches) == 3
    for batch in batches[1:]:
        assert torch.equal(batch['inputs'], batches[0]['inputs'])
    found = search.forward(batches[0])
    for number, call in enumerate(
        (
            lambda **kwargs: search.visualize(faces, found, 2, **kwargs),
            lambda **kwargs: search.visualize(faces, preds=found, **kwargs),
            lambda **kwargs: search.visualize(preds=found, ori_inputs=faces, topk=1, **kwargs),
        )
    ):
        assert len(call(show_dir=str(tmp_path / str(number)))) == 2
    pipelines = [search._init_pipeline(cfg=search.config), search._init_pipeline(search.config)]
    assert repr(pipelines[0]) == repr(pipelines[1]) == repr(search.pipeline)
    chunks = [
        list(search._get_chunk_data(inputs=iter('abc'), chunk_size=2)),
        list(search._get_chunk_data(iter('abc'), 2)),
    ]
    assert chunks[0] == chunks[1] == [['a', 'b'], ['c']]
    galleries = [
        search._prepare_prototype(prototype=[faces[0]], cache=None, batch_size=1),
        search._prepare_prototype([faces[0]], batch_size=1),
        search._prepare_prototype([faces[0]]),
    ]
    assert [len(gallery) for gallery in galleries] == [1, 1, 1]
    with pytest.raises(TypeError, match="required argument: 'cfg'"):
        search._init_pipeline(configuration=search.config)
