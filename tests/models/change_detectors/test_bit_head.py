# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""BITHead against a plain, loop-written reference of method.md section 8."""

import math

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from cmid_mm.models.change_detectors import BITHead
from cmid_mm.models.change_detectors.bit_head import Attention, TransformerBlock


@pytest.fixture(autouse=True)
def _scope(_seeded):
    init_default_scope('mmseg')


def tiny_head(**changes) -> BITHead:
    settings = dict(
        in_channels=3,
        channels=4,
        num_tokens=2,
        decoder_depth=2,
        num_heads=2,
        head_channels=3,
        feedforward_channels=5,
    )
    head = BITHead(**{**settings, **changes})
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    return head


# -- A reference without tensors' tricks ------------------------------------------


def layer_norm(vector, norm):
    mean = sum(vector) / len(vector)
    variance = sum((v - mean) ** 2 for v in vector) / len(vector)
    return [
        (v - mean) / math.sqrt(variance + norm.eps) * float(w) + float(b)
        for v, w, b in zip(vector, norm.weight, norm.bias, strict=True)
    ]


def linear(vector, layer):
    bias = [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()
    return [
        sum(w * v for w, v in zip(row, vector, strict=True)) + b
        for row, b in zip(layer.weight.tolist(), bias, strict=True)
    ]


def softmax(values):
    exponentials = [math.exp(v) for v in values]
    return [e / sum(exponentials) for e in exponentials]


def gelu(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def attend(query, memory, attention, width):
    """One query vector against a list of memory vectors."""
    q = linear(query, attention.query)
    keys = [linear(m, attention.key) for m in memory]
    values = [linear(m, attention.value) for m in memory]
    head = len(q) // attention.num_heads
    joined = []
    for start in range(0, len(q), head):
        part = slice(start, start + head)
        scores = [
            sum(a * b for a, b in zip(q[part], k[part], strict=True)) * width**-0.5
            for k in keys
        ]
        weights = softmax(scores)
        joined += [
            sum(w * v[i] for w, v in zip(weights, values, strict=True))
            for i in range(start, start + head)
        ]
    return linear(joined, attention.output)


def block(queries, memory, module, width):
    normed_memory = [layer_norm(m, module.attention_norm) for m in memory]
    results = []
    for query in queries:
        normed = layer_norm(query, module.attention_norm)
        attended = attend(normed, normed_memory, module.attention, width)
        query = [a + b for a, b in zip(query, attended, strict=True)]
        hidden = linear(
            layer_norm(query, module.feedforward_norm), module.feedforward[0]
        )
        out = linear([gelu(h) for h in hidden], module.feedforward[2])
        results.append([a + b for a, b in zip(query, out, strict=True)])
    return results


def convolve(image, weight, bias=None):
    """3x3 convolution with zeros around, (C, H, W) -> (D, H, W)."""
    channels, height, width = image.shape
    padded = np.zeros((channels, height + 2, width + 2))
    padded[:, 1:-1, 1:-1] = image
    result = np.zeros((len(weight), height, width))
    for d, y, x in np.ndindex(*result.shape):
        result[d, y, x] = (padded[:, y : y + 3, x : x + 3] * weight[d]).sum()
        result[d, y, x] += 0 if bias is None else bias[d]
    return result


def nearest(image):
    return image.repeat(2, axis=1).repeat(2, axis=2)


def bilinear_corners(image, factor):
    """Corner pixels keep their place and value."""
    channels, height, width = image.shape
    result = np.zeros((channels, height * factor, width * factor))
    for y in range(height * factor):
        for x in range(width * factor):
            v = y * (height - 1) / (height * factor - 1)
            u = x * (width - 1) / (width * factor - 1)
            top, left = min(int(v), height - 2), min(int(u), width - 2)
            b, a = v - top, u - left
            result[:, y, x] = (1 - b) * (
                (1 - a) * image[:, top, left] + a * image[:, top, left + 1]
            ) + b * (
                (1 - a) * image[:, top + 1, left] + a * image[:, top + 1, left + 1]
            )
    return result


def reference(head, before, after):
    """Logits of one pair of maps, (C, H, W) arrays; BatchNorm in eval mode."""
    state = {name: value.numpy() for name, value in head.state_dict().items()}
    width = head.channels
    maps, tokens = [], []
    for date in (before, after):
        image = convolve(nearest(date), state['reduce.weight'], state['reduce.bias'])
        maps.append(image)
        pixels = image.reshape(width, -1).T.tolist()
        for weight in state['tokenizer.weight'][:, :, 0, 0]:
            shares = softmax([float(np.dot(weight, pixel)) for pixel in pixels])
            token = sum(s * np.array(p) for s, p in zip(shares, pixels, strict=True))
            tokens.append(token)
    embedding = state['position_embedding'][0]
    tokens = [list(t + e) for t, e in zip(np.array(tokens), embedding, strict=True)]
    for module in head.encoder:
        tokens = block(tokens, tokens, module, width)
    half = len(tokens) // 2
    decoded = []
    for image, own in zip(maps, (tokens[:half], tokens[half:]), strict=True):
        pixels = image.reshape(width, -1).T.tolist()
        for module in head.decoder:
            pixels = block(pixels, own, module, width)
        decoded.append(np.array(pixels).T.reshape(image.shape))
    difference = bilinear_corners(nearest(abs(decoded[0] - decoded[1])), 4)
    refined = convolve(difference, state['refine.conv.weight'])
    scale = state['refine.bn.weight'] / np.sqrt(state['refine.bn.running_var'] + 1e-5)
    shift = state['refine.bn.bias'] - state['refine.bn.running_mean'] * scale
    refined = np.maximum(refined * scale[:, None, None] + shift[:, None, None], 0)
    return convolve(refined, state['conv_seg.weight'], state['conv_seg.bias'])


@torch.no_grad()
def test_reproduces_the_reference():
    head = tiny_head().double().eval()
    head.refine.bn.running_mean.normal_()
    head.refine.bn.running_var.uniform_(0.5, 2)
    before, after = torch.randn(2, 1, 3, 2, 3, dtype=torch.float64)
    logits = head(((before,), (after,)))
    assert logits.shape == (1, 2, 32, 48)
    expected = reference(head, before[0].numpy(), after[0].numpy())
    np.testing.assert_allclose(logits[0].numpy(), expected, rtol=0, atol=1e-9)


@torch.no_grad()
def test_attention_by_hand():
    """One head of one channel, identity projections: softmax(q k / sqrt(2)) v."""
    attention = Attention(channels=2, num_heads=1, head_channels=1)
    for layer in (attention.query, attention.key, attention.value):
        layer.weight.copy_(torch.tensor([[1.0, 0.0]]))
    attention.output.weight.copy_(torch.tensor([[1.0], [2.0]]))
    attention.output.bias.copy_(torch.tensor([0.0, 1.0]))
    # Scores sqrt(2) ln 3 / sqrt(2) = ln 3 and 0: weights 3/4 and 1/4.
    query = torch.tensor([[[math.sqrt(2) * math.log(3), 9.0]]])
    memory = torch.tensor([[[1.0, 5.0], [0.0, 7.0]]])
    torch.testing.assert_close(
        attention(query, memory), torch.tensor([[[0.75, 2.5]]]), rtol=0, atol=1e-6
    )


@torch.no_grad()
def test_tokens_by_hand():
    """A tokenizer that looks at channel 0, where two of four pixels are ln 3."""
    head = tiny_head(channels=2, num_tokens=1)
    head.tokenizer.weight.copy_(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
    first = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]])
    second = torch.tensor([[8.0, 0.0], [16.0, 24.0]])
    token = head._tokens(torch.stack([first, second])[None])
    # Weights 3/8, 1/8, 1/8, 3/8.
    expected = torch.tensor([[[0.75 * math.log(3), 3.0 + 2.0 + 9.0]]])
    torch.testing.assert_close(token, expected, rtol=0, atol=1e-5)


def test_gradients_are_those_of_finite_differences():
    head = tiny_head(num_heads=1, decoder_depth=1).double()
    before, after = torch.randn(2, 1, 3, 1, 2, dtype=torch.float64)
    before.requires_grad_()
    after.requires_grad_()
    names = [name for name, _ in head.named_parameters()]

    def logits(before, after, *values):
        # Every seventh pixel is enough of the result, and quick.
        parameters = dict(zip(names, values, strict=True))
        out = torch.func.functional_call(head, parameters, (((before,), (after,)),))
        return out.flatten()[::7]

    parameters = [p.detach().clone().requires_grad_() for p in head.parameters()]
    head.eval()  # batch statistics would be functions of each call
    assert torch.autograd.gradcheck(
        logits, (before, after, *parameters), eps=1e-6, atol=1e-5, fast_mode=True
    )
    head.train()
    head.refine.bn.momentum = 0.0
    assert torch.autograd.gradcheck(
        logits, (before, after, *parameters), eps=1e-6, atol=1e-5, fast_mode=True
    )


@torch.no_grad()
def test_swapping_dates_needs_swapping_their_position_embedding():
    head = tiny_head().eval()
    before, after = torch.randn(2, 2, 3, 3, 3)
    logits = head(((before,), (after,)))
    swapped = head(((after,), (before,)))
    assert (logits - swapped).abs().max() > 1e-3
    embedding = head.position_embedding
    embedding.copy_(embedding.roll(head.tokenizer.out_channels, dims=1))
    torch.testing.assert_close(
        head(((after,), (before,))), logits, rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_equal_dates_with_equal_embeddings_differ_nowhere():
    """Then the difference is 0, and all inner pixels get the same logits."""
    head = tiny_head().eval()
    half = head.tokenizer.out_channels
    head.position_embedding[:, half:] = head.position_embedding[:, :half]
    features = torch.randn(1, 3, 2, 2)
    inner = head(((features,), (features,)))[..., 2:-2, 2:-2]
    torch.testing.assert_close(
        inner, inner[..., :1, :1].expand_as(inner), rtol=0, atol=1e-6
    )


def test_defaults_are_the_methods():
    head = MODELS.build(dict(type='BITHead', in_channels=1024))
    shapes = {name: tuple(value.shape) for name, value in head.named_parameters()}
    assert shapes['reduce.weight'] == (32, 1024, 3, 3)
    assert shapes['tokenizer.weight'] == (4, 32, 1, 1)
    assert shapes['position_embedding'] == (1, 8, 32)
    assert shapes['conv_seg.weight'] == (2, 32, 3, 3)
    assert shapes['refine.conv.weight'] == (32, 32, 3, 3)
    assert (len(head.encoder), len(head.decoder)) == (1, 8)
    for module in (*head.encoder, *head.decoder):
        own = {name: tuple(value.shape) for name, value in module.named_parameters()}
        assert own == {
            'attention_norm.weight': (32,),
            'attention_norm.bias': (32,),
            'attention.query.weight': (512, 32),
            'attention.key.weight': (512, 32),
            'attention.value.weight': (512, 32),
            'attention.output.weight': (32, 512),
            'attention.output.bias': (32,),
            'feedforward_norm.weight': (32,),
            'feedforward_norm.bias': (32,),
            'feedforward.0.weight': (64, 32),
            'feedforward.0.bias': (64,),
            'feedforward.2.weight': (32, 64),
            'feedforward.2.bias': (32,),
        }
        assert (module.attention.num_heads, module.attention.scale) == (8, 32**-0.5)
    # What the docstring promises is all there is.
    top_level = {name.split('.')[0] for name in head.state_dict()}
    assert top_level == {
        *('reduce', 'tokenizer', 'position_embedding', 'encoder', 'decoder'),
        *('refine', 'conv_seg'),
    }
    assert not any(isinstance(m, nn.Dropout | nn.Dropout2d) for m in head.modules())


def test_position_embedding_is_initialised():
    head = MODELS.build(dict(type='BITHead', in_channels=8))
    head.init_weights()
    assert 0.01 < head.position_embedding.std() < 0.03


def test_block_with_itself_as_memory_is_self_attention():
    module = TransformerBlock(4, 2, 3, 5)
    tokens = torch.randn(1, 3, 4)
    permuted = tokens[:, [2, 0, 1]]
    torch.testing.assert_close(
        module(permuted, permuted), module(tokens, tokens)[:, [2, 0, 1]]
    )


def test_ignored_pixels_do_not_count_in_the_loss():
    head = tiny_head(
        num_classes=2, loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)
    )
    scores = torch.randn(1, 2, 4, 4)
    label = torch.randint(0, 2, (1, 4, 4))
    label[0, 1:3] = 255
    sample = SegDataSample(gt_sem_seg=PixelData(data=label))
    loss = head.loss_by_feat(scores, [sample])['loss_ce']
    seen = label[0] != 255
    expected = nn.functional.cross_entropy(scores[0, :, seen].T, label[0, seen])
    torch.testing.assert_close(loss, expected)
