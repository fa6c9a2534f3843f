import pytest
import torch
import torch.nn.functional as F
from lm4lv.images.degradations import make_pairs
from lm4lv.images.metrics import psnr
from lm4lv.images.photos import Photos
from lm4lv.model.generation import generate
from lm4lv.evaluation.failures import (answer_errors, count_kinds, explain, explained, fault_kept, frequency_spectrum, misaligned, plot_failures,
    plot_position_errors, position_errors, realigned, to_patches, worst, wrong_colour, wrong_detail)
from lm4lv.evaluation.restoration import evaluate, evaluation_seeds

P, S = 8, 32
PHOTOS = Photos('builtin', size=S, crops=2).spread(12)
rng = lambda seed=0: torch.Generator().manual_seed(seed)
noise = lambda scale, seed=0: scale * torch.randn(3, S, S, generator=rng(seed))
fold = lambda patches: F.fold(patches.T[None], (S, S), P, stride=P)[0]
GIVEN = noise(.15)

def cloud(seed):
    x = F.interpolate(torch.randn(1, 3, 4, 4, generator=rng(seed)), (S, S), mode='bicubic')[0]
    return .2 * (x - x.mean((1, 2), keepdim=True))

MADE = {
    'shuffled': ('misaligned tokens', lambda x: fold(to_patches(x, P)[torch.randperm(16, generator=rng(3))])),
    'two patches swapped': ('misaligned tokens', lambda x: fold(to_patches(x, P)[[5, *range(1, 5), 0, *range(6, 16)]])),
    'one token late': ('misaligned tokens', lambda x: fold(to_patches(x, P).roll(1, 0))),
    'shifted by two pixels': ('misaligned tokens', lambda x: x.roll((2, 2), (1, 2))),
    'blurred': ('lost detail', lambda x: F.interpolate(F.avg_pool2d(x[None], 4), (S, S), mode='bicubic')[0]),
    'too dark': ('wrong colour', lambda x: x * .6),
    'too red': ('wrong colour', lambda x: x + torch.tensor([.15, 0, -.05])[:, None, None]),
    'noise kept': ('fault kept', lambda x: x + .7 * GIVEN),
    'new noise': ('false detail', lambda x: x + noise(.12, 9)),
    'clouds': ('mixed', lambda x: x + cloud(2))}

@pytest.mark.parametrize('name', list(MADE))
@pytest.mark.parametrize('number', range(0, 12, 2))
def test_a_failure_made_on_purpose_is_recognised(name, number):
    photo, (kind, make) = .2 + .6 * PHOTOS[number], MADE[name]
    named, shares = explain(make(photo), photo, photo, photo + GIVEN, P)
    assert named == kind, shares
    assert kind == 'mixed' or explained(shares) > .5

def test_a_perfect_picture_is_no_failure():
    photo = PHOTOS[0]
    kind, shares = explain(photo, photo, photo, photo, P)
    assert all(-1e-6 <= x <= 1 + 1e-6 for x in shares.values()) and explained(shares) == explained(shares) # no NaN

@pytest.mark.parametrize('value', [0., 1.])
def test_flat_pictures_give_numbers(value):
    flat, other = torch.full((3, S, S), value), torch.full((3, S, S), .5)
    kind, shares = explain(other, flat, flat, flat, P)
    assert kind == 'wrong colour' and all(x == x for x in shares.values())

def test_what_the_mae_loses_is_not_the_models_fault():
    photo = PHOTOS[0]
    blurred = MADE['blurred'][1](photo)
    assert sum(wrong_detail(blurred, photo, blurred, P)) < .01 < .5 < sum(wrong_detail(blurred, photo, photo, P))

def test_lost_and_false_detail_are_told_apart():
    photo = .2 + .6 * PHOTOS[0]
    lost, false = wrong_detail(MADE['blurred'][1](photo), photo, photo, P)
    assert lost > 3 * false
    lost, false = wrong_detail(photo + noise(.12), photo, photo, P)
    assert false > 20 * lost

def test_a_faded_picture_is_not_called_a_colour_fault():
    "A flat grey instead of the picture: the gain that would mend it has no bound, and none within a half and two does."
    photo = PHOTOS[0]
    flat = photo.mean((1, 2), keepdim=True).expand_as(photo)
    assert wrong_colour(flat, photo) < .01

def test_a_remedy_never_explains_more_than_all():
    for seed in range(5):
        a, b, c = (torch.rand(3, S, S, generator=rng(seed + i)) for i in (0, 10, 20))
        for share in (misaligned(a, b, P), *wrong_detail(a, b, b, P), wrong_colour(a, b), fault_kept(a, b, c)): assert -1e-6 <= share <= 1 + 1e-6

def test_patches_come_row_by_row():
    image = torch.arange(3 * 16).float().view(3, 4, 4)
    assert to_patches(image, 2)[1].tolist() == image[:, :2, 2:].flatten().tolist()

def test_patches_are_put_back_where_they_were():
    photo, order = PHOTOS[1], torch.randperm(16, generator=rng(3))
    torch.testing.assert_close(realigned(fold(to_patches(photo, P)[order]), photo, P), photo)

def test_a_wave_has_one_frequency():
    waves = torch.cos(torch.pi * 8 * (torch.arange(S) + .5) / S).expand(3, S, S)
    coefficients, frequency = frequency_spectrum(waves)
    strongest = coefficients[0].abs().flatten().argmax()
    assert frequency.flatten()[strongest] == pytest.approx(4 / S) and coefficients[0].abs().flatten()[strongest].square() == pytest.approx(waves[0].square().sum().item())

# positions

@torch.no_grad()
def test_position_errors_are_those_of_the_tokens(tiny):
    photos = torch.rand(5, 3, 16, 16, generator=rng())
    errors = position_errors(tiny, photos, 'denoise', batch_size=2)
    pairs = make_pairs(photos, 'denoise', evaluation_seeds(0, 5))
    torch.testing.assert_close(errors['teacher-forced'].mean(0), answer_errors(tiny, pairs).mean(0), atol=1e-5, rtol=1e-4)
    from lm4lv.model.conversations import restoration
    answer, = generate(tiny, [restoration('denoise', answer=False)], pairs.input[3:4], force_image=True)
    target = tiny.vision.encode(pairs.target[3:4])[0]
    torch.testing.assert_close(errors['free-running'][3], (answer.features[0] - target).pow(2).mean(-1), atol=1e-4, rtol=1e-3)
    assert {x.shape for x in errors.values()} == {(5, tiny.vision.num_tokens)}

@torch.no_grad()
def test_the_first_token_has_no_past_to_lean_on(tiny):
    errors = position_errors(tiny, torch.rand(3, 3, 16, 16, generator=rng()), 'flip')
    torch.testing.assert_close(errors['teacher-forced'][:, 0], errors['free-running'][:, 0], atol=1e-4, rtol=1e-3)

def test_positions_are_drawn_for_any_number_of_tasks(tiny):
    errors = position_errors(tiny, torch.rand(4, 3, 16, 16), 'denoise')
    for n in (1, 5): assert len([a for a in plot_position_errors({f'task {i}': errors for i in range(n)}, torch.tensor([0, 0, 1, 1])).axes if a.lines]) == n

# the gallery

def shown(tiny, tmp_path):
    from PIL import Image
    for i in range(2): Image.effect_noise((30, 30), 60).convert('RGB').save(tmp_path/f'{i}.png')
    return evaluate(tiny, str(tmp_path), count=4, crops=2, free=0)[1]

def test_the_worst_over_all_tasks_come_first(tiny, tmp_path):
    pictures = shown(tiny, tmp_path)
    cases = worst(pictures, dict(denoise=8, flip=8), 3)
    values = sorted(v for p in pictures.values() for v in psnr(p['lm4lv'], p['target']).tolist())
    assert [c['psnr'] for c in cases] == values[:3]
    for c in cases: assert torch.equal(c['pictures']['lm4lv'], pictures[c['task']]['lm4lv'][c['index']])
    assert sum(sum(kinds.values()) for kinds in count_kinds(worst(pictures, dict(denoise=8, flip=8), None)).values()) == 8
    by_kind = plot_failures(cases, rows=dict(lm4lv='LM4LV', target='target'), kind='misaligned tokens')
    assert len(by_kind.axes) == 2 * 3 and f"{cases[0]['shares']['misaligned tokens']:.0%}" in by_kind.axes[0].get_title()
    figure = plot_failures(cases)
    assert len(figure.axes) == 4 * 3 and cases[0]['task'] in figure.axes[0].get_title()
