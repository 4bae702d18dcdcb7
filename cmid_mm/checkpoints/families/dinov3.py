# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""DINOv3's ViT: positions are rotations in the attention, registers have no table.

timm alone has it among the libraries of OpenMMLab's backbones, so the common names are
timm's: Siméoni et al., DINOv3, 2025.
"""

import torch
from torch import Tensor

from .family import Architecture, Export, Family
from .naming import SEPARATE_QKV, Layout, Step

_MODELS: dict[tuple[int, tuple[int, ...]], str] = {
    (384, (12,)): 'vit_small_patch16_dinov3',
    (768, (12,)): 'vit_base_patch16_dinov3',
    (1024, (24,)): 'vit_large_patch16_dinov3',
    (1280, (32,)): 'vit_huge_plus_patch16_dinov3',
    (4096, (40,)): 'vit_7b_patch16_dinov3',
}


def _without_key_bias(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Biases of queries and values; no buffers, which the settings tell."""
    split: dict[str, Tensor] = {}
    for name, value in state.items():
        attention = name.removesuffix('qkv.bias')
        if attention != name:
            split[f'{attention}q_bias'], _, split[f'{attention}v_bias'] = value.chunk(3)
        elif not name.endswith(('qkv.bias_mask', 'rope_embed.periods')):
            split[name] = value
    return split


def _with_key_bias(state: dict[str, Tensor]) -> dict[str, Tensor]:
    joined: dict[str, Tensor] = {}
    for name, value in state.items():
        attention = name.removesuffix('q_bias')
        if attention != name:
            biases = value, torch.zeros_like(value), state[f'{attention}v_bias']
            joined[f'{attention}qkv.bias'] = torch.cat(biases)
        elif not name.endswith('v_bias'):
            joined[name] = value
    return joined


def _without_zero_biases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    biases = {name for name in state if name.endswith(('q_bias', 'v_bias'))}
    if any(state[name].any() for name in biases):
        return state
    return {name: value for name, value in state.items() if name not in biases}


# A mask keeps the bias of the keys at zero.
_MASKED_KEY_BIAS = Step(_without_key_bias, _with_key_bias)
# The released models up to ViT-H+ have biases that are all zero, timm's have none.
_ZERO_BIASES = Step(_without_zero_biases, lambda state: state)

_TIMM = Layout('timm', 'DINOv3', ('reg_token', 'blocks.0.gamma_1'))
_META = Layout(
    'Meta',
    'DINOv3',
    ('rope_embed.periods', 'blocks.0.ls1.gamma'),
    (
        ('storage_tokens', 'reg_token'),
        ('blocks.#.ls1.gamma', 'blocks.#.gamma_1'),
        ('blocks.#.ls2.gamma', 'blocks.#.gamma_2'),
        ('blocks.#.mlp.w1', 'blocks.#.mlp.fc1_g'),
        ('blocks.#.mlp.w2', 'blocks.#.mlp.fc1_x'),
        ('blocks.#.mlp.w3', 'blocks.#.mlp.fc2'),
    ),
    steps=(_MASKED_KEY_BIAS, _ZERO_BIASES),
)


def _name_gated(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face calls one of two layers as it calls an only one."""
    return {
        name.replace('mlp.fc1.', 'mlp.fc1_x.')
        if name.replace('mlp.fc1.', 'mlp.fc1_g.') in state
        else name: value
        for name, value in state.items()
    }


def _name_plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace('mlp.fc1_x.', 'mlp.fc1.'): v for name, v in state.items()}


_GATED_MLP = Step(_name_gated, _name_plain)


def _hugging_face(name: str, blocks: str) -> Layout:
    return Layout(
        name,
        'DINOv3',
        ('embeddings.register_tokens', f'{blocks}.0.attention.q_proj.weight'),
        (
            ('embeddings.cls_token', 'cls_token'),
            ('embeddings.register_tokens', 'reg_token'),
            ('embeddings.patch_embeddings', 'patch_embed.proj'),
            *(
                (f'{blocks}.#.{old}', f'blocks.#.{new}')
                for old, new in (
                    ('attention.q_proj.bias', 'attn.q_bias'),
                    ('attention.v_proj.bias', 'attn.v_bias'),
                    ('attention.q_proj', 'attn.qkv.q'),
                    ('attention.k_proj', 'attn.qkv.k'),
                    ('attention.v_proj', 'attn.qkv.v'),
                    ('attention.o_proj', 'attn.proj'),
                    ('layer_scale1.lambda1', 'gamma_1'),
                    ('layer_scale2.lambda1', 'gamma_2'),
                    ('mlp.gate_proj', 'mlp.fc1_g'),
                    ('mlp.up_proj', 'mlp.fc1'),
                    ('mlp.down_proj', 'mlp.fc2'),
                )
            ),
            (blocks, 'blocks'),
        ),
        steps=(SEPARATE_QKV, _GATED_MLP, _ZERO_BIASES),
    )


def _settings(network: Architecture) -> str:
    name = _MODELS.get((network.width, network.depths))
    return f'model_name={name!r}' if name else f'a model_name of {network.name}'


DINOV3 = Family(
    name='DINOv3',
    type='mmpretrain.TIMMBackbone',
    layouts=(
        _TIMM,
        _META,
        _hugging_face('Hugging Face', 'layer'),
        _hugging_face('Hugging Face in memory', 'model.layer'),
    ),
    stem=('patch_embed.proj.weight',),
    block=r'(blocks)\.(\d+)\.',
    parts=r'(patch_embed|blocks|norm)\.|(cls_token|reg_token)$',
    settings=_settings,
    # Zero, as those that a file without them leaves out
    may_be_new=r'blocks\.\d+\.attn\.[qv]_bias$',
    indispensable=(
        (
            r'blocks\.\d+\.attn\.q_bias$',
            'the file has biases of queries and values; take the model_name with _qkvb '
            "behind 'dinov3'",
        ),
    ),
    # The token of masked patches, of training alone
    exports=dict(timm=(Export(_TIMM, left_out=r'mask_token$'),)),
    wrapper='timm_model.',
)
