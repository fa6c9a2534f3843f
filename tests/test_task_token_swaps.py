import pytest
import torch
from lm4lv.images.degradations import get_task, make_pairs
from lm4lv.images.metrics import psnr
from lm4lv.model.generation import restore
from lm4lv.evaluation.restoration import evaluation_seeds
from lm4lv.evaluation.task_tokens import plot_swap_matrices, plot_swaps, swap_matrices, swap_tasks

PHOTOS = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))

def test_every_input_meets_all_tokens(tiny):
    swaps = swap_tasks(tiny, PHOTOS)
    assert list(swaps['inputs']) == swaps['tokens'] == ['denoise', 'flip'] and len(swaps['written']) == 4
    noisy = make_pairs(PHOTOS, 'denoise', evaluation_seeds(0, 3)).input
    torch.testing.assert_close(swaps['written']['denoise', 'flip'], torch.stack(restore(tiny, noisy, 'flip')))

def test_inputs_need_no_tokens_of_their_own(tiny):
    swaps = swap_tasks(tiny, PHOTOS, ['denoise'], ['derain', 'rotate'])
    assert list(swaps['inputs']) == ['derain', 'rotate'] and swap_matrices(swaps)['own'].shape == (2, 1)
    assert torch.equal(swaps['targets']['rotate'], PHOTOS.rot90(1, (-2, -1))) and torch.equal(swaps['targets']['denoise'], PHOTOS)

def test_the_matrices_are_means_against_their_targets(tiny):
    swaps = swap_tasks(tiny, PHOTOS)
    matrices, written = swap_matrices(swaps), swaps['written']['denoise', 'flip']
    assert abs(matrices['own'][0, 1] - psnr(written, PHOTOS).mean()) < 1e-3
    assert abs(matrices['tokens'][0, 1] - psnr(written, PHOTOS.flip(-1)).mean()) < 1e-3
    assert abs(matrices['input'][0, 1] - psnr(written, swaps['inputs']['denoise']).mean()) < 1e-3

def test_one_who_obeys_the_tokens_and_one_who_obeys_the_picture_are_told_apart():
    tasks = ['rotate', 'flip', 'repeat']
    pairs = {t: make_pairs(PHOTOS, t) for t in tasks}
    base = dict(inputs={t: p.input for t, p in pairs.items()}, tokens=tasks, targets={t: p.target for t, p in pairs.items()})
    obeys = {(r, t): get_task(t).apply(pairs[r].input, None) for r in tasks for t in tasks}
    looks = {(r, t): pairs[r].target for r in tasks for t in tasks}
    assert (swap_matrices(dict(base, written=obeys))['tokens'] == 100).all() and (swap_matrices(dict(base, written=looks))['own'] == 100).all()
    assert (swap_matrices(dict(base, written=obeys))['own'] == 100).sum() == 3

def test_a_checkpoint_for_each_task_is_swapped_whole(tokenizer):
    from lm4lv.model.next_element import tiny_model
    one, other = (tiny_model(seed, (task,), tokenizer).eval() for seed, task in ((0, 'denoise'), (1, 'flip')))
    swaps = swap_tasks({'denoise': one, 'flip': other}, PHOTOS)
    torch.testing.assert_close(swaps['written']['denoise', 'flip'], torch.stack(restore(other, swaps['inputs']['denoise'], 'flip')))

def test_unknown_tasks_are_named(tiny):
    with pytest.raises(ValueError, match="'derain'.*denoise, flip"): swap_tasks(tiny, PHOTOS, ['derain'])
    with pytest.raises(ValueError, match="'dehaze'"): swap_tasks(tiny, PHOTOS, None, ['dehaze'])

def test_figures_show_every_pair(tiny):
    swaps = swap_tasks(tiny, PHOTOS, inputs=['denoise', 'flip', 'derain'])
    assert len(plot_swaps(swaps, 1).axes) == 3 * 4
    assert sum(len(a.texts) for a in plot_swap_matrices(swaps).axes) == 3 * 3 * 2
