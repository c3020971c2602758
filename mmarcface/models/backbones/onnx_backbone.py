"""Trained models of other projects, from ONNX files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule

from mmarcface.registry import MODELS

DTYPES = {'tensor(float)': torch.float, 'tensor(float16)': torch.half}


@MODELS.register_module()
class OnnxBackbone(BaseModule):
    """A trained model from an ONNX file, run by onnxruntime; it can be tested, not trained.

    The data preprocessor has to do what the model was trained with: RGB and (x - 127.5) / 127.5 for
    most released face models, so ``mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True``. Models that
    normalize inside the graph need ``mean=[0] * 3, std=[1] * 3``.

    Args:
        path: the ``.onnx`` file. Its one input is images of shape (N, 3, H, W); each of N, H and W
            may be fixed, and a batch larger than a fixed N is run in pieces.
        output: name of the output that is the embedding; needed if there are several.
        providers: onnxruntime's execution providers, best first, as names or (name, options); by
            default CUDA, on the GPU of the process, where this onnxruntime has it, and CPU.
        init_cfg: config of mmengine's initialization; there is nothing to initialize.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: without onnxruntime.
        ValueError: if the file is not an ONNX model of images, ``output`` is not one of its outputs
            or missing where there are several, or onnxruntime lacks one of ``providers``.
    """

    def __init__(
        self,
        path: str | Path,
        output: str | None = None,
        providers: Sequence[str | tuple[str, dict]] | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg=init_cfg)
        self.path = Path(path).expanduser()
        self.output = output
        self.providers = providers
        self._open()

    def _open(self) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(f'path must be that of an ONNX file; {self.path} is not a file')
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError('OnnxBackbone needs onnxruntime: pip install onnxruntime') from error
        available = onnxruntime.get_available_providers()
        providers = self.providers or ['CPUExecutionProvider']
        if self.providers is None and 'CUDAExecutionProvider' in available:
            device = torch.cuda.current_device() if torch.cuda.is_available() else 0
            providers = [('CUDAExecutionProvider', dict(device_id=device)), *providers]
        if not {p if isinstance(p, str) else p[0] for p in providers} <= set(available):
            raise ValueError(f'providers must be among {available}, got {self.providers}')
        options = onnxruntime.SessionOptions()
        # Errors only: released models declare an output of one row, and each batch would warn.
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(self.path, options, providers=providers)
        except Exception as error:  # onnxruntime's errors have no class in common.
            first_line = str(error).partition('\n')[0]
            raise ValueError(
                f'{self.path} ({self.path.stat().st_size} bytes) cannot be opened by onnxruntime: '
                f'it is cut short or not an ONNX model ({type(error).__name__}: {first_line})'
            ) from error
        inputs = session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in DTYPES:
            raise ValueError(
                f'{self.path} must have one input, images of shape (N, 3, H, W) in fp32 or fp16; '
                f'it has {", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)}'
            )
        names = [output.name for output in session.get_outputs()]
        output = names[0] if self.output is None and len(names) == 1 else self.output
        if output not in names:
            raise ValueError(
                f'output must be one of {names}, the outputs of {self.path}; got {self.output!r}'
            )
        self.output = output
        self.file_sha256 = _hash(self.path)
        self._session = session

    def __getstate__(self) -> dict:
        # A session can be neither copied nor saved; forward opens it again.
        return self.__dict__ | dict(_session=None)

    def extra_repr(self) -> str:
        """The output and a hash of the file, by which a saved gallery knows its model."""
        return f'output={self.output!r}, sha256={self.file_sha256[:16]}'

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        """Embed a batch of images.

        Args:
            x: preprocessed images, (N, 3, H, W), on any device.

        Returns:
            One fp32 tensor of shape (N, D), on the device of ``x``.

        Raises:
            ValueError: if the images are not of the size that the file declares, its output is not
                a vector for each, or gradients are asked for.
        """
        if torch.is_grad_enabled() and (self.training or x.requires_grad):
            raise ValueError(
                'an ONNX model cannot be trained, as it gives no gradients: call eval() to test '
                'it, or set another image_encoder to train'
            )
        if self._session is None:
            self._open()
        source = self._session.get_inputs()[0]
        fixed, *size = source.shape
        if x.ndim != 4 or any(
            isinstance(expected, int) and expected != given
            for expected, given in zip(size, x.shape[1:], strict=True)
        ):
            raise ValueError(
                f'images must be {tuple(size)} (channels, height, width), the input of '
                f'{self.path}; got {tuple(x.shape[1:])}: resize or align them in test_pipeline'
            )
        batch = fixed if isinstance(fixed, int) else len(x)
        images = F.pad(x.detach().cpu(), (0,) * 7 + (-len(x) % batch,)).to(DTYPES[source.type])
        pieces = [
            self._session.run([self.output], {source.name: piece.numpy()})[0]
            for piece in images.split(batch)
        ]
        shape = np.shape(pieces[0])
        if len(shape) < 2 or shape[0] != batch or set(shape[2:]) - {1}:
            raise ValueError(
                f'output {self.output!r} of {self.path} must be a vector for each image, (N, D); '
                f'for {batch} images it is {shape}'
            )
        embeddings = torch.from_numpy(np.concatenate(pieces)).flatten(1)[: len(x)]
        return (embeddings.to(x.device, torch.float),)


def _hash(path: Path) -> str:
    """SHA-256 of an ONNX file and of the files beside it that hold tensors of it."""
    content = path.read_bytes()
    digest = hashlib.sha256(content)
    # In the protobuf such a file is a string of under 128 bytes with the key 'location'.
    places = re.finditer(rb'\x0a\x08location\x12(.)', content, re.DOTALL)
    names = {content[place.end() : place.end() + place[1][0]] for place in places}
    for name in sorted(names):
        file = path.parent / name.decode(errors='replace')
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()
