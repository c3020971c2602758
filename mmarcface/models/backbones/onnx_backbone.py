"""Trained models of other projects, from ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule

from mmarcface.manifest import first_difference, load_manifest, manifest_file
from mmarcface.registry import MODELS

from .onnx_session import hash_onnx, open_session, short_reason

DTYPES = {
    'tensor(float)': torch.float,
    'tensor(float16)': torch.half,
    'tensor(double)': torch.double,
    'tensor(uint8)': torch.uint8,
}
FLOATS = tuple(kind for kind, dtype in DTYPES.items() if dtype.is_floating_point)
CHANNELS = (1, 3)
ONE_IMAGE = ': if it was exported for one image, set test_dataloader.batch_size=1'


@MODELS.register_module()
class OnnxBackbone(BaseModule):
    """A trained model from an ONNX file, run by onnxruntime; it can be tested, not trained.

    The data preprocessor has to do what the model was trained with: RGB and (x - 127.5) / 127.5 for
    most released face models, so ``mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True``; those trained
    on BGR need ``to_rgb=False``. Models that normalize inside the graph, and those that take uint8,
    need ``mean=[0] * 3, std=[1] * 3``. A manifest beside the file is checked against it.

    The file decides the rest. Images go in as (N, C, H, W), or as (N, H, W, C) where only the last
    of the declared dimensions is 1 or 3; a batch larger than a fixed N is run in pieces.

    Args:
        path: the ``.onnx`` file, with one input: images in fp32, fp16, fp64 or uint8.
        output: name of the output that is the embedding; needed if there are several.
        providers: onnxruntime's execution providers, best first, as names or (name, options); by
            default CUDA, on the GPU of the process, where this onnxruntime has it, and CPU.
        threads: number of threads on the CPU, at least 1; by default as many as torch uses.
        init_cfg: config of mmengine's initialization; there is nothing to initialize.

    Attributes:
        embedding_dim: width of the embedding, None if the file does not say.
        input_size: height and width of the images, None if the file takes any.
        manifest: the :class:`mmarcface.manifest.Manifest` beside the file, None if there is none.
        file_sha256: hash of the file and of those beside it that hold its weights.

    Raises:
        FileNotFoundError: if there is no such file, or one that holds its weights is missing.
        ImportError: without onnxruntime.
        RuntimeError: if one of ``providers`` does not start.
        ValueError: if the file is not an ONNX model of images, ``output`` is not one of its outputs
            or missing where there are several, the manifest is damaged or of another file,
            ``threads`` is not a count, or onnxruntime lacks one of ``providers``.
    """

    def __init__(
        self,
        path: str | Path,
        output: str | None = None,
        providers: Sequence[str | Sequence] | None = None,
        threads: int | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg=init_cfg)
        self.path = Path(path).expanduser()
        self.output = output
        self.providers = providers
        self.threads = threads
        self._open()

    def _open(self) -> None:
        session = open_session(self.path, self.providers, self.threads)
        self._read_input(session.get_inputs())
        self._read_output(session.get_outputs())
        self.file_sha256 = hash_onnx(self.path)
        self._read_manifest()
        self._session = session

    def _read_input(self, inputs: list) -> None:
        shape = inputs[0].shape if len(inputs) == 1 else ()
        numbers = [n if isinstance(n, int) else None for n in shape]
        if len(shape) == 4 and numbers[1] in (*CHANNELS, None):
            self.channels_last = numbers[1] is None and numbers[3] in CHANNELS
        elif len(shape) == 4 and numbers[3] in CHANNELS:
            self.channels_last = True
        else:
            shape = ()
        if not shape or inputs[0].type not in DTYPES:
            raise ValueError(
                f'{self.path} must have one input, images of shape (N, 3, H, W) or (N, H, W, 3) in '
                'fp32, fp16, fp64 or uint8; it has '
                f'{", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)}: export it so'
            )
        if self.channels_last:
            numbers = [numbers[0], numbers[3], *numbers[1:3]]
        self._batch, *self._shape = numbers
        self._input, self._dtype = inputs[0].name, DTYPES[inputs[0].type]
        self.input_size = None if None in numbers[2:] else tuple(numbers[2:])

    def _read_output(self, outputs: list) -> None:
        by_name = {output.name: output for output in outputs}
        name = next(iter(by_name)) if self.output is None and len(by_name) == 1 else self.output
        if name not in by_name:
            raise ValueError(
                f'output must be one of {list(by_name)}, the outputs of {self.path}; got {name!r}'
            )
        kind, shape = by_name[name].type, by_name[name].shape
        if kind not in FLOATS:
            raise ValueError(
                f'output {name!r} of {self.path} must be a tensor of floats, (N, D); it is {kind}: '
                'name the one that is the embedding as output'
            )
        self.output = name
        width = shape[1] if len(shape) > 1 else None
        self.embedding_dim = width if isinstance(width, int) else None

    def _read_manifest(self) -> None:
        self.manifest = load_manifest(self.path)
        if self.manifest is None:
            return
        names = ('embedding_dim', 'input_size', 'file_sha256')
        given, found = ({n: getattr(one, n) for n in names} for one in (self.manifest, self))
        difference = first_difference(given, found, names)
        if difference is not None:
            raise ValueError(
                f'{manifest_file(self.path)} and {self.path} differ in {difference}: one was '
                'replaced without the other. Export the model again, or remove the manifest to go '
                'on without its checks'
            )

    def __getstate__(self) -> dict:
        # A session can be neither copied nor saved; forward opens it again.
        return self.__dict__ | dict(_session=None)

    def extra_repr(self) -> str:
        """The output and a hash of the file, by which a saved gallery knows its model."""
        return f'output={self.output!r}, sha256={self.file_sha256[:16]}'

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        """Embed a batch of images.

        Args:
            x: preprocessed images, (N, C, H, W), on any device.

        Returns:
            One fp32 tensor of shape (N, D), on the device of ``x``.

        Raises:
            ValueError: if the images are not of the size or range that the file takes, it cannot
                be run on them, its output is not a vector for each, or gradients are asked for.
        """
        if torch.is_grad_enabled() and (self.training or x.requires_grad):
            raise ValueError(
                'an ONNX model cannot be trained, as it gives no gradients: call eval() to test '
                'it, or set another image_encoder to train'
            )
        if self._session is None:
            self._open()
        batch = self._batch or max(len(x), 1)
        images = self._as_declared(x.detach().cpu(), batch)
        pieces = [self._run(piece.numpy()) for piece in images.split(batch)]
        shape = np.shape(pieces[0])
        if len(shape) < 2 or shape[0] != batch or set(shape[2:]) - {1}:
            raise ValueError(
                f'output {self.output!r} of {self.path} must be a vector for each image, (N, D); '
                f'for {batch} images it is {shape}{ONE_IMAGE if batch > 1 else ""}'
            )
        embeddings = torch.from_numpy(np.concatenate(pieces)).flatten(1)[: len(x)]
        return (embeddings.to(x.device, torch.float),)

    def _as_declared(self, x: torch.Tensor, batch: int) -> torch.Tensor:
        """Images in the layout and type of the input, as many as fill whole batches."""
        if x.ndim != 4 or any(
            expected is not None and expected != given
            for expected, given in zip(self._shape, x.shape[1:], strict=True)
        ):
            raise ValueError(
                f'images must be {tuple(n or "any" for n in self._shape)} (channels, height, '
                f'width) for input {self._input!r} of {self.path}; got {tuple(x.shape[1:])}: '
                'resize or align them in test_pipeline'
            )
        if self._dtype == torch.uint8 and not (x == x.to(torch.uint8)).all():
            raise ValueError(
                f'input {self._input!r} of {self.path} takes pixels, whole numbers in [0, 255]; '
                f'got {x.min():g} to {x.max():g}: set data_preprocessor.mean=[0,0,0] and '
                'data_preprocessor.std=[1,1,1]'
            )
        missing = batch - len(x) if len(x) < batch else -len(x) % batch
        x = F.pad(x, (0,) * 7 + (missing,)).to(self._dtype)
        return x.permute(0, 2, 3, 1).contiguous() if self.channels_last else x

    def _run(self, images: np.ndarray) -> np.ndarray:
        try:
            return self._session.run([self.output], {self._input: images})[0]
        except Exception as error:  # onnxruntime's errors have no class in common.
            raise ValueError(
                f'{self.path} cannot be run on images of shape {images.shape} as its input '
                f'{self._input!r} ({short_reason(error)})'
                f'{ONE_IMAGE if len(images) > 1 else ": give it images of another size"}'
            ) from error
