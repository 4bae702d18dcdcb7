# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Exported networks in place of models: the same images in, the same results out."""

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..configs import scope_of
from ..dependencies import onnx_runtime
from ..files import sha256_of

#: Endings of exported networks.
ENDINGS = ('.onnx', '.pt2')
#: A registered name: nothing that would import a module which a file names.
_REGISTERED = re.compile(r'((mmcv|mmengine|mmpretrain|mmseg)\.)?\w+')


class ExportedNetworkError(ValueError):
    """An exported network, or what stands beside it, that cannot be used."""


def side_car(path: str | Path) -> Path:
    """The file beside an exported network that says what it takes and gives."""
    return Path(f'{path}.json')


class ExportedNetwork:
    """The tensors that an exported network makes of others.

    Args:
        path: Of ONNX or torch.export.
        device: Where it computes.

    Raises:
        ExportedNetworkError: If it cannot be read.
        ImportError: If onnxruntime is missing.
    """

    def __init__(self, path: str | Path, device: str = 'cpu') -> None:
        self._path = path = Path(path)
        self._device = torch.device(device)
        try:
            if path.suffix == '.onnx':
                self._run = self._session(path)
            else:
                with warnings.catch_warnings():
                    # Weights are read from a buffer that nothing writes to.
                    warnings.filterwarnings('ignore', 'The given buffer is not writ')
                    program = torch.export.load(path)
                self._run = program.module().to(self._device)
        except ImportError:
            raise
        except Exception as error:  # each library has its own
            raise ExportedNetworkError(
                f'{path} cannot be read as an exported network: {error}; export it anew'
            ) from error

    def _session(self, path: Path) -> Any:
        runtime = onnx_runtime()
        provider = (
            f'{"CUDA" if self._device.type == "cuda" else "CPU"}ExecutionProvider'
        )
        if provider not in runtime.get_available_providers():
            raise ImportError(
                f'onnxruntime has no {provider}: pip install onnxruntime-gpu, or leave '
                'the device out'
            )
        session = runtime.InferenceSession(str(path), providers=[provider])
        (given,) = session.get_inputs()

        def run(images: Tensor) -> list[Tensor]:
            outputs = session.run(None, {given.name: images.cpu().numpy()})
            return [torch.from_numpy(output) for output in outputs]

        return run

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """Outputs for normalised images, (B, C, H, W).

        Raises:
            ExportedNetworkError: If it takes none of this shape.
        """
        try:
            outputs = self._run(images.float().to(self._device))
        except Exception as error:  # each library has its own
            raise ExportedNetworkError(
                f'{self._path} cannot compute images of {images.shape[2]} x '
                f'{images.shape[3]} pixels: {error}; take larger windows, or export it '
                'for this size'
            ) from error
        return [outputs] if isinstance(outputs, Tensor) else list(outputs)


class _Exported(BaseModel):
    """What exported models of all tasks have in common.

    Args:
        network: What computes.
        said: Content of the side-car.
        cfg: The part of the config that it holds.
    """

    def _set_up(self, network: ExportedNetwork, said: dict[str, Any]) -> None:
        self.network = network
        self._name = said['file']
        self._sides = [side for side in said['input'][2:] if isinstance(side, int)]
        # Results of other weights are not gone on with.
        digest = torch.tensor(list(bytes.fromhex(said['sha256'])), dtype=torch.uint8)
        self.register_buffer('digest', digest)

    def logits(self, inputs: Tensor) -> Tensor:
        """The only output of the network.

        Raises:
            ExportedNetworkError: If the network was made for another size.
        """
        if self._sides and list(inputs.shape[2:]) != self._sides:
            height, width = self._sides
            raise ExportedNetworkError(
                f'{self._name} takes images of {height} x {width} pixels alone, got '
                f'{inputs.shape[2]} x {inputs.shape[3]}; set --window {height}, or '
                'export it for this size'
            )
        return self.network(inputs)[0]


class ExportedClassifier(_Exported, BaseClassifier):
    """A classifier."""

    def __init__(
        self, network: ExportedNetwork, said: dict[str, Any], cfg: Config
    ) -> None:
        super().__init__(data_preprocessor=MODELS.build(cfg.model.data_preprocessor))
        self._set_up(network, said)

    def extract_feat(self, inputs: Tensor) -> Any:
        """Not what the network gives."""
        raise NotImplementedError

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = 'predict',
    ) -> list[DataSample]:
        """Scores and labels, as a classifier with softmax gives them."""
        scores = F.softmax(self.logits(inputs), 1)
        samples = data_samples or [DataSample() for _ in scores]
        for sample, score in zip(samples, scores, strict=True):
            sample.set_pred_score(score).set_pred_label(score.argmax().view(1))
        return samples


def _segmentor(network: ExportedNetwork, said: dict[str, Any], cfg: Config) -> Any:
    from mmseg.models.segmentors import EncoderDecoder  # it may be missing

    class ExportedSegmentor(_Exported, EncoderDecoder):
        """A segmentor or change detector, whose sliding and resizing are mmseg's."""

        def __init__(self) -> None:
            BaseModel.__init__(self, MODELS.build(cfg.model.data_preprocessor))
            self._set_up(network, said)
            self.test_cfg = cfg.model.test_cfg
            self.align_corners = said['align_corners']
            self.out_channels = said['output'][1]
            self.num_classes = max(self.out_channels, 2)
            self.decode_head = nn.Module()
            self.decode_head.threshold = said['threshold']

        def encode_decode(self, inputs: Tensor, batch_img_metas: Any) -> Tensor:
            return self.logits(inputs)

    return ExportedSegmentor()


def open_exported(
    path: str | Path, device: str = 'cpu'
) -> tuple[Config, BaseModel, dict[str, Any]]:
    """An exported network as a model that predicts.

    Args:
        path: The network; its side-car lies beside it.
        device: Where it computes.

    Returns:
        The config that its images go through, the model, and classes and palette.

    Raises:
        ExportedNetworkError: If the side-car is missing, belongs to another file or is
            broken, or the network cannot be read or predicts nothing.
        ImportError: If onnxruntime or the package of the task is missing.
    """
    path = Path(path)
    said = read_side_car(path)
    cfg = Config(_as_config(said.get('config')))
    for kind in _types(cfg.to_dict()):
        if not _REGISTERED.fullmatch(kind):
            raise ExportedNetworkError(
                f'{side_car(path)}: {kind!r} is no registered name; export it anew'
            )
    network = ExportedNetwork(path, device)
    with scope_of(cfg):
        if said['task'] == 'classification':
            model: Any = ExportedClassifier(network, said, cfg)
        else:
            model = _segmentor(network, said, cfg)
    model.eval()
    return cfg, model, dict(classes=said['classes'], palette=said['palette'])


def read_side_car(path: Path) -> dict[str, Any]:
    """What stands beside an exported network that predicts.

    Raises:
        ExportedNetworkError: If it is missing, broken, or of another file or task.
    """
    beside = side_car(path)
    if path.suffix not in ENDINGS or not path.is_file():
        found = 'is no exported network' if path.exists() else 'does not exist'
        raise ExportedNetworkError(
            f'{path} {found}; expected a file ending in '
            f'{" or ".join(ENDINGS)} that cmid-mm export wrote'
        )
    try:
        said = json.loads(beside.read_text(encoding='utf-8'))
        digest, task = said['sha256'], said['task']
    except FileNotFoundError as error:
        raise ExportedNetworkError(
            f'{beside} is missing, which says what {path.name} takes; keep both '
            'together'
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ExportedNetworkError(
            f'{beside} is no side-car of cmid-mm export: {error}; export it anew'
        ) from error
    if sha256_of(path) != digest:
        raise ExportedNetworkError(
            f'{beside} belongs to another file than {path.name}, or one of both is '
            'damaged; copy both once more'
        )
    if task == 'backbone':
        raise ExportedNetworkError(
            f'{path} is a backbone, which predicts nothing; export a trained '
            'classifier, segmentor or change detector'
        )
    return said


def _as_config(value: Any) -> Any:
    """What JSON made of a config, with tuples of numbers as transforms ask for."""
    if isinstance(value, dict):
        return {key: _as_config(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        numbers = all(isinstance(each, (int, float)) for each in value)
        return tuple(value) if numbers else [_as_config(each) for each in value]
    return value


def _types(value: Any) -> list[str]:
    """All that stands under ``type`` in a config."""
    if isinstance(value, dict):
        inner = [kind for each in value.values() for kind in _types(each)]
        return [str(value['type']), *inner] if 'type' in value else inner
    if isinstance(value, (list, tuple)):
        return [kind for each in value for kind in _types(each)]
    return []
