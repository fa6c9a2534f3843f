"Parts of a rotation: what they do to pictures, and what is kept of a run."
import json
import pytest
import torch
from lm4lv.ablations.rotation import PARTS, add_run, from_patches, move_patches, order_of, roll_patches, rotate_patches, share_on, to_patches, with_parts
from lm4lv.evaluation.adapter_weights import Attention
from lm4lv.images.degradations import TASKS, get_task, make_pairs

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

def test_patches_and_back(): assert torch.equal(from_patches(to_patches(IMAGES)), IMAGES)

def test_both_parts_are_a_rotation():
    assert torch.equal(move_patches(rotate_patches(IMAGES)), get_task('rotate').apply(IMAGES, None))
    assert torch.equal(rotate_patches(move_patches(IMAGES)), get_task('rotate').apply(IMAGES, None))

def test_a_roll_moves_every_patch_and_four_give_the_picture_back():
    rolled = IMAGES
    for _ in range(4):
        before, rolled = rolled, roll_patches(rolled)
        assert not torch.equal(rolled, before)
    assert torch.equal(rolled, IMAGES)

@pytest.mark.parametrize('task', ['roll', 'places', 'rotate', 'flip', 'repeat', 'patches'])
def test_the_order_says_where_each_patch_comes_from(task):
    "Patches of one colour each: the change must be the order, and a head that follows it gets all of the share."
    order, change = order_of(task), PARTS[task] if task in PARTS else get_task(task).apply
    colours = torch.rand(16).view(1, 1, 4, 1, 4, 1).expand(1, 3, 4, 8, 4, 8)
    assert torch.equal(to_patches(change(from_patches(colours), None))[0, 0, :, 0, :, 0].flatten(), colours[0, 0, :, 0, :, 0].flatten()[order])
    seen = Attention(torch.full((1, 2, 3, 17, 17), 1e-9), None)
    seen.maps[0, 1, 2, torch.arange(1, 17), 1 + order] = 1
    share = share_on(seen, order)
    assert share[1, 2] > .999 and torch.allclose(share[0], torch.tensor(1 / 16))

def test_parts_are_tasks_inside_alone():
    known = list(TASKS)
    with pytest.raises(RuntimeError), with_parts():
        assert torch.equal(make_pairs(IMAGES, 'roll').target, roll_patches(IMAGES))
        raise RuntimeError
    assert list(TASKS) == known

def test_a_run_is_measured_and_kept(tmp_path):
    from lm4lv.core.loop import FitConfig
    from lm4lv.training.trainer import TrainConfig, train
    with with_parts():
        train(TrainConfig(tasks=('roll',), init='native', fit=FitConfig(steps=2, batch=2, log_every=1, warmup=1)), tmp_path/'run', progress=False)
    run = add_run(tmp_path/'r.json', 'roll', tmp_path/'run', 'builtin', count=2, crops=1)['roll']
    assert run == json.loads((tmp_path/'r.json').read_text())['roll'] and (tmp_path/'r'/'roll.png').exists()
    assert run['samples'] == 4 and run['n'] == 2 and len(run['share']) == 24 and len(run['map']) == 16
    assert 5 < run['mean_colour'] < run['ceiling']['psnr'] and [samples for samples, _ in run['log']] == [2, 4]
