"Vision modules of other kinds, against the libraries that wrote their checkpoints."
import json, shutil, sys
import pytest
import torch
from PIL import Image
from lm4lv.core.loop import FitConfig
from lm4lv.llm.frozen import load_llm
from lm4lv.vision.loading import load_vision
from lm4lv.vision.mae import VisionModule
from lm4lv.vision.vq_beit import (BEiTVision, SmallVQ, VQVision, new_beit, some_photos, train_beit, train_decoder, train_vq,
                                  with_measured_features)
from lm4lv.model.next_element import LM4LV
from lm4lv.model.storing import CheckpointError
from lm4lv.training.trainer import TrainConfig, build, train
from families import write_llm

SHORT = FitConfig(steps=12, batch=8, lr=2e-3, warmup=1, log_every=1)

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photos')
    for i in range(3): Image.effect_noise((40, 40), 60).convert('RGB').resize((80, 80)).save(folder/f'{i}.png')
    return str(folder)

@pytest.fixture(scope='module')
def vq(photos): return train_vq(photos, 16, SHORT, False, codes=16, width=8, channels=(8, 12))[0]

@pytest.fixture(scope='module')
def beit(vq, photos): return train_decoder(train_beit(vq, photos, SHORT, progress=False, width=16, layers=1)[0], photos, SHORT, False)[0]

@pytest.fixture
def images(): return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))

def saved(vision, folder):
    vision.save_pretrained(folder)
    return f"{'vq' if isinstance(vision, VQVision) else 'beit'}:{folder}"

# ours

@pytest.mark.parametrize('kind', ['vq', 'beit'])
def test_they_are_vision_modules(kind, request, images, photos):
    vision = request.getfixturevalue(kind)
    features = vision.encode(images)
    assert isinstance(vision, VisionModule) and features.shape == (3, vision.num_tokens, vision.feature_dim)
    assert vision.decode(features).shape == images.shape
    torch.testing.assert_close(vision(images), vision.decode(features))
    assert not any(p.requires_grad for p in vision.parameters())
    assert vision.encode(some_photos(photos, 16)).square().mean().sqrt() == pytest.approx(1, rel=.2)
    with pytest.raises(ValueError, match='16, 16'): vision.encode(torch.rand(1, 3, 8, 8))

@pytest.mark.parametrize('kind', ['vq', 'beit'])
def test_a_module_comes_back_from_its_folder(kind, request, images, tmp_path):
    vision = request.getfixturevalue(kind)
    back = load_vision(saved(vision, tmp_path/'module'))
    torch.testing.assert_close(back.encode(images), vision.encode(images), atol=2e-2, rtol=2e-2)
    again = load_vision(saved(back, tmp_path/'again'))
    assert torch.equal(again.encode(images), back.encode(images)) # float16 weights round no further

def test_latents_are_rounded_to_the_nearest_code():
    model, z = SmallVQ(codes=5, width=4, channels=(4,)), torch.randn(2, 4, 3, 3)
    ids = model.ids(z).view(2, 3, 3)
    for b in range(2):
        for i in range(3):
            for j in range(3): assert ids[b, i, j] == (model.codes - z[b, :, i, j]).norm(dim=1).argmin()
    assert torch.equal(model.rounded(z)[1, :, 2, 0], model.codes[ids[1, 2, 0]])

def test_codes_are_fixed_points():
    model = SmallVQ(codes=5, width=4, channels=(4,))
    z = model.rounded(torch.randn(2, 4, 3, 3))
    torch.testing.assert_close(model.rounded(z), z)

def test_gradients_pass_the_rounding():
    model = SmallVQ(codes=5, width=4, channels=(4,)).eval()
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    model.loss(x).backward()
    assert model.down[0].weight.grad.abs().max() > 0 and model.codes.grad.abs().max() > 0

def test_unused_codes_are_moved_to_where_pictures_are():
    model = SmallVQ(codes=8, width=4, channels=(4,)).train()
    with torch.no_grad(): model.codes += 100
    z = torch.randn(4, 4, 3, 3)
    for _ in range(3): model.revive(z)
    near = torch.cdist(model.codes, z.permute(0, 2, 3, 1).reshape(-1, 4)).min(1).values
    assert (near < 1e-2).sum() >= 6

def test_training_a_decoder_leaves_the_encoder_alone(vq, photos, images):
    vision = train_beit(vq, photos, SHORT, progress=False, width=16, layers=1)[0]
    before = vision.encoder(images).last_hidden_state
    _, log = train_decoder(vision, photos, SHORT, False)
    assert torch.equal(vision.encoder(images).last_hidden_state, before) and log[-1]['loss'] < log[0]['loss']

def test_beit_learns_to_predict_codes(vq, photos):
    _, log = train_beit(vq, photos, FitConfig(steps=60, batch=8, lr=2e-3, warmup=1, log_every=10), progress=False, width=16, layers=1)
    assert log[-1]['loss'] < log[0]['loss']

# checkpoints of other libraries

@pytest.fixture
def theirs(tmp_path):
    from diffusers import VQModel
    torch.manual_seed(0)
    model = VQModel(block_out_channels=(8, 16), down_block_types=('DownEncoderBlock2D',) * 2, up_block_types=('UpDecoderBlock2D',) * 2,
                    norm_num_groups=4, latent_channels=4, num_vq_embeddings=16, sample_size=16).eval()
    model.save_pretrained(tmp_path/'theirs')
    return model

def test_a_vq_model_of_diffusers_is_a_vision_module(theirs, images, tmp_path):
    vision = load_vision(f"vq:{tmp_path/'theirs'}")
    with torch.no_grad(): wanted = theirs.decode(theirs.encode(images * 2 - 1).latents).sample
    assert (vision.image_size, vision.num_tokens, vision.feature_dim) == (16, 64, 4)
    torch.testing.assert_close(vision(images), (wanted + 1) / 2, atol=1e-5, rtol=1e-4)

def test_scaled_features_of_a_vq_model_of_diffusers_are_kept(theirs, images, photos, tmp_path):
    vision = with_measured_features(load_vision(f"vq:{tmp_path/'theirs'}"), photos)
    back = load_vision(saved(vision, tmp_path/'scaled'))
    torch.testing.assert_close(back.encode(images), vision.encode(images))
    torch.testing.assert_close(back(images), load_vision(f"vq:{tmp_path/'theirs'}")(images), atol=1e-4, rtol=1e-3)

@pytest.mark.parametrize('kind', ['BeitModel', 'BeitForMaskedImageModeling', 'BeitForImageClassification'])
def test_a_beit_of_transformers_is_a_vision_module(kind, images, photos, tmp_path):
    import transformers
    torch.manual_seed(0)
    model = getattr(transformers, kind)(transformers.BeitConfig(image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=32, vocab_size=32, use_mask_token=True, use_relative_position_bias=True)).eval()
    model.save_pretrained(tmp_path/'theirs')
    vision = new_beit(tmp_path/'theirs', 16, 1)
    with torch.no_grad(): wanted = getattr(model, 'beit', model)(images * 2 - 1).last_hidden_state
    torch.testing.assert_close(vision.encode(images), wanted, atol=1e-5, rtol=1e-4)
    vision, _ = train_decoder(vision, photos, SHORT, False)
    assert load_vision(saved(vision, tmp_path/'module')).encode(images).shape == (3, 5, 16)

# bad input

def test_a_missing_or_half_made_module_is_one_clear_error(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='no BEiT with a decoder; make one with new_beit'): load_vision('beit:nowhere')
    with pytest.raises(ValueError, match="no VQ module at 'nowhere'"): load_vision('vq:nowhere')
    with pytest.raises(ValueError, match="no BEiT at 'nowhere'"): new_beit('nowhere')
    monkeypatch.setitem(sys.modules, 'diffusers', None)
    with pytest.raises(ValueError, match=r'lm4lv\[vq\]'): load_vision('vq:owner/name')

def test_a_damaged_module_is_named(vq, tmp_path):
    name = saved(vq, tmp_path/'module')
    (tmp_path/'module'/'model.safetensors').write_bytes(b'nothing')
    with pytest.raises(ValueError, match='model.safetensors: cannot be read'): load_vision(name)
    (tmp_path/'module'/'vision.json').write_text('{')
    with pytest.raises(ValueError, match='vision.json: damaged'): load_vision(name)

# in the model

@pytest.mark.parametrize('kind', ['vq', 'beit'])
def test_a_checkpoint_names_its_vision_module_and_is_loaded_with_it(kind, request, tokenizer, images, photos, tmp_path):
    write_llm('llama', tokenizer, tmp_path/'llm')
    name = saved(request.getfixturevalue(kind), tmp_path/'module')
    config = TrainConfig(images=photos, tasks=('rotate',), llm=str(tmp_path/'llm'), vision=name, warm_start=4, llm_dtype='float32',
                         fit=FitConfig(steps=2, batch=2, warmup=1))
    model, _ = train(config, tmp_path/'model', progress=False)
    assert json.loads((tmp_path/'model'/'lm4lv.json').read_text())['vision'] == name
    back = LM4LV.from_pretrained(tmp_path/'model')
    torch.testing.assert_close(back.vision.encode(images), model.vision.encode(images))
    saved(request.getfixturevalue('beit' if kind == 'vq' else 'vq'), tmp_path/'other')
    with pytest.raises(CheckpointError, match='another vision module'): LM4LV.from_pretrained(tmp_path/'model', vision=request.getfixturevalue('beit' if kind == 'vq' else 'vq'))

@pytest.mark.parametrize('kind', ['vq', 'beit'])
def test_a_shared_checkpoint_brings_a_module_of_its_own(kind, request, tokenizer, images, tmp_path):
    "Under its kind: a folder of ours is not taken for a MAE's."
    write_llm('llama', tokenizer, tmp_path/'llm')
    name = saved(request.getfixturevalue(kind), tmp_path/'module')
    model = LM4LV(load_llm(tmp_path/'llm'), load_vision(name), ['rotate'], 3, vision_name=name)
    model.save_pretrained(tmp_path/'shared', model_card_kwargs={})
    shutil.rmtree(tmp_path/'module')
    assert json.loads((tmp_path/'shared'/'lm4lv.json').read_text())['vision'] == f'{kind}:vision'
    for folder in (tmp_path/'shared', tmp_path/'moved'):
        if folder.name == 'moved': (tmp_path/'shared').rename(folder)
        back = LM4LV.from_pretrained(folder, llm=model.llm)
        assert type(back.vision) is type(model.vision)
        torch.testing.assert_close(back.vision.encode(images), model.vision.encode(images))

def test_an_encoder_that_is_trained_along_is_for_maes_only(vq, tokenizer, photos, tmp_path):
    write_llm('llama', tokenizer, tmp_path/'llm')
    config = TrainConfig(images=photos, llm=str(tmp_path/'llm'), vision=saved(vq, tmp_path/'module'), llm_dtype='float32', trainable=('adapter', 'encoder'))
    with pytest.raises(ValueError, match="'encoder': only a MAE"): build(config)
