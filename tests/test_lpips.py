"LPIPS with its published weights: read safely, equal to what others carry and compute."
import io, pickle
from pathlib import Path
import pytest
import torch
import torch.nn.functional as F
from lm4lv.core.io import FetchError
from lm4lv.images import lpips as module
from lm4lv.images.lpips import LPIPS, NETWORKS, ArrayUnpickler, load_lpips
from lm4lv.images.metrics import MetricUnavailable, lpips, lpips_network

@pytest.fixture(scope='module', params=sorted(NETWORKS))
def net(request):
    try: module.fetch_lpips()
    except FetchError as error: pytest.skip(f'NO LPIPS: {error}')
    return request.param

def pictures(count=2, side=64):
    torch.manual_seed(0)
    return torch.rand(count, 3, side, side), torch.rand(count, 3, side, side)

def test_the_heads_are_those_that_torchmetrics_carries(net):
    import torchmetrics.functional.image as where
    theirs = torch.load(Path(where.__file__).parent/'lpips_models'/f'{net}.pth', map_location='cpu', weights_only=True)
    for n, head in enumerate(load_lpips(net).heads): assert torch.equal(head, theirs[f'lin{n}.model.1.weight'].flatten())

def test_a_plain_version_gives_the_same_distance(net):
    network, (a, b) = load_lpips(net), pictures()
    def layers(x):
        x, kept, convolutions = (x - network.shift) / network.scale, [], iter(network.convolutions)
        for entry in NETWORKS[net]:
            if entry == '|': kept.append(x)
            elif len(entry) == 2: x = F.max_pool2d(x, *entry)
            else:
                c = next(convolutions)
                x = F.conv2d(x, c.weight, c.bias, entry[2], entry[3]).clamp(min=0)
        return kept
    total = 0
    for x, y, head in zip(layers(a * 2 - 1), layers(b * 2 - 1), network.heads):
        x, y = (F.normalize(z.double(), dim=1, eps=1e-10) for z in (x, y))
        total = total + torch.einsum('bchw,c->b', (x - y) ** 2, head.double()) / x.shape[2] / x.shape[3]
    torch.testing.assert_close(lpips(a, b, net).double(), total, atol=1e-4, rtol=1e-4)

def test_five_layers_are_compared(net):
    sizes = dict(alex=[64, 192, 384, 256, 256], vgg=[64, 128, 256, 512, 512])[net]
    features = LPIPS(net).features(pictures()[0])
    assert [f.shape[1] for f in features] == sizes
    assert [f.shape[2] for f in features] == dict(alex=[15, 7, 3, 3, 3], vgg=[64, 32, 16, 8, 4])[net]

def test_distances_have_gradients(net):
    a, b = pictures(1, 32)
    a.requires_grad_(True)
    load_lpips(net)(a * 2 - 1, b * 2 - 1).sum().backward()
    assert a.grad.abs().sum() > 0

@pytest.mark.parametrize('thing', [print, Path('x'), torch.zeros(1)], ids=['function', 'path', 'tensor'])
def test_a_pickle_of_anything_else_is_refused(thing):
    with pytest.raises(FetchError, match='expected NumPy arrays alone'): ArrayUnpickler(io.BytesIO(pickle.dumps(thing))).load()

def test_without_weights_nothing_is_fetched_unasked(tmp_path, monkeypatch):
    monkeypatch.setenv('LM4LV_CACHE', str(tmp_path))
    with pytest.raises(MetricUnavailable, match='lm4lv fetch lpips'): lpips_network(fetch=False)
    assert not list(tmp_path.iterdir())

def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    load_lpips.cache_clear()
    monkeypatch.setenv('LM4LV_CACHE', str(tmp_path))
    for name in ('PIP_INDEX_URL', 'PIP_EXTRA_INDEX_URL', 'PIP_FIND_LINKS'): monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    with pytest.raises(MetricUnavailable, match='could not be fetched'): lpips_network()
    assert not (tmp_path/'lpips').exists()
    load_lpips.cache_clear()

def test_an_unknown_network_is_named():
    with pytest.raises(ValueError, match='expected alex or vgg'): load_lpips('squeeze')

@pytest.mark.parametrize('side', [30, 31])
def test_too_small_pictures_are_refused_in_a_line(net, side):
    from lm4lv.images.metrics import SMALLEST
    side = side - 31 + SMALLEST[net]
    a, b = pictures(1, side)
    if side >= SMALLEST[net]: assert lpips(a, b, net).item() > 0
    else:
        with pytest.raises(MetricUnavailable, match=f'{SMALLEST[net]} pixels a side, not {side}x{side}'): lpips(a, b, net)
