import json
import pytest
import torch
from scipy import ndimage
from lm4lv.images.degradations import TASKS, filter_each, gaussian_kernel, get_task, make_pairs, sample_params, streak_kernel

def field(seed=0, shape=(4, 3, 32, 32)): return torch.rand(shape, generator=torch.Generator().manual_seed(seed))

GREY = torch.full((1, 3, 256, 256), 0.5)

def degraded(images, task, **params): return make_pairs(images, task, params=[dict(task=task, seed=5, **params)] * len(images)).input

@pytest.mark.parametrize('window', [1, 3, 5, 7])
def test_blur_equals_scipys_gaussian_filter(window):
    images, sigma = field(), 0.3 * ((window - 1) * 0.5 - 1) + 0.8
    theirs = ndimage.gaussian_filter(images.double().numpy(), sigma, axes=(2, 3), mode='mirror', radius=window // 2)
    assert (degraded(images, 'deblur', window=window).double() - torch.from_numpy(theirs)).abs().max() < 1e-5

def test_filtering_equals_scipys_correlation_for_any_kernel():
    images, kernels = field(), field(1, (4, 5, 5))
    for image, kernel, filtered in zip(images, kernels, filter_each(images, kernels)):
        for channel, out in zip(image, filtered):
            theirs = ndimage.correlate(channel.double().numpy(), kernel.double().numpy(), mode='mirror')
            assert (out.double() - torch.from_numpy(theirs)).abs().max() < 1e-5

def test_a_blur_kernel_sums_to_one_and_is_zero_outside_its_window():
    for window in (1, 3, 5, 7):
        kernel = gaussian_kernel(window)
        assert abs(kernel.sum() - 1) < 1e-6 and (kernel > 0).sum() == window ** 2

@pytest.mark.parametrize('sigma', [0.0, 0.02, 0.1])
def test_noise_has_the_standard_deviation_that_was_drawn(sigma):
    noise = degraded(GREY, 'denoise', sigma=sigma) - GREY # far from both ends: nothing is clipped
    n = noise.numel()
    assert abs(noise.std() - sigma) < 5 * sigma / (2 * n) ** 0.5 + 1e-7 and abs(noise.mean()) < 5 * sigma / n ** 0.5 + 1e-7

def test_noise_differs_between_colours_and_seeds():
    noise = degraded(GREY, 'denoise', sigma=0.1) - GREY
    assert abs(torch.corrcoef(noise[0].flatten(1))[0, 1]) < 0.05
    other = make_pairs(GREY, 'denoise', params=[dict(sigma=0.1, seed=6)]).input
    assert not torch.equal(other, noise + GREY)

@pytest.mark.parametrize('fraction', [0.0, 0.05, 0.1])
def test_pepper_blackens_its_fraction_of_the_pixels_in_all_colours(fraction):
    black = degraded(GREY, 'depepper', fraction=fraction) == 0
    n = 256 * 256
    assert (black[:, 0] == black[:, 1]).all() and (black[:, 0] == black[:, 2]).all()
    assert abs(black[:, 0].float().mean() - fraction) <= 5 * (fraction * (1 - fraction) / n) ** 0.5

def test_masks_are_squares_of_four_pixels_on_a_grid():
    black = (degraded(GREY, 'demask', size=4, rate=0.1) == 0)[0, 0]
    cells = black.view(64, 4, 64, 4).float().mean((1, 3))
    assert set(cells.unique().tolist()) == {0.0, 1.0}
    assert abs(cells.mean() - 0.1) < 5 * (0.09 / 64 ** 2) ** 0.5

@pytest.mark.parametrize('amount', [1, 10, 20])
def test_rain_brightens_only_and_more_of_it_brightens_more(amount):
    rained = degraded(GREY, 'derain', amount=amount, angle=20) - GREY
    assert (rained >= 0).all() and (rained[:, 0] == rained[:, 2]).all()
    assert rained.mean() > (degraded(GREY, 'derain', amount=amount / 2, angle=20) - GREY).mean() > 0

def test_rain_of_amount_zero_is_no_rain(): assert torch.equal(degraded(GREY, 'derain', amount=0, angle=20), GREY)

def test_a_streak_runs_along_its_angle():
    upright, slanted = streak_kernel(0, 11, 11), streak_kernel(45, 11, 11)
    assert upright.sum(0).argmax() == 5 and upright[:, 5].min() == 1
    rows, columns = (slanted > 0.5).nonzero().float().T
    assert abs(torch.corrcoef(torch.stack([rows, columns]))[0, 1]) > 0.8

RANGES = dict(denoise=dict(sigma=(0, 50 / 255)), deblur=dict(window={1, 3, 5, 7}), derain=dict(amount=(0, 20), angle=(-45, 45)),
              depepper=dict(fraction=(0, 0.1)), demask=dict(size={4}, rate={0.1}), rotate={}, flip={}, repeat={})

@pytest.mark.parametrize('task', TASKS)
def test_what_is_drawn_fills_the_range_of_the_paper(task):
    drawn = [sample_params(task, seed) for seed in range(2000)]
    assert all(set(d) == {'task', 'seed', *RANGES[task]} for d in drawn)
    for key, allowed in RANGES[task].items():
        values = [d[key] for d in drawn]
        if isinstance(allowed, set): assert set(values) == allowed
        else:
            low, high = allowed
            assert low <= min(values) < low + 0.01 * (high - low) and high - 0.01 * (high - low) < max(values) <= high

@pytest.mark.parametrize('task', TASKS)
def test_parameters_written_to_json_reproduce_the_pair_bit_for_bit(task):
    pairs = make_pairs(field(), task, seeds=[3, 1, 4, 1])
    again = make_pairs(field(), task, params=json.loads(json.dumps(pairs.params)))
    assert torch.equal(pairs.input, again.input) and torch.equal(pairs.target, again.target)

@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('shape', [(3, 3, 32, 32), (3, 3, 19, 50), (3, 3, 50, 19)])
def test_a_batch_equals_its_pictures_one_by_one(task, shape):
    images, seeds = field(0, shape), [7, 8, 9]
    pairs = make_pairs(images, task, seeds)
    for i in range(3):
        one = make_pairs(images[i:i + 1], task, seeds[i:i + 1])
        torch.testing.assert_close(pairs.input[i], one.input[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(pairs.target[i], one.target[0], atol=1e-6, rtol=0)

@pytest.mark.parametrize('task', [t for t in TASKS if not TASKS[t].spatial])
def test_restoration_tasks_degrade_the_input_and_keep_the_target(task):
    images = field() * 0.5 + 0.25
    pairs = make_pairs(images, task, seeds=[2] * 4)
    assert torch.equal(pairs.target, images) and pairs.input.shape == images.shape
    assert 0 <= pairs.input.min() and pairs.input.max() <= 1

def test_spatial_tasks_keep_the_input_and_change_the_target():
    images = field(0, (2, 3, 20, 30))
    for task, expected in dict(flip=images.flip(3), repeat=images, rotate=torch.rot90(images, 1, (2, 3))).items():
        pairs = make_pairs(images, task)
        assert torch.equal(pairs.input, images) and torch.equal(pairs.target, expected)

@pytest.mark.parametrize('task', [t for t in TASKS if not TASKS[t].spatial])
def test_the_smallest_pictures_can_be_degraded(task):
    assert make_pairs(field(0, (1, 3, 8, 8)), task, seeds=[11]).input.shape == (1, 3, 8, 8)
    assert make_pairs(field(0, (1, 3, 8, 200)), task, seeds=[11]).input.isfinite().all()

def test_an_unknown_task_lists_all_names():
    with pytest.raises(ValueError) as error: get_task('dehaze')
    assert "'dehaze'" in str(error.value) and all(task in str(error.value) for task in TASKS)

def test_seeds_and_pictures_must_be_as_many():
    with pytest.raises(ValueError, match='4 pictures but 3 seeds'): make_pairs(field(), 'denoise', seeds=[1, 2, 3])
