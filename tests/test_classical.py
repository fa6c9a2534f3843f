import numpy as np
import pytest
import torch
from lm4lv.images.classical import CLASSICAL, METHODS, black_squares, classical, compare_methods, noise_level
from lm4lv.images.degradations import TASKS, make_pairs
from lm4lv.images.metrics import psnr
from lm4lv.images.photos import Photos

@pytest.fixture(scope='module')
def photos(): return Photos('builtin', split='train', size=32, crops=4).spread(8)

@pytest.mark.parametrize('task,params,gain', [('denoise', dict(sigma=.1, seed=0), 3), ('depepper', dict(fraction=.1, seed=0), 8),
                                              ('demask', dict(size=4, rate=.1, seed=0), 8)])
def test_a_method_helps_where_there_is_something_to_mend(photos, task, params, gain):
    pairs = make_pairs(photos, task, params=[dict(params, seed=i) for i in range(len(photos))])
    assert (psnr(classical(pairs.input, task), photos) - psnr(pairs.input, photos)).mean() > gain

def test_rain_becomes_less(photos):
    pairs = make_pairs(photos, 'derain', params=[dict(amount=15, angle=20, seed=i) for i in range(len(photos))])
    assert (psnr(classical(pairs.input, 'derain'), photos) - psnr(pairs.input, photos)).mean() > 2

def test_a_blurred_edge_becomes_steeper():
    step = torch.zeros(1, 3, 32, 32)
    step[..., 16:] = .6
    pairs = make_pairs(step + .2, 'deblur', params=[dict(window=3)])
    slope = lambda x: x[0, 0, 16].diff().max()
    assert slope(classical(pairs.input, 'deblur')) > slope(pairs.input)

@pytest.mark.parametrize('task', list(CLASSICAL))
def test_every_method_gives_pictures_in_range_and_leaves_its_input_alone(photos, task):
    pairs = make_pairs(photos[:2], task, [3, 4])
    for method in METHODS[task]:
        original = pairs.input.clone()
        out = classical(pairs.input, task, method)
        assert out.shape == original.shape and out.dtype == original.dtype and 0 <= out.min() and out.max() <= 1
        assert torch.equal(pairs.input, original)

@pytest.mark.parametrize('value', [0., .5, 1.])
@pytest.mark.parametrize('task', list(CLASSICAL))
def test_flat_pictures_stay_flat(task, value):
    "Also wholly black ones, in which every pixel looks like a hole."
    flat = torch.full((1, 3, 32, 32), value)
    torch.testing.assert_close(classical(flat, task), flat, atol=1e-3, rtol=0)

def test_a_batch_equals_its_pictures_one_by_one(photos):
    x = make_pairs(photos[:3], 'denoise').input
    torch.testing.assert_close(classical(x, 'denoise'), torch.cat([classical(x[i:i + 1], 'denoise') for i in range(3)]))

def test_spatial_tasks_have_none(photos):
    for task in TASKS: assert (classical(photos[:1], task) is None) == TASKS[task].spatial

def test_unknown_names_are_refused(photos):
    with pytest.raises(ValueError, match="'dehaze'"): classical(photos, 'dehaze')
    with pytest.raises(ValueError, match="denoise: no method 'magic'.*total variation"): classical(photos, 'denoise', 'magic')

def test_the_noise_level_grows_with_the_noise(photos):
    x, rng = photos[0].permute(1, 2, 0).double().numpy(), np.random.default_rng(0)
    levels = [noise_level(x + s * rng.normal(size=x.shape)) for s in (0, .05, .1, .2)]
    assert levels == sorted(levels) and abs(levels[-1] - .2) < .04

@pytest.mark.parametrize('height,width', [(32, 32), (30, 33), (7, 9)])
def test_black_squares_are_those_of_the_degradation(height, width):
    image = torch.rand(1, 3, height, width) * .9 + .1
    masked = make_pairs(image, 'demask', params=[dict(size=4, rate=.4, seed=1)]).input[0].permute(1, 2, 0).numpy()
    assert np.array_equal(black_squares(masked), (masked == 0).all(-1))

def test_a_comparison_has_every_method(photos):
    scores = compare_methods(photos[:2])
    assert {task: {'spoiled', *methods} for task, methods in METHODS.items()} == {task: set(row) for task, row in scores.items()}
    assert max(max(row.values()) for row in scores.values()) <= 100
