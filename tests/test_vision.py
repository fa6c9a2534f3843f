import json
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from transformers import ViTConfig, ViTMAEConfig, ViTMAEForPreTraining, ViTMAEModel, ViTModel
from lm4lv.core.loop import FitConfig
from lm4lv.images.photos import crop
from lm4lv.vision.mae import IMAGENET_MEAN, IMAGENET_STD, MAE, VisionModule, new_mae, sincos_positions
from lm4lv.vision.mae_training import MAEConfig, evaluate_mae, measure_features, pca_init, train_mae

CLOSE = dict(atol=1e-5, rtol=1e-5)
SHAPE = dict(image_size=24, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)

@pytest.fixture
def theirs():
    torch.manual_seed(0)
    model = ViTMAEForPreTraining(ViTMAEConfig(**SHAPE, decoder_hidden_size=16, decoder_num_hidden_layers=1,
                                              decoder_num_attention_heads=2, decoder_intermediate_size=32)).eval()
    with torch.no_grad():
        for p in model.parameters(): p += 0.1 * torch.randn_like(p) # fresh biases and tokens are zero, which hides mistakes
    return model

@pytest.fixture
def images(): return torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(1))

def normalised(images): return (images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)

@torch.no_grad()
def test_encoding_and_decoding_equal_transformers_own_forward(theirs, images):
    theirs.config.mask_ratio = 0.0
    out = theirs(normalised(images), noise=torch.arange(9.).expand(3, -1))
    torch.testing.assert_close(normalised(MAE(theirs)(images)), theirs.unpatchify(out.logits), **CLOSE)

@torch.no_grad()
def test_an_order_of_patches_that_is_shuffled_changes_nothing(theirs, images):
    theirs.config.mask_ratio = 0.0
    out = theirs(normalised(images), noise=torch.rand(3, 9))
    torch.testing.assert_close(normalised(MAE(theirs)(images)), theirs.unpatchify(out.logits), atol=1e-4, rtol=1e-4)

@torch.no_grad()
def test_masked_reconstruction_equals_transformers_own(theirs, images):
    mae = MAE(theirs)
    seen, mask = mae.masked(images, 0.6, torch.Generator().manual_seed(5))
    theirs.config.mask_ratio = 0.6
    out = theirs(normalised(images), noise=torch.rand(3, 9, generator=torch.Generator().manual_seed(5)))
    torch.testing.assert_close(mask, out.mask)
    torch.testing.assert_close(normalised(seen), theirs.unpatchify(out.logits), **CLOSE)

@torch.no_grad()
def test_nothing_that_a_mae_does_changes_the_configuration_of_its_model(theirs, images, tmp_path):
    mae, before = MAE(theirs), theirs.config.to_json_string()
    mae(images)
    mae.masked(images, 0.6)
    mae.save_pretrained(tmp_path)
    assert theirs.config.to_json_string() == before

@torch.no_grad()
def test_an_unmasked_reconstruction_after_a_masked_one_sees_all_patches(theirs, images):
    mae = MAE(theirs)
    before = mae(images)
    mae.masked(images, 0.75)
    torch.testing.assert_close(mae(images), before)

@torch.no_grad()
def test_the_class_token_comes_first_and_patches_follow_in_order(theirs, images):
    theirs.config.mask_ratio = 0.0
    changed = images.clone()
    changed[:, :, 8:16, 16:24] = 0.5 # the second row's last patch
    first, second = (theirs.vit.embeddings(normalised(x), noise=torch.arange(9.).expand(3, -1))[0] for x in (images, changed))
    assert (first - second).abs().sum((0, 2)).nonzero().flatten().tolist() == [6]

@torch.no_grad()
def test_what_transformers_saved_is_loaded_and_frozen(theirs, images, tmp_path):
    theirs.save_pretrained(tmp_path)
    mae = MAE.from_pretrained(tmp_path)
    assert not any(p.requires_grad for p in mae.parameters()) and not mae.training
    torch.testing.assert_close(mae(images), MAE(theirs)(images))

@torch.no_grad()
def test_what_was_saved_here_is_loaded_by_transformers(theirs, images, tmp_path):
    MAE(theirs).save_pretrained(tmp_path)
    again = ViTMAEForPreTraining.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), theirs.state_dict().values()))

@pytest.mark.parametrize('scaling', ['one', 'each'])
@torch.no_grad()
def test_a_saved_mae_loads_with_its_feature_scaling(theirs, images, scaling, tmp_path):
    mae = measure_features(MAE(theirs), images, scaling)
    features = mae.encode(images)
    assert (features.pow(2).mean((0, 1)).std() < 1e-3) == (scaling == 'each')
    assert features.mean((0, 1)).abs().max() < 1e-4 and abs(features.pow(2).mean() - 1) < 1e-3
    mae.save_pretrained(tmp_path)
    again = MAE.from_pretrained(tmp_path)
    torch.testing.assert_close(again.encode(images), features)
    torch.testing.assert_close(again.decode(features), mae.decode(features))

@pytest.mark.parametrize('scaling', ['one', 'each'])
@torch.no_grad()
def test_feature_scaling_does_not_change_a_reconstruction(theirs, images, scaling):
    mae = MAE(theirs)
    before = mae(images)
    torch.testing.assert_close(measure_features(mae, images, scaling)(images), before, **CLOSE)

@torch.no_grad()
def test_half_precision_on_disk_is_float32_in_memory(theirs, images, tmp_path):
    MAE(theirs).save_pretrained(tmp_path, torch.float16)
    mae = MAE.from_pretrained(tmp_path)
    assert all(p.dtype == torch.float32 for p in mae.parameters())
    assert (mae(images) - MAE(theirs)(images)).abs().mean() < 5e-3

def test_saving_leaves_no_stray_files(theirs, tmp_path):
    MAE(theirs).save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['config.json', 'model.safetensors']

def test_a_mae_is_a_vision_module(theirs): assert isinstance(MAE(theirs), VisionModule) and MAE(theirs).num_tokens == 10

@pytest.mark.parametrize('shape', [(1, 3, 32, 32), (1, 3, 24, 25), (1, 1, 24, 24), (3, 24, 24)])
def test_a_picture_of_the_wrong_size_is_an_error_with_both_sizes(theirs, shape):
    with pytest.raises(ValueError, match=r'3, 24, 24\), not'): MAE(theirs).encode(torch.zeros(shape))

def one_line(error, *words): assert '\n' not in str(error.value) and all(w in str(error.value) for w in words), str(error.value)

def test_an_unknown_name_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError) as error: MAE.from_pretrained(tmp_path/'nowhere')
    one_line(error, 'nowhere', 'config.json')

def test_truncated_weights_are_one_clear_line(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    path = tmp_path/'model.safetensors'
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError) as error: MAE.from_pretrained(tmp_path)
    one_line(error, str(tmp_path))

@pytest.mark.parametrize('model', [lambda: ViTMAEModel(ViTMAEConfig(**SHAPE)), lambda: ViTModel(ViTConfig(**SHAPE))])
def test_an_encoder_without_a_decoder_is_an_error_not_random_numbers(tmp_path, model):
    model().save_pretrained(tmp_path)
    with pytest.raises(ValueError): MAE.from_pretrained(tmp_path)

def test_position_embeddings_are_those_of_the_official_mae():
    def line(width, places): # get_1d_sincos_pos_embed_from_grid
        angles = np.outer(places.reshape(-1), 1 / 10000 ** (np.arange(width // 2) / (width / 2)))
        return np.concatenate([np.sin(angles), np.cos(angles)], 1)
    columns, rows = np.meshgrid(np.arange(4.), np.arange(4.))
    theirs = np.concatenate([np.zeros((1, 32)), np.concatenate([line(16, columns), line(16, rows)], 1)])
    torch.testing.assert_close(sincos_positions(4, 32)[0], torch.from_numpy(theirs).float(), **CLOSE)

@torch.no_grad()
def test_starting_from_principal_components_reconstructs_patches():
    photo, rng = Image.fromarray(astronaut()), np.random.default_rng(0)
    sample = torch.stack([crop(photo, 16, rng) for _ in range(64)])
    torch.manual_seed(0)
    plain, started = new_mae(16, 8, 64, 1, 2, 64, 1), pca_init(new_mae(16, 8, 64, 1, 2, 64, 1), sample)
    # without the transformer's layers in between: projection, map to the decoder and prediction alone
    def error(mae):
        model = mae.model
        tokens = model.vit.embeddings.patch_embeddings(normalised(sample))
        seen = model.decoder.decoder_pred(model.decoder.decoder_embed(tokens))
        return (seen - model.patchify(normalised(sample))).pow(2).mean()
    assert error(started) < 0.05 < error(plain)

def test_training_the_decoder_leaves_the_encoder_alone(tmp_path):
    new_mae(16, 8, 16, 1, 2, 16, 1).save_pretrained(tmp_path)
    before = MAE.from_pretrained(tmp_path).model.state_dict()
    mae, log = train_mae(MAEConfig(stage='decoder', init=str(tmp_path), fit=FitConfig(steps=2, batch=2, warmup=1)), progress=False)
    changed = {k for k, v in mae.model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all(k.startswith('decoder.') for k in changed) and len(log) == 1

@pytest.mark.parametrize('bad,word', [(dict(stage='other'), 'pretrain or decoder'), (dict(patch_size=7), 'no multiple'), (dict(width=18), 'multiple of 4')])
def test_a_mae_setting_that_makes_no_sense_is_an_error(bad, word):
    with pytest.raises(ValueError, match=word): train_mae(MAEConfig(**bad), progress=False)

def test_the_shipped_mae_reconstructs_test_photographs_with_32_db():
    report = evaluate_mae('default', 'builtin', count=48, crops=8)
    assert report['n'] == 48 and report['psnr'] >= 32 and report['skipped'] == {} and report['photographs'] == 6
    assert report['psnr_ci'] > 0 and report['interval'] == '95%, over photographs'
    json.dumps(report)

@pytest.mark.parametrize('size, patch', [(16, 8), (32, 8)])
def test_lpips_is_reported_without_the_slower_measures(size, patch):
    torch.manual_seed(0)
    report = evaluate_mae(new_mae(size, patch, 16, 1, 2, 16, 1).eval(), count=3, crops=1, perceptual=False)
    assert 'lite_distance' not in report and json.dumps(report)
    if report['lpips'] is None: assert 'pixels a side' in report['unavailable']['lpips'] or 'fetch' in report['unavailable']['lpips']
    else: assert size == 32 and report['lpips'] > 0 and report['lpips_ci'] > 0 and report['unavailable'] == {}

def test_another_vision_module_is_measured_as_a_mae_is():
    class Same(torch.nn.Module):
        image_size, num_tokens, feature_dim = 32, 1, 3072
        def encode(self, x): return x.flatten(1)[:, None]
        def decode(self, z): return z.view(-1, 3, 32, 32)
        def forward(self, x): return self.decode(self.encode(x))
    report = evaluate_mae(Same(), count=3, crops=1, perceptual=False)
    assert report['psnr'] == 100 and report['lpips'] in (0, None)

def test_the_committed_table_1_has_four_rows_with_lpips():
    from conftest import ROOT
    rows = {name: json.loads((ROOT/'nbs'/'results'/f'table1-{name}.json').read_text()) for name in ('mae', 'mae-l1', 'mae-star', 'vq')}
    assert len({(r['images'], r['n'], r['photographs'], r['crops'], r['seed']) for r in rows.values()}) == 1
    assert all(r['lpips'] > 0 and r['photographs'] == 24 for r in rows.values())
    assert rows['mae']['psnr'] < rows['mae-star']['psnr'] < rows['mae-l1']['psnr'] and rows['mae']['lpips'] > 10 * rows['mae-l1']['lpips']

# training: parts, losses, checkpoints of others, processes

TINY = dict(image_size=16, patch_size=8, width=16, layers=1, heads=2, decoder_width=16, decoder_layers=1)

def small(**more): return MAEConfig(**dict(TINY, fit=FitConfig(steps=4, batch=4, warmup=1, lr=1e-2, log_every=1), **more))

def changed(before, after): return {k for k, v in after.items() if not torch.equal(v, before[k])}

@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    new_mae(16, 8, 16, 1, 2, 16, 1).save_pretrained(tmp_path/'mae')
    return str(tmp_path/'mae')

@pytest.mark.parametrize('parts', [('decoder',), ('encoder',), ('encoder', 'decoder')])
def test_exactly_the_named_parts_are_trained(folder, parts):
    before = MAE.from_pretrained(folder).model.state_dict()
    mae, _ = train_mae(small(stage='decoder', init=folder, trainable=parts), progress=False)
    moved = changed(before, mae.model.state_dict())
    assert {('decoder' if k.startswith('decoder.') else 'encoder') for k in moved} == set(parts)
    assert not any('position' in k or 'pos_embed' in k or 'mask_token' in k for k in moved)
    scaled = (mae.feature_mean != 0).any()
    assert scaled == ('encoder' in parts) # features that changed are measured again

def test_what_transformers_saved_is_fine_tuned_at_its_own_size(tmp_path, theirs):
    theirs.save_pretrained(tmp_path/'theirs') # as facebook/vit-mae-large lies on the hub: no feature scaling
    before = MAE.from_pretrained(tmp_path/'theirs').model.state_dict()
    mae, log = train_mae(small(stage='decoder', init=str(tmp_path/'theirs')), tmp_path/'mine', progress=False)
    assert mae.image_size == 24 and all(k.startswith('decoder.') for k in changed(before, mae.model.state_dict()))
    assert json.loads((tmp_path/'mine'/'training_record.json').read_text())['samples'] == 16
    assert ViTMAEForPreTraining.from_pretrained(tmp_path/'mine').config.hidden_size == 32

def test_the_perceptual_loss_adds_its_distance_and_reaches_the_decoder(folder):
    from lm4lv.vision.mae_training import MAEObjective
    from lm4lv.images.perceptual import lite_distance
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mae = MAE.from_pretrained(folder)
    plain, _ = MAEObjective(mae, small(stage='decoder'))(images)
    full, _ = MAEObjective(mae, small(stage='decoder', perceptual=.5))(images)
    torch.testing.assert_close(full, plain + .5 * lite_distance(mae(images), images, 128).mean())
    mae.model.decoder.requires_grad_(True)
    full, _ = MAEObjective(mae, small(stage='decoder', perceptual=.5))(images)
    gradient, = torch.autograd.grad(full - MAEObjective(mae, small(stage='decoder'))(images)[0], mae.model.decoder.decoder_pred.weight)
    assert gradient.abs().sum() > 0

def test_a_perceptual_loss_without_its_package_is_refused_before_training(folder, monkeypatch):
    import sys, lm4lv.images.perceptual as perception
    from lm4lv.images.metrics import MetricUnavailable
    perception.lite_network.cache_clear()
    monkeypatch.setitem(sys.modules, 'efficientnet_lite_pytorch', None)
    with pytest.raises(MetricUnavailable, match='perception'): train_mae(small(stage='decoder', init=folder, perceptual=.1), progress=False)

@pytest.mark.parametrize('bad,word', [(dict(trainable=('nose',)), 'nose'), (dict(scaling='two'), 'two'), (dict(trainable=()), 'trainable'), (dict(loss='l3'), 'l3'),
    (dict(stage='pretrain', perceptual=.1), 'stage=decoder'), (dict(stage='pretrain', trainable=('encoder',)), 'stage=decoder'), (dict(heads=3), 'multiple of heads')])
def test_a_mae_setting_of_another_stage_is_an_error(bad, word):
    with pytest.raises(ValueError, match=word): train_mae(small(**bad), progress=False)

def stop_at(step):
    def stop(entry):
        if entry['step'] >= step: raise KeyboardInterrupt
    return stop

@pytest.mark.parametrize('more', [dict(), dict(stage='decoder', trainable=('encoder', 'decoder'), feature_noise=.1)])
def test_a_stopped_mae_ends_with_the_same_bits(folder, tmp_path, more):
    def config(out):
        made = small(init=folder if more else None, **more)
        made.fit.out, made.fit.save_every = out, 2
        return made
    whole, _ = train_mae(config(None), progress=False)
    with pytest.raises(KeyboardInterrupt): train_mae(config(str(tmp_path/'out')), on_log=stop_at(3), progress=False)
    again, _ = train_mae(config(str(tmp_path/'out')), progress=False)
    assert changed(whole.model.state_dict(), again.model.state_dict()) == set()
    assert torch.equal(whole.feature_mean, again.feature_mean)

def test_two_processes_train_the_mae_that_one_trains(tmp_path): # some 20 s: two processes load torch and transformers
    import os, subprocess, sys
    from conftest import ROOT
    from fresh import torchrun
    settings = ['image_size=16', 'width=16', 'layers=1', 'heads=2', 'decoder_width=16', 'decoder_layers=1', 'steps=4', 'batch=4', 'warmup=1',
                'unmasked=1', 'log_every=1'] # nothing random within a step: the sums are the same, but for rounding
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', ACCELERATE_USE_CPU='true')
    done = subprocess.run([sys.executable, *torchrun(), '-m', 'lm4lv.cli',
                           'train-mae', *settings, '--save', str(tmp_path/'two')], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    one, _ = train_mae(MAEConfig(**TINY, unmasked=1., fit=FitConfig(steps=4, batch=4, warmup=1, lr=1e-3, log_every=1)), progress=False)
    two = MAE.from_pretrained(tmp_path/'two').model.state_dict()
    for key, value in one.model.state_dict().items(): torch.testing.assert_close(value, two[key], atol=1e-4, rtol=1e-3)

def test_a_report_keeps_its_old_keys_and_gains_the_perceptual_ones():
    torch.manual_seed(0)
    report = evaluate_mae(new_mae(16, 8, 16, 1, 2, 16, 1).eval(), count=6, crops=2)
    assert {'psnr', 'psnr_ci', 'ssim', 'ssim_ci', 'n', 'images', 'crops', 'size', 'seed', 'skipped'} <= report.keys()
    assert report['lite_distance'] > 0 and 'lite_frechet' in report['unavailable']
    json.dumps(report)

# an oracle: the forward pass of transformers itself

@pytest.mark.parametrize('hidden', [0, 4, 12])
def test_the_shipped_mae_computes_what_transformers_does(hidden):
    "Patches in the order that its noise asks for, `hidden` of 16 not shown: the same pictures, with our scaling of features taken back."
    mae = MAE.from_pretrained('default')
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(1)) # it hides where this is largest
    mae.model.config.mask_ratio = hidden / 16
    with torch.no_grad():
        theirs = mae.model((images - mae.pixel_mean) / mae.pixel_std, noise=noise)
        drawn, mask = mae.masked(images, hidden / 16, torch.Generator().manual_seed(1))
        expected = mae.model.unpatchify(theirs.logits) * mae.pixel_std + mae.pixel_mean
    assert torch.equal(mask, theirs.mask) and mask.sum(1).eq(hidden).all()
    torch.testing.assert_close(drawn, expected, atol=1e-5, rtol=1e-4)
    if not hidden: torch.testing.assert_close(mae(images), expected, atol=1e-5, rtol=1e-4)
