"""The model: an image encoder, a head to train it, and a gallery to search."""

from __future__ import annotations

from urllib.error import URLError

import torch
import torch.nn.functional as F
from mmpretrain.models.retrievers import BaseRetriever
from mmpretrain.structures import DataSample
from torch import nn
from torch.utils.data import DataLoader

from mmarcface.datasets.image_sizes import refuse_unequal_sizes
from mmarcface.functional.arguments import check_number
from mmarcface.manifest import load_manifest, refuse_other_inputs, refuse_other_weights
from mmarcface.models.embedding import pool_maps
from mmarcface.models.weights.mismatches import refuse_mismatched_checkpoint, refuse_mismatched_init
from mmarcface.registry import MODELS

from .gallery import Gallery


@MODELS.register_module()
class EmbeddingRetriever(BaseRetriever):
    """Embeds images; trains with a margin head; finds the nearest images of a gallery.

    In testing every sample gets ``embedding``, which is all that the metrics need. With a
    ``prototype`` it also gets ``pred_score``, the cosine to each gallery image, (G,), and
    ``pred_label``, the indices of the ``topk`` best, which is what
    :class:`mmpretrain.ImageRetrievalInferencer` needs. Without one, and with ``classify`` in
    ``test_cfg``, it gets the head's ``pred_score``, the softmax of the class scores, (C,), and
    ``pred_label``, the best class, which is what :class:`mmpretrain.evaluation.Accuracy` needs.

    Args:
        image_encoder: a backbone, or a list of modules run one after the other, such as a backbone
            and a pooling neck; its last output is the embedding, (N, D).
        head: the head that gives the loss; needed for training only.
        prototype: the gallery: a data loader or the config of one, embeddings of shape (G, D), or
            the path of a file that :meth:`dump_prototype` wrote.
        prototype_cache: file that keeps the embeddings of a ``prototype`` given as loader. Where it
            was made by other weights or from other images it is rebuilt, with a warning.
        topk: how many gallery images ``pred_label`` names, at least 1.
        train_cfg: ``dict(augments=...)``, the batch augments.
        test_cfg: ``dict(flip=True)`` adds the embedding of the mirrored image to that of the image;
            ``classify=True`` has the head tell the class.
        data_preprocessor: config of the data preprocessor; ``ClsDataPreprocessor`` by default.
        init_cfg: config of mmengine's initialization.

    Raises:
        ValueError: if ``topk`` is no whole number of at least 1.
    """

    def __init__(
        self,
        image_encoder: dict | list[dict] | nn.Module,
        head: dict | nn.Module | None = None,
        prototype: DataLoader | dict | str | torch.Tensor | None = None,
        prototype_cache: str | None = None,
        topk: int = 10,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ):
        if not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = dict(data_preprocessor or {})
            data_preprocessor.setdefault('type', 'mmpretrain.ClsDataPreprocessor')
            if train_cfg and 'augments' in train_cfg:
                data_preprocessor['batch_augments'] = train_cfg
        super().__init__(prototype, data_preprocessor, init_cfg)
        # mmpretrain's would pad them, and an embedding depend on what else is in the batch.
        self.data_preprocessor.register_forward_pre_hook(_refuse_unequal_sizes)
        if not isinstance(image_encoder, nn.Module):
            image_encoder = MODELS.build(image_encoder)
        if head is not None and not isinstance(head, nn.Module):
            head = MODELS.build(head)
        self.image_encoder = image_encoder
        self.head = head
        self.prototype_cache = prototype_cache
        check_number('topk', topk, minimum=1, whole=True)
        self.topk = topk
        self.flip = bool(test_cfg and test_cfg.get('flip', False))
        self.classify = bool(test_cfg and test_cfg.get('classify', False))
        self.manifest = None
        self.register_load_state_dict_pre_hook(refuse_mismatched_checkpoint)
        self.register_load_state_dict_pre_hook(_read_manifest)
        of_file = getattr(image_encoder, 'manifest', None)
        if of_file is not None:
            refuse_other_inputs(of_file, self, image_encoder.path)
        self.register_load_state_dict_post_hook(_forget_gallery)

    def train(self, mode: bool = True) -> EmbeddingRetriever:
        """Switch between training and evaluation; training outdates an embedded gallery."""
        if mode:
            self.prototype_inited = False
        return super().train(mode)

    def init_weights(self) -> None:
        """Initialize, fetching pretrained weights where the config names them.

        Raises:
            RuntimeError: if weights cannot be fetched; it says how to go on without.
            ValueError: if they are not those of the module that they are meant for.
        """
        pretrained = [
            (name, module, init_cfg['checkpoint'])
            for name, module in self.named_modules()
            for init_cfg in _as_list(getattr(module, 'init_cfg', None))
            if init_cfg['type'] == 'Pretrained'
        ]
        for name, _, file in pretrained:
            manifest = load_manifest(file)
            if manifest is not None and name.startswith('image_encoder'):
                refuse_other_inputs(manifest, self, file)
        hooks = [
            module.register_load_state_dict_pre_hook(refuse_mismatched_init(name, file))
            for name, module, file in pretrained
        ]
        try:
            super().init_weights()
        except (URLError, ConnectionError, TimeoutError) as error:
            files = ', '.join(file for _, _, file in pretrained)
            options = ' '.join(f'model.{name}.init_cfg=None' for name, _, _ in pretrained)
            raise RuntimeError(
                f'cannot fetch the initial weights {files} ({error}). Without internet, put the '
                'file in place and name its path as the checkpoint of that init_cfg, or start '
                f'from random weights with --cfg-options {options}'
            ) from error
        finally:
            for hook in hooks:
                hook.remove()

    def forward(
        self,
        inputs: torch.Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> tuple[torch.Tensor, ...] | dict | list[DataSample]:
        """Run the model as mmengine asks: see :meth:`extract_feat`, `loss` and `predict`.

        Args:
            inputs: preprocessed images, (N, 3, H, W).
            data_samples: the N samples; needed for the loss.
            mode: kind of result, 'tensor', 'loss' or 'predict'.
        """
        if mode == 'tensor':
            return self.extract_feat(inputs)
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        raise ValueError(f"mode must be 'tensor', 'loss' or 'predict', got {mode!r}")

    def extract_feat(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Output of the encoder for images of shape (N, 3, H, W); the last one is (N, D)."""
        feats = self.image_encoder(inputs)
        return feats if isinstance(feats, tuple) else (feats,)

    def embed(self, inputs: torch.Tensor) -> torch.Tensor:
        """Embeddings as in testing, not normalized; with the flip test if configured.

        Args:
            inputs: preprocessed images, (N, C, H, W).

        Returns:
            Embeddings, (N, D).
        """
        embeddings = pool_maps(self.extract_feat(inputs)[-1])
        if self.flip:
            embeddings = embeddings + pool_maps(self.extract_feat(inputs.flip(-1))[-1])
        return embeddings

    def loss(self, inputs: torch.Tensor, data_samples: list[DataSample]) -> dict:
        """The head's loss for images of shape (N, 3, H, W) and their N samples.

        Raises:
            ValueError: if the model has no head.
        """
        if self.head is None:
            raise ValueError('training needs a head: set model.head in the config')
        return self.head.loss(self.extract_feat(inputs), data_samples)

    def predict(
        self, inputs: torch.Tensor, data_samples: list[DataSample] | None = None
    ) -> list[DataSample]:
        """Embed images and, if the model has a gallery, match them against it.

        Args:
            inputs: preprocessed images, (N, 3, H, W).
            data_samples: the N samples to fill; new ones by default.

        Returns:
            The samples, with the fields that the class describes.

        Raises:
            ValueError: if the class is to be told and the model has no head.
        """
        embeddings = self.embed(inputs)
        if data_samples is None:
            data_samples = [DataSample() for _ in embeddings]
        for sample, embedding in zip(data_samples, embeddings, strict=True):
            # A view would keep the whole batch, in memory and in every file.
            sample.embedding = embedding.clone()
        if self.prototype is not None:
            match = self.matching(embeddings)
            for sample, score, label in zip(
                data_samples, match['score'], match['pred_label'], strict=True
            ):
                sample.set_pred_score(score).set_pred_label(label)
        elif self.classify:
            if self.head is None:
                raise ValueError('test_cfg.classify=True needs a head: set model.head')
            self.head.predict((embeddings,), data_samples)
        return data_samples

    def matching(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compare embeddings with the gallery: one matrix product and a top-k.

        Args:
            inputs: embeddings, (N, D), of any norm.

        Returns:
            ``score``, the cosines, (N, G); ``pred_label``, the indices of the best, best first,
            (N, min(topk, G)); ``pred_score``, their cosines.

        Raises:
            ValueError: if the gallery is of another width; else as :meth:`prepare_prototype`.
        """
        if not self.prototype_inited:
            self.prepare_prototype()
        if inputs.shape[1] != self.prototype_vecs.shape[1]:
            raise ValueError(
                f'the embeddings of the gallery are {self.prototype_vecs.shape[1]} wide and those '
                f'of this model {inputs.shape[1]}: they are of another model'
            )
        with torch.autocast(inputs.device.type, enabled=False):
            score = F.normalize(inputs.float()) @ self.prototype_vecs.float().T
        best = score.topk(min(self.topk, score.shape[1]))
        return dict(score=score, pred_label=best.indices, pred_score=best.values)

    def prepare_prototype(self, gallery: Gallery | None = None) -> None:
        """Embed or read the gallery, and keep it as unit vectors, (G, D).

        Args:
            gallery: the gallery that was made of this ``prototype`` before; it is embedded again
                if other weights made it.

        Raises:
            ValueError: if the gallery is empty or not finite, or a file was made by another model
                and there are no images to renew it from.
            TypeError: if ``prototype`` is none of the kinds that the class describes.
        """
        device = next(
            (p.device for p in self.image_encoder.parameters()), self.data_preprocessor.device
        )
        fits = gallery is not None and gallery.difference_from(self) is None
        self.gallery = gallery if fits else Gallery.from_prototype(self)
        self.register_buffer(
            'prototype_vecs',
            F.normalize(self.gallery.embeddings.to(device, torch.float)),
            persistent=False,
        )
        self.prototype_inited = True

    def dump_prototype(self, path: str) -> None:
        """Save the gallery's embeddings with the fingerprint of the model and the images."""
        if not self.prototype_inited:
            self.prepare_prototype()
        self.gallery.save(path)


def _refuse_unequal_sizes(_: nn.Module, arguments: tuple) -> None:
    data = arguments[0]
    inputs = data.get('inputs') if isinstance(data, dict) else None
    if isinstance(inputs, (list, tuple)):
        samples = data.get('data_samples') or [None] * len(inputs)
        refuse_unequal_sizes(
            [dict(inputs=i, data_samples=s) for i, s in zip(inputs, samples, strict=True)]
        )


def _read_manifest(model: EmbeddingRetriever, state_dict, prefix, local_metadata, *_) -> None:
    """Read the manifest beside a checkpoint file, and refuse what it contradicts.

    A training that goes on under an EMAHook loads other weights than the file gives to others.
    """
    file = local_metadata.get('checkpoint_file')
    model.manifest = None if file is None else load_manifest(file)
    if model.manifest is not None:
        refuse_other_inputs(model.manifest, model, file)
        if 'exchanged' in local_metadata:
            return
        own = model.image_encoder.state_dict()
        given = {k: state_dict.get(f'{prefix}image_encoder.{k}', v).to(v) for k, v in own.items()}
        refuse_other_weights(model.manifest, given, file)


def _forget_gallery(model: EmbeddingRetriever, _) -> None:
    """Embed the gallery again after other weights are loaded."""
    model.prototype_inited = False


def _as_list(init_cfg: dict | list[dict] | None) -> list[dict]:
    return [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or [])
