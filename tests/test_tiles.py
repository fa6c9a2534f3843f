import pytest
import torch
from lm4lv.model.generation import restore
from lm4lv.app.tiles import Tiles, Whole, count_tiles, cut, in_tiles, restore_large, restore_pictures, tile_starts

def field(*shape): return torch.rand(shape, generator=torch.Generator().manual_seed(0))

@pytest.mark.parametrize('overlap', [0, 1, 8, 15])
def test_tiles_cover_every_pixel_and_stay_inside(overlap):
    for length in range(16, 120):
        starts = tile_starts(length, 16, overlap)
        covered = {p for s in starts for p in range(s, s + 16)}
        assert covered == set(range(length)) and starts == sorted(set(starts))
        assert all(b - a <= 16 - overlap for a, b in zip(starts, starts[1:]))

def test_a_side_below_a_tile_has_one_tile(): assert tile_starts(10, 16, 8) == tile_starts(16, 16, 8) == [0]

@pytest.mark.parametrize('overlap', [-1, 16, 40])
def test_an_overlap_that_leaves_no_step_is_refused(overlap):
    with pytest.raises(ValueError, match=f'overlap {overlap}: expected 0 to 15'): tile_starts(100, 16, overlap)

@pytest.mark.parametrize('height,width', [(16, 16), (8, 8), (1, 1), (40, 50), (17, 16), (9, 100), (61, 33)])
@pytest.mark.parametrize('overlap', [None, 0, 5, 12])
def test_tiles_that_come_back_unchanged_give_the_picture_bit_by_bit(tiny, height, width, overlap):
    image = field(3, height, width)
    assert torch.equal(restore_large(tiny, image, 'denoise', overlap, through=lambda x: x), image)
    assert len(Tiles(image, 16, overlap)) == count_tiles(width, height, 16, overlap)

@pytest.mark.parametrize('overlap', [0, 4, 9])
def test_a_constant_shift_gives_no_seam(tiny, overlap):
    image = field(3, 45, 61) * .5
    shifted = restore_large(tiny, image, 'denoise', overlap, through=lambda x: x + .25)
    torch.testing.assert_close(shifted, image + .25, atol=1e-6, rtol=0)

def test_tiles_are_blended_without_a_seam(tiny):
    "Tiles of two greys: along the overlap the picture goes from one to the other in small steps."
    grey = lambda tiles: [torch.full_like(t, float(i)) for i, t in enumerate(tiles)]
    line = restore_large(tiny, torch.zeros(3, 16, 24), 'denoise', overlap=8, through=grey)[0, 8]
    assert (line[:8] == 0).all() and (line[16:] == 1).all()
    steps = line[7:17].diff()
    assert (steps > 0).all() and steps.max() < 0.2

def test_a_picture_of_the_models_size_is_restored_in_one_piece(tiny):
    image = field(3, 16, 16)
    torch.testing.assert_close(restore_large(tiny, image, 'denoise'), restore(tiny, image[None], 'denoise')[0], atol=1e-5, rtol=1e-5)

def test_a_large_picture_keeps_its_size_and_range(tiny):
    out = restore_large(tiny, field(3, 21, 35), 'denoise')
    assert out.shape == (3, 21, 35) and 0 <= out.min() and out.max() <= 1

def test_the_blend_equals_a_weighted_mean_done_the_slow_way(tiny):
    image, made = field(3, 37, 29), {}
    def through(tiles):
        made['tiles'] = field(*tiles.shape).flip(-1)
        return made['tiles']
    found = restore_large(tiny, image, 'denoise', 6, through)
    ramp = torch.tensor([min(i + 1, 16 - i, 7) / 7 for i in range(16)])
    total, weights = torch.zeros(3, 37, 29), torch.zeros(37, 29)
    places = [(y, x) for y in tile_starts(37, 16, 6) for x in tile_starts(29, 16, 6)]
    for (y, x), tile in zip(places, made['tiles']):
        for i in range(16):
            for j in range(16):
                total[:, y + i, x + j] += ramp[i] * ramp[j] * tile[:, i, j]
                weights[y + i, x + j] += ramp[i] * ramp[j]
    torch.testing.assert_close(found, total / weights, atol=1e-5, rtol=0)

# as a whole

@pytest.mark.parametrize('task', ['flip', 'rotate'])
def test_a_spatial_task_in_tiles_is_refused(tiny, task):
    with pytest.raises(ValueError, match=f"'{task}'.*--whole"): restore_large(tiny, field(3, 40, 40), task)

def test_repetition_can_be_done_in_tiles(): assert in_tiles('repeat') and in_tiles('derain') and not in_tiles('rotate')

def test_a_whole_picture_comes_back_at_its_own_size(tiny):
    image = field(3, 40, 24)
    assert restore_large(tiny, image, 'flip', whole=True).shape == (3, 40, 24)
    assert restore_large(tiny, image, 'rotate', whole=True, through=lambda x: x.rot90(1, (-2, -1))).shape == (3, 24, 40)

def test_a_whole_picture_of_the_models_size_is_not_resampled():
    image = field(3, 16, 16)
    canvas = Whole(image, 16)
    canvas.add(0, canvas[0])
    assert torch.equal(canvas.picture(), image)

def test_a_whole_smooth_picture_keeps_its_geometry():
    ramp = torch.linspace(0, 1, 64).expand(3, 48, 64)
    (_, turned), = restore_pictures([(0, cut(ramp, 'rotate', 32, whole=True))], lambda x: x.rot90(1, (-2, -1)))
    torch.testing.assert_close(turned, ramp.rot90(1, (-2, -1)), atol=.02, rtol=0)

# many pictures

def test_batches_are_full_across_pictures_and_results_come_in_order():
    pictures, sizes, told = [field(3, 10 + 5 * i, 30) for i in range(9)], [], []
    def through(tiles):
        sizes.append(len(tiles))
        return tiles
    found = list(restore_pictures(((i, Tiles(x, 16)) for i, x in enumerate(pictures)), through, 8, told.append))
    assert [i for i, _ in found] == list(range(9)) and all(torch.equal(x, pictures[i]) for i, x in found)
    assert set(sizes[:-1]) == {8} and 0 < sizes[-1] <= 8 and told == sizes
    assert sum(sizes) == sum(count_tiles(30, 10 + 5 * i, 16) for i in range(9))

def test_pictures_are_opened_when_they_are_needed():
    opened, done = [], []
    def pictures():
        for i in range(20):
            opened.append(i)
            yield i, Tiles(field(3, 16, 16), 16)
    for i, _ in restore_pictures(pictures(), lambda x: x, batch_size=4):
        done.append(i)
        assert len(opened) - len(done) < 4
    assert done == list(range(20))

def test_no_pictures_are_no_error(): assert list(restore_pictures([], lambda x: x)) == []
