import hashlib, sys
import pytest
import torch
from scipy.linalg import sqrtm
from lm4lv.images.degradations import filter_each, gaussian_kernel
from lm4lv.images.metrics import MetricUnavailable
from lm4lv.images.photos import Photos
from lm4lv.images import perceptual
from lm4lv.images.perceptual import frechet_distance, lite_distance, lite_features, lite_network, perceptual_report, precision_recall, read_weights

def randn(*shape, seed=0): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

@pytest.fixture(scope='module')
def photos(): return Photos('builtin', size=32)[:4]

def blurred(x, times):
    for _ in range(times): x = filter_each(x, gaussian_kernel(5).expand(len(x), -1, -1))
    return x

# the network

@torch.no_grad()
def test_the_stages_are_those_that_the_packages_own_pass_goes_through(photos):
    network = lite_network()
    last = network.stages(photos, 224)[-1]
    ours = network.network._swish(network.network._bn1(network.network._conv_head(last)))
    x = torch.nn.functional.interpolate(photos, (224, 224), mode='bilinear', antialias=True)
    torch.testing.assert_close(ours, network.network.extract_features((x * 255 - 127) / 128), atol=1e-4, rtol=1e-4)

@torch.no_grad()
def test_five_stages_have_their_channels_and_halve_the_picture(photos):
    shapes = [tuple(x.shape[1:]) for x in lite_network().stages(photos)]
    assert shapes == [(16, 64, 64), (24, 32, 32), (40, 16, 16), (112, 8, 8), (320, 4, 4)]

def test_the_network_is_frozen_and_stays_in_evaluation(photos):
    network = lite_network()
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert torch.equal(lite_features(photos), lite_features(photos))

def test_loading_the_network_draws_nothing():
    perceptual.lite_network.cache_clear()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    lite_network()
    assert torch.equal(before, torch.random.get_rng_state())

def test_a_file_that_is_not_the_expected_one_is_never_opened(tmp_path, monkeypatch):
    (tmp_path/'weights.pth').write_bytes(b'cos\nsystem\n(S"touch hacked"\ntR.')
    monkeypatch.setattr(torch, 'load', lambda *args, **kwargs: pytest.fail('opened'))
    with pytest.raises(MetricUnavailable, match='not the weights'): read_weights(tmp_path/'weights.pth')

class Attack:
    def __reduce__(self): return (print, ('unpickled',))

def test_a_pickle_that_holds_more_than_tensors_is_refused(tmp_path, monkeypatch, capsys):
    torch.save(dict(a=Attack()), tmp_path/'weights.pth')
    monkeypatch.setattr(perceptual, 'WEIGHTS_HASH', hashlib.sha256((tmp_path/'weights.pth').read_bytes()).hexdigest())
    with pytest.raises(Exception, match='(?i)weights.only'): read_weights(tmp_path/'weights.pth')
    assert 'unpickled' not in capsys.readouterr().out

def test_without_its_package_the_error_names_the_extra(monkeypatch):
    perceptual.lite_network.cache_clear()
    monkeypatch.setitem(sys.modules, 'efficientnet_lite_pytorch', None)
    with pytest.raises(MetricUnavailable, match=r'lm4lv\[perception\]'): lite_network()

# a distance of pictures

def test_equal_pictures_have_no_distance_at_any_size(photos):
    for side in (64, 128): assert lite_distance(photos, photos, side).tolist() == [0.] * 4

def test_the_distance_grows_with_noise_and_with_blur(photos):
    noise = randn(*photos.shape)
    worse = torch.stack([lite_distance((photos + a * noise).clamp(0, 1), photos) for a in (0, .02, .05, .1, .2)])
    softer = torch.stack([lite_distance(blurred(photos, n), photos) for n in (0, 1, 2, 4, 8)])
    assert (worse.diff(dim=0) > 0).all() and (softer.diff(dim=0) > 0).all()

def test_the_distance_is_symmetric_and_does_not_depend_on_the_batch(photos):
    other = photos.flip(0)
    torch.testing.assert_close(lite_distance(photos, other), lite_distance(other, photos))
    torch.testing.assert_close(lite_distance(photos, other)[:1], lite_distance(photos[:1], other[:1]), atol=1e-5, rtol=1e-4)

def test_a_step_down_its_gradient_brings_pictures_nearer(photos):
    x = blurred(photos, 4).requires_grad_()
    before = lite_distance(x, photos, 64)
    gradient, = torch.autograd.grad(before.sum(), x)
    after = lite_distance(x - .1 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1), photos, 64)
    assert (after < before).all()

def test_pictures_of_unequal_shapes_are_refused(photos):
    with pytest.raises(ValueError, match='one shape'): lite_distance(photos, photos[:1])

# distances of sets

def test_the_frechet_distance_equals_the_matrix_root_of_scipy():
    a, b = randn(200, 6) @ randn(6, 6, seed=1), randn(300, 6, seed=2) @ randn(6, 6, seed=3) + .5
    (m, s), (n, t) = [(x.double().mean(0).numpy(), torch.cov(x.double().T).numpy()) for x in (a, b)]
    assert abs(frechet_distance(a, b) - (((m - n) ** 2).sum() + (s + t - 2 * sqrtm(s @ t).real).trace())) < 1e-6

def test_the_frechet_distance_of_shifted_sets_is_the_square_of_the_shift():
    a = randn(5000, 4)
    assert abs(frechet_distance(a, a + 2) - 16) < 1e-3 and abs(frechet_distance(a, a)) < 1e-6

def test_a_set_smaller_than_its_features_is_refused():
    with pytest.raises(ValueError, match='320'): frechet_distance(randn(320, 320), randn(400, 320))

def test_precision_and_recall_of_the_same_law_are_high_and_of_others_zero():
    a, b = randn(400, 6), randn(400, 6, seed=1)
    assert min(precision_recall(a, b)) > .8 and precision_recall(a, b + 50) == (0, 0) and precision_recall(a, a) == (1, 1)

def test_few_repeated_pictures_are_precise_and_recall_little():
    a = randn(400, 6)
    precision, recall = precision_recall(a, a[:8].repeat_interleave(50, 0) + 1e-3 * randn(400, 6, seed=2))
    assert precision > .99 and recall < .1

def test_precision_and_recall_equal_a_slow_plain_version():
    a, b, k = randn(40, 3), randn(30, 3, seed=1) * 2, 3
    def among(points, others):
        radii = [sorted((c - d).norm().item() for d in others)[k] for c in others]
        return sum(any((p - c).norm().item() <= r for c, r in zip(others, radii)) for p in points) / len(points)
    assert precision_recall(a, b) == (among(b, a), among(a, b))

def test_fewer_pictures_than_neighbours_are_refused():
    with pytest.raises(ValueError, match='k=3'): precision_recall(randn(3, 2), randn(9, 2))

# the report

def test_a_report_says_what_is_missing_and_why(photos):
    report = perceptual_report(blurred(photos, 1), photos)
    assert report['lite_distance'] > 0 and report['lite_precision'] == report['lite_recall'] == 1 and report['lite_frechet'] is None
    assert 'more than 320' in report['unavailable']['lite_frechet'] and report['rfid'] is None and '2048' in report['unavailable']['rfid']

def test_a_report_without_the_package_is_still_a_report(photos, monkeypatch):
    perceptual.lite_network.cache_clear()
    monkeypatch.setitem(sys.modules, 'efficientnet_lite_pytorch', None)
    report = perceptual_report(photos, photos)
    assert report['lite_distance'] is None and {'lite_distance', 'lite_frechet', 'lite_precision'} <= report['unavailable'].keys()

def test_sets_of_one_feature_have_the_distance_of_their_means_and_spreads():
    found = frechet_distance(3 + 2 * randn(4000, 1), .5 * randn(4000, 1, seed=1))
    assert abs(found - (9 + 1.5 ** 2)) < .5
