"Decoders of one size behind frozen encoders of all kinds, and networks of the hub from a folder."
import json
import pytest
import torch
from lm4lv.core.loop import FitConfig
from lm4lv.vision.decoders import DecoderConfig, HubEncoder, Redrawn, TokenDecoder, compare_decoders, load_encoder, train_decoder

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

class Shuffled(torch.nn.Module):
    "An encoder that loses nothing: the pixels of patches, in a fixed random order of features."
    def __init__(self):
        super().__init__()
        self.order = torch.randperm(192, generator=torch.Generator().manual_seed(1))
    def forward(self, images):
        return torch.nn.functional.unfold(images, 8, stride=8).transpose(1, 2)[..., self.order]

@pytest.mark.parametrize('name,shape', [('mae', (17, 192)), ('vq', (16, 32)), ('lite', (16, 320)), ('lite:3', (16, 448)), ('lite-random', (16, 320))])
def test_encoders_by_name(name, shape):
    vision = Redrawn(load_encoder(name))
    assert (vision.num_tokens, vision.feature_dim) == shape and vision(IMAGES).shape == IMAGES.shape
    features = vision.encode(IMAGES)
    assert not features.requires_grad and torch.equal(features, vision.encode(IMAGES))

def test_a_random_network_is_the_same_each_time_and_not_the_trained_one():
    first, second, trained = (load_encoder(name)(IMAGES) for name in ('lite-random', 'lite-random', 'lite'))
    assert torch.equal(first, second) and not torch.allclose(first, trained) and first.std() > .1

@pytest.mark.parametrize('tokens', [16, 17, 50])
def test_each_patch_is_drawn_from_any_number_of_tokens(tokens):
    decoder = TokenDecoder(tokens, 24)
    features = torch.randn(2, tokens, 24, requires_grad=True)
    decoder(features)[:, :, :8, :8].sum().backward()
    assert features.grad.abs().sum((0, 2)).min() > 0 # attention reaches every token

def test_a_decoder_learns_from_features_that_hold_everything():
    config = DecoderConfig(seen=64, fit=FitConfig(steps=60, batch=32, lr=2e-3, warmup=5, log_every=10))
    vision, log = train_decoder(Shuffled(), config, progress=False)
    assert log[-1]['loss'] < .6 * log[0]['loss']
    assert abs(vision.encode(IMAGES).mean()) < 1 and not any(p.requires_grad for p in vision.parameters())

def test_rows_are_kept_and_made_once(tmp_path):
    config = DecoderConfig(count=4, crops=2, seen=64, fit=FitConfig(steps=2, batch=4))
    first = compare_decoders(tmp_path/'d.json', ['mae'], config, progress=False)
    assert (tmp_path/'d'/'mae.png').exists() and first['rows']['mae']['n'] == 4
    row = first['rows']['mae']
    again = compare_decoders(tmp_path/'d.json', ['mae', 'vq'], config, progress=False)
    assert again['rows']['mae'] == json.loads(json.dumps(row)) and list(again['rows']) == ['mae', 'vq']
    config.fit.steps = 3
    assert list(compare_decoders(tmp_path/'d.json', ['vq'], config, progress=False)['rows']) == ['vq'] # other settings, other results

@pytest.mark.parametrize('kind', ['clip', 'dinov2'])
def test_networks_of_the_hub_from_a_folder(tmp_path, kind):
    from transformers import (BitImageProcessor, CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model)
    shape = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
    if kind == 'clip': model, processor = CLIPVisionModel(CLIPVisionConfig(intermediate_size=48, **shape)), CLIPImageProcessor()
    else: model, processor = Dinov2Model(Dinov2Config(mlp_ratio=2, **shape)), BitImageProcessor()
    model.save_pretrained(tmp_path); processor.save_pretrained(tmp_path)
    encoder = load_encoder(f'hub:{tmp_path}')
    assert encoder(IMAGES).shape == (2, 5, 24) and Redrawn(encoder)(IMAGES).shape == IMAGES.shape

def test_what_is_no_encoder_is_named(tmp_path):
    with pytest.raises(ValueError, match="encoder 'lite:9': expected mae"): load_encoder('lite:9')
    with pytest.raises(ValueError, match='no vision network at .*expected a folder or a hub name'): HubEncoder(tmp_path/'none')
