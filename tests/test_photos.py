import struct, sys, types, zlib
from itertools import islice
import numpy as np
import pytest
import torch
from PIL import Image
from lm4lv.images.photos import (PhotoError, Photos, builtin_paths, crop, crop_box, folder_paths, open_photo, photo_paths, plot_pictures, to_image,
                                 to_tensor)

@pytest.fixture
def rng(): return np.random.default_rng(0)

def noise(rng, width=40, height=30): return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))

def pixels(image): return np.asarray(image)

# modes

def test_a_palette_picture_shows_its_colours(rng, tmp_path):
    image = noise(rng).quantize(16)
    image.save(tmp_path/'a.png')
    assert np.array_equal(pixels(open_photo(tmp_path/'a.png')), pixels(image.convert('RGB')))

@pytest.mark.parametrize('mode', ['RGBA', 'LA'])
def test_transparent_pixels_lie_over_white(rng, tmp_path, mode):
    image = noise(rng).convert(mode)
    image.putalpha(Image.fromarray(np.repeat(np.uint8([[0], [255]]), 40, 1).repeat(15, 0)))
    image.save(tmp_path/'a.png')
    found = pixels(open_photo(tmp_path/'a.png'))
    assert (found[:15] == 255).all() and np.array_equal(found[15:], pixels(image.convert('RGB'))[15:])

def test_a_transparent_colour_of_a_palette_lies_over_white(tmp_path):
    image = Image.new('P', (20, 20), 0)
    image.putpalette([10, 20, 30])
    image.save(tmp_path/'a.png', transparency=0)
    assert (pixels(open_photo(tmp_path/'a.png')) == 255).all()

def test_a_cmyk_picture_becomes_rgb(rng, tmp_path):
    Image.new('CMYK', (20, 20), (0, 255, 255, 0)).save(tmp_path/'a.jpg', quality=95)
    red = pixels(open_photo(tmp_path/'a.jpg')).mean((0, 1))
    assert red[0] > 240 and red[1] < 15 and red[2] < 15

def test_sixteen_bit_greys_keep_their_range(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).repeat(20).reshape(256, 20).T
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path/'a.png')
    found = pixels(open_photo(tmp_path/'a.png'))
    assert found.shape == (20, 256, 3) and np.abs(found[0, :, 0].astype(int) - np.arange(256)).max() <= 1

def test_a_dark_sixteen_bit_picture_stays_dark(tmp_path):
    Image.fromarray(np.full((20, 20), 200, np.uint16)).save(tmp_path/'a.png')
    assert pixels(open_photo(tmp_path/'a.png')).max() <= 1

def test_a_picture_of_floats_between_0_and_1_is_not_black(tmp_path):
    Image.fromarray(np.full((20, 20), 0.5, np.float32)).save(tmp_path/'a.tif')
    assert abs(int(pixels(open_photo(tmp_path/'a.tif')).mean()) - 127) <= 1

def test_a_one_bit_picture_is_black_and_white(tmp_path):
    Image.fromarray(np.arange(400).reshape(20, 20) % 2 == 0).save(tmp_path/'a.png')
    assert set(np.unique(pixels(open_photo(tmp_path/'a.png')))) == {0, 255}

def test_a_picture_that_lies_on_its_side_is_turned_upright(rng, tmp_path):
    image, exif = noise(rng), Image.Exif()
    exif[0x0112] = 6 # the camera was turned: rotate by 90 degrees clockwise to show
    image.save(tmp_path/'a.png', exif=exif)
    assert np.array_equal(pixels(open_photo(tmp_path/'a.png')), pixels(image.transpose(Image.Transpose.ROTATE_270)))

@pytest.mark.parametrize('suffix', ['gif', 'webp'])
def test_of_an_animation_the_first_frame_is_read(tmp_path, suffix):
    frames = [Image.new('RGB', (20, 20), colour) for colour in ('red', 'blue')]
    options = dict(lossless=True) if suffix == 'webp' else {}
    frames[0].save(tmp_path/f'a.{suffix}', save_all=True, append_images=frames[1:], **options)
    assert pixels(open_photo(tmp_path/f'a.{suffix}'))[0, 0].tolist() == [255, 0, 0]

# sizes

def test_a_tiny_picture_is_refused_with_its_size(rng, tmp_path):
    noise(rng, 4, 4).save(tmp_path/'a.png')
    with pytest.raises(PhotoError, match='a.png: 4x4 pixels, at least 8'): open_photo(tmp_path/'a.png')

@pytest.mark.parametrize('width,height', [(9000, 40), (40, 9000), (6000, 6000)])
def test_a_huge_picture_is_cropped(tmp_path, width, height):
    Image.new('RGB', (width, height), (0, 128, 255)).save(tmp_path/'a.jpg')
    photos = Photos(tmp_path, size=32, crops=2)
    assert torch.allclose(photos[0].mean((1, 2)), torch.tensor([0, 128, 255]) / 255, atol=0.02)
    assert photos[1].shape == (3, 32, 32) and min(photos.photo(0).size) <= 512 # what is kept in memory is small

def test_a_decompression_bomb_is_a_photo_error(rng, tmp_path):
    noise(rng).save(tmp_path/'a.png')
    data = bytearray((tmp_path/'a.png').read_bytes())
    data[16:24] = struct.pack('>II', 60000, 60000)
    data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
    (tmp_path/'a.png').write_bytes(data)
    with pytest.raises(PhotoError, match='a.png'): open_photo(tmp_path/'a.png')

# unreadable files

def lay_truncated(path, rng):
    noise(rng, 200, 200).save(path)
    path.write_bytes(path.read_bytes()[:2000])
def lay_empty(path, rng): path.write_bytes(b'')
def lay_text(path, rng): path.write_text('this is no picture')
def lay_tiny(path, rng): noise(rng, 4, 4).save(path)

BAD = [lay_truncated, lay_empty, lay_text, lay_tiny]

@pytest.mark.parametrize('lay', BAD)
def test_an_unreadable_file_is_an_error_that_names_it(rng, tmp_path, lay):
    lay(tmp_path/'a.jpg', rng)
    with pytest.raises(PhotoError) as error: open_photo(tmp_path/'a.jpg')
    assert str(tmp_path/'a.jpg') in str(error.value) and '\n' not in str(error.value)

@pytest.mark.parametrize('lay', BAD)
@pytest.mark.filterwarnings('ignore')
def test_an_unreadable_file_in_the_middle_is_stepped_over_and_named(rng, tmp_path, lay):
    for name in 'ac': noise(rng).save(tmp_path/f'{name}.png')
    lay(tmp_path/'b.jpg', rng)
    photos = Photos(tmp_path, size=16)
    assert torch.equal(photos[1], photos[2]) and not torch.equal(photos[0], photos[2])
    assert list(photos.bad) == [str(tmp_path/'b.jpg')]

@pytest.mark.filterwarnings('ignore')
def test_a_file_that_vanishes_is_stepped_over(rng, tmp_path):
    for name in 'ab': noise(rng).save(tmp_path/f'{name}.png')
    photos = Photos(tmp_path, size=16)
    (tmp_path/'b.png').unlink()
    assert torch.equal(photos[1], photos[0]) and list(photos.bad) == [str(tmp_path/'b.png')]

@pytest.mark.filterwarnings('ignore')
def test_only_unreadable_files_are_an_error(rng, tmp_path):
    for i, lay in enumerate(BAD): lay(tmp_path/f'{i}.jpg', rng)
    photos = Photos(tmp_path, size=16)
    with pytest.raises(PhotoError, match='none of the 4 pictures'): photos[0]
    assert len(photos.bad) == 4

# folders

def test_an_empty_folder_is_an_error_that_says_what_was_expected(tmp_path):
    (tmp_path/'notes.txt').write_text('')
    with pytest.raises(PhotoError, match='no pictures.*.jpg'): Photos(tmp_path)

def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(PhotoError, match='nowhere'): Photos(tmp_path/'nowhere')

def test_an_unknown_split_is_an_error():
    with pytest.raises(PhotoError, match="'other'.*test.*train"): Photos('builtin', 'other')

def test_imagenette_without_torchvision_names_the_extra():
    pytest.importorskip('platformdirs')
    try: import torchvision
    except ImportError: pass
    else: pytest.skip('torchvision is installed')
    with pytest.raises(PhotoError, match=r'lm4lv\[imagenette\]'): photo_paths('imagenette')

def test_imagenette_is_kept_in_the_cache_folder(rng, tmp_path, monkeypatch):
    class Imagenette:
        def __init__(self, root, split, size, download):
            (root/'imagenette2-320'/split).mkdir(parents=True)
            noise(rng).save(root/'imagenette2-320'/split/'a.png')
    torchvision = dict(torchvision=types.ModuleType('torchvision'), datasets=types.ModuleType('torchvision.datasets'))
    torchvision['datasets'].Imagenette = Imagenette
    monkeypatch.setitem(sys.modules, 'torchvision', torchvision['torchvision'])
    monkeypatch.setitem(sys.modules, 'torchvision.datasets', torchvision['datasets'])
    monkeypatch.setenv('LM4LV_CACHE', str(tmp_path))
    assert photo_paths('imagenette', 'test') == [tmp_path/'imagenette'/'imagenette2-320'/'val'/'a.png']

@pytest.mark.parametrize('name', ['Ü ber grün.PNG', '写真.jpeg', 'with space.webp', "it's [one].bmp", '.hidden.png'])
def test_names_of_any_kind_are_found_in_nested_folders(rng, tmp_path, name):
    folder = tmp_path/'one folder'/'zwölf'
    folder.mkdir(parents=True)
    noise(rng).save(folder/name)
    assert folder_paths(tmp_path) == [folder/name]
    assert Photos(tmp_path, size=16)[0].shape == (3, 16, 16)

def test_a_folder_that_is_named_like_a_picture_is_searched_not_opened(rng, tmp_path):
    (tmp_path/'album.jpg').mkdir()
    noise(rng).save(tmp_path/'album.jpg'/'a.png')
    assert [p.name for p in folder_paths(tmp_path)] == ['a.png']

def test_the_builtin_halves_share_no_photograph():
    train, test = ({to_tensor(open_photo(p)).numpy().tobytes() for p in builtin_paths(s)} for s in ('train', 'test'))
    assert len(train) == 4 and len(test) == 6 and not train & test

# crops

@pytest.fixture
def photos(rng, tmp_path):
    for i in range(5): noise(rng).save(tmp_path/f'{i}.png')
    return lambda **more: Photos(tmp_path, **dict(dict(split='train', size=16, seed=3), **more))

def test_crops_are_the_same_in_every_instance_and_in_any_order(photos):
    a, b = photos(), photos()
    last = [b[i] for i in reversed(range(20))][::-1]
    assert all(torch.equal(a[i], last[i]) for i in range(20))

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_crops_are_the_same_in_workers(photos, method):
    whole = torch.stack([photos()[i] for i in range(5)])
    loader = torch.utils.data.DataLoader(photos(), batch_size=2, num_workers=1, multiprocessing_context=method)
    assert torch.equal(torch.cat(list(loader)), whole)

def test_iteration_ends_after_the_last_crop(photos): assert len(list(islice(photos(), 6))) == 5

def test_every_round_cuts_another_crop(photos):
    p = photos()
    assert not torch.equal(p[0], p[5]) and not torch.equal(p[0], p[10])

def test_the_seed_changes_the_crops(photos): assert not torch.equal(photos()[0], photos(seed=4)[0])

def test_the_first_test_crop_is_the_centred_square(photos):
    p = photos(split='test', crops=3)
    image = p.photo(3)
    square = image.crop((5, 0, 35, 30)).resize((16, 16), Image.Resampling.BICUBIC)
    inside = slice(2, -2) # at the edges the filter sees what lies outside of the box
    assert (p[3] - to_tensor(square))[..., inside].abs().max() <= 1.5 / 255
    assert not torch.equal(p[3], p[4])

def test_a_limit_uses_the_first_pictures_only(photos): assert len(photos(limit=2, crops=3)) == 6

@pytest.mark.parametrize('width,height', [(9, 300), (300, 9), (50, 50)])
def test_crop_boxes_are_squares_inside_the_picture(rng, width, height):
    for _ in range(200):
        left, top, right, bottom = crop_box(width, height, rng)
        assert abs((right - left) - (bottom - top)) < 1e-9
        assert 0 <= left and 0 <= top and right <= width + 1e-9 and bottom <= height + 1e-9
        assert 0.1 - 1e-9 <= (right - left) ** 2 / min(width, height) ** 2 <= 1 + 1e-9

def test_a_picture_survives_the_way_to_a_tensor_and_back(rng):
    image = noise(rng)
    assert np.array_equal(pixels(to_image(to_tensor(image))), pixels(image))

def test_values_outside_of_the_range_are_clipped_on_the_way_back():
    assert pixels(to_image(torch.full((3, 4, 4), 1.5))).min() == 255 and pixels(to_image(torch.full((3, 4, 4), -.5))).max() == 0

def test_a_large_picture_is_scaled_without_aliasing():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    assert (crop(Image.fromarray(stripes), 32) - 0.5).abs().max() < 0.03

# grids of pictures

def test_a_grid_has_its_captions_and_row_labels():
    figure = plot_pictures(torch.rand(5, 3, 8, 8), ['a', 'b'], columns=3, rows=['upper', 'lower'])
    axes = figure.axes
    assert len(axes) == 6 and [axis.get_title() for axis in axes] == ['a', 'b', '', '', '', '']
    assert [axis.get_ylabel() for axis in axes] == ['upper', '', '', 'lower', '', '']
    assert [len(axis.images) for axis in axes] == [1, 1, 1, 1, 1, 0]

# Kodak24, from a server of our own

@pytest.fixture
def kodak(rng, tmp_path, monkeypatch):
    "A folder that a server in a process of its own hands out, with 24 pictures in it; the cache folder is another."
    import re, subprocess
    import lm4lv.images.photos as module
    served = tmp_path/'served'
    served.mkdir()
    for n in range(1, 25): noise(rng, 20 + n).save(served/f'kodim{n:02}.png')
    command = [sys.executable, '-u', '-m', 'http.server', '0', '--bind', '127.0.0.1', '--directory', str(served)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        port = re.search(r'port (\d+)', server.stdout.readline()).group(1)
        monkeypatch.setenv('LM4LV_CACHE', str(tmp_path/'cache'))
        monkeypatch.setenv('no_proxy', '127.0.0.1')
        monkeypatch.setattr(module, 'KODAK24', f'http://127.0.0.1:{port}')
        yield served
        server.kill()

def test_kodak24_is_fetched_once(kodak, tmp_path, capsys):
    paths = photo_paths('kodak24')
    assert [open_photo(p).width for p in paths] == list(range(21, 45)) and {p.parent for p in paths} == {tmp_path/'cache'/'kodak24'}
    said = capsys.readouterr().err
    assert 'kodak24' in said and '24/24' in said
    for path in kodak.iterdir(): path.unlink()
    assert photo_paths('kodak24') == paths and capsys.readouterr().err == ''

def test_an_interrupted_kodak24_goes_on_where_it_was(kodak, tmp_path):
    (kodak/'kodim20.png').rename(kodak/'later')
    with pytest.raises(PhotoError, match='kodim20.png could not be fetched.*404'): photo_paths('kodak24')
    there = sorted(p.name for p in (tmp_path/'cache'/'kodak24').iterdir())
    assert there == [f'kodim{n:02}.png' for n in range(1, 20)]
    for n in range(1, 20): (kodak/f'kodim{n:02}.png').unlink()
    (kodak/'later').rename(kodak/'kodim20.png')
    assert len(photo_paths('kodak24')) == 24

@pytest.mark.parametrize('content', [b'<html>Not here</html>', b'', 'half'])
def test_a_picture_that_does_not_decode_is_not_kept(kodak, tmp_path, content):
    first = kodak/'kodim01.png'
    first.write_bytes(first.read_bytes()[:400] if content == 'half' else content)
    with pytest.raises(PhotoError, match='kodim01.png could not be fetched.*cannot be read'): photo_paths('kodak24')
    assert list((tmp_path/'cache').rglob('*.*')) == []

def test_without_a_network_kodak24_says_where_it_can_be_put(tmp_path, monkeypatch, rng):
    import lm4lv.images.photos as module
    monkeypatch.setenv('LM4LV_CACHE', str(tmp_path))
    monkeypatch.setattr(module, 'KODAK24', 'http://127.0.0.1:9')
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with pytest.raises(PhotoError) as error: photo_paths('kodak24')
    assert f"put kodim01.png to kodim24.png into {tmp_path/'kodak24'}" in str(error.value) and '\n' not in str(error.value)
    (tmp_path/'kodak24').mkdir(exist_ok=True)
    for n in range(1, 25): noise(rng).save(tmp_path/'kodak24'/f'kodim{n:02}.png')
    assert len(photo_paths('kodak24')) == 24

def test_nothing_is_trained_on_kodak24():
    with pytest.raises(PhotoError, match='for measuring alone'): Photos('kodak24', split='train')
