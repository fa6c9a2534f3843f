import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps
from lm4lv.app.image_files import Refused, assemble, plan, read_picture, restore_files, target_name, write_picture

SIDE, SAME = 16, lambda tiles: tiles
ORIENTATION, MAKER, EXIF, GPS = 0x0112, 0x010F, 0x8769, 0x8825

def pixels(*shape, top=256, kind=np.uint8): return np.random.default_rng(0).integers(0, top, shape, dtype=kind)

def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / width, 255 * y / height, 255 * (x + y) / (width + height)], -1).astype(np.uint8)

def tags(orientation=6, size=(30, 20)):
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKER] = orientation, 'A camera'
    exif[EXIF] = {0x9003: '2024:05:24 10:11:12', 0xA002: size[0], 0xA003: size[1], 0x920A: 35.0}
    exif[GPS] = {1: 'N', 2: (52.0, 31.0, 12.0)}
    return exif.tobytes()

def restored(source, out, through=SAME, task='denoise', **more):
    "Restore files; the messages that were said are kept with the outcome."
    messages = []
    outcome = restore_files([source] if not isinstance(source, list) else source, out, task, SIDE, through, on_message=messages.append, **more)
    outcome.messages = messages
    return outcome

def through_tool(path, tmp_path, **more):
    outcome = restored(path, tmp_path/'out', **more)
    assert not outcome.failed, outcome.failed
    return Image.open(outcome.written[0]), outcome

# pixels

@pytest.mark.parametrize('mode,suffix', [('RGB', '.png'), ('RGBA', '.png'), ('L', '.png'), ('LA', '.png'), ('RGB', '.tif'), ('RGBA', '.tiff'), ('L', '.tif')])
def test_pixels_that_are_not_changed_come_back_bit_by_bit(tmp_path, mode, suffix):
    channels = len(mode)
    values = pixels(23, 37, channels).squeeze()
    Image.fromarray(values).save(tmp_path/f'a{suffix}')
    back, _ = through_tool(tmp_path/f'a{suffix}', tmp_path)
    assert back.mode == mode and np.array_equal(np.asarray(back), values)

def test_16_bit_greys_stay_16_bit_greys(tmp_path):
    for suffix in ('.png', '.tif'):
        values = pixels(20, 30, top=65536, kind=np.uint16)
        Image.fromarray(values).save(tmp_path/f'a{suffix}')
        back, _ = through_tool(tmp_path/f'a{suffix}', tmp_path, overwrite=True)
        assert back.mode.startswith('I') and np.abs(np.asarray(back).astype(int) - values).max() <= 1 # a float32 holds 24 bits of v / 65535

def test_a_palette_becomes_colours(tmp_path):
    image = Image.fromarray(smooth(20, 30)).quantize(16)
    image.save(tmp_path/'a.png')
    back, _ = through_tool(tmp_path/'a.png', tmp_path)
    assert back.mode == 'RGB' and np.array_equal(np.asarray(back), np.asarray(image.convert('RGB')))

def test_a_palette_with_a_transparent_colour_keeps_it_transparent(tmp_path):
    image = Image.fromarray(smooth(20, 30)).quantize(16)
    image.save(tmp_path/'a.png', transparency=3)
    back, _ = through_tool(tmp_path/'a.png', tmp_path, through=lambda x: 1 - x)
    assert back.mode == 'RGBA' and np.array_equal(np.asarray(back)[..., 3], np.asarray(Image.open(tmp_path/'a.png').convert('RGBA'))[..., 3])

def test_black_and_white_becomes_grey(tmp_path):
    Image.fromarray(pixels(20, 30)).convert('1').save(tmp_path/'a.png')
    assert through_tool(tmp_path/'a.png', tmp_path)[0].mode == 'L'

def test_alpha_is_never_touched(tmp_path):
    values = pixels(20, 30, 4)
    Image.fromarray(values).save(tmp_path/'a.png')
    for more in (dict(), dict(whole=True)):
        back, _ = through_tool(tmp_path/'a.png', tmp_path, through=lambda x: 1 - x, overwrite=True, **more)
        assert np.array_equal(np.asarray(back)[..., 3], values[..., 3])

@pytest.mark.parametrize('task,move', [('flip', lambda a: a[:, ::-1]), ('rotate', lambda a: np.rot90(a))])
def test_alpha_moves_with_the_picture(tmp_path, task, move):
    values = pixels(20, 30, 4)
    Image.fromarray(values).save(tmp_path/'a.png')
    back, _ = through_tool(tmp_path/'a.png', tmp_path, task=task, whole=True)
    assert np.array_equal(np.asarray(back)[..., 3], move(values[..., 3]))

@pytest.mark.parametrize('mode', ['CMYK', 'LAB', 'HSV', 'F'])
def test_other_kinds_of_pixels_are_refused_by_name(tmp_path, mode):
    image = Image.new(mode, (20, 20))
    image.save(tmp_path/'a.tif') if mode != 'HSV' else None
    if mode == 'HSV': pytest.skip('no format holds it')
    with pytest.raises(Refused, match=f'a.tif: pictures of mode {mode} are not handled; convert'): read_picture(tmp_path/'a.tif')
    assert list(restored(tmp_path/'a.tif', tmp_path/'out').failed) == [tmp_path/'a.tif']

def test_32_bit_numbers_are_refused(tmp_path):
    Image.fromarray(np.full((20, 20), 100_000, dtype=np.int32)).save(tmp_path/'a.tif')
    with pytest.raises(Refused, match='a.tif: numbers of 32 bits'): read_picture(tmp_path/'a.tif')

def test_16_bit_colours_are_read_with_8_and_that_is_said(tmp_path):
    import struct, zlib
    rows = pixels(20, 30, 3, top=65536, kind=np.uint16).astype('>u2')
    raw = b''.join(b'\0' + row.tobytes() for row in rows)
    chunk = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    (tmp_path/'a.png').write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 30, 20, 16, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(raw)) + chunk(b'IEND', b''))
    back, outcome = through_tool(tmp_path/'a.png', tmp_path)
    assert back.mode == 'RGB' and back.size == (30, 20) and any('16 bits a colour' in m for m in outcome.messages)

# formats and names

@pytest.mark.parametrize('name,kind', [('a.jpg', 'JPEG'), ('b.JPEG', 'JPEG'), ('c d.png', 'PNG'), ('e.webp', 'WEBP'), ('f.tif', 'TIFF'), ('g.TIFF', 'TIFF')])
def test_names_and_formats_are_kept(tmp_path, name, kind):
    Image.fromarray(smooth(20, 30)).save(tmp_path/name)
    back, outcome = through_tool(tmp_path/name, tmp_path)
    assert outcome.written == [tmp_path/'out'/name] and back.format == kind and back.size == (30, 20) and outcome.messages == []

def test_a_jpeg_is_written_well(tmp_path):
    Image.fromarray(smooth(64, 64)).save(tmp_path/'a.jpg', quality=100, subsampling=0)
    before = np.asarray(Image.open(tmp_path/'a.jpg')).astype(float)
    back, _ = through_tool(tmp_path/'a.jpg', tmp_path)
    assert np.sqrt(((np.asarray(back) - before)**2).mean()) < 2

@pytest.mark.parametrize('name,kind', [('a.bmp', 'BMP'), ('a.gif', 'GIF'), ('a.ppm', 'PPM')])
def test_other_formats_become_png_and_that_is_said(tmp_path, name, kind):
    Image.fromarray(smooth(20, 30)).save(tmp_path/name, format=kind)
    back, outcome = through_tool(tmp_path/name, tmp_path)
    assert outcome.written == [tmp_path/'out'/'a.png'] and back.format == 'PNG' and any('written as PNG' in m for m in outcome.messages)

def test_the_name_decides_and_not_the_contents(tmp_path):
    Image.fromarray(smooth(20, 30)).save(tmp_path/'a.png', format='JPEG')
    assert through_tool(tmp_path/'a.png', tmp_path)[0].format == 'PNG'
    Image.fromarray(pixels(20, 30, 4)).save(tmp_path/'b.jpg', format='PNG')
    back, outcome = through_tool(tmp_path/'b.jpg', tmp_path)
    assert outcome.written == [tmp_path/'out'/'b.png'] and back.mode == 'RGBA' and 'no transparency' in outcome.messages[0]

def test_of_an_animation_the_first_picture_is_restored_and_that_is_said(tmp_path):
    frames = [Image.fromarray(smooth(20, 30)), Image.fromarray(255 - smooth(20, 30))]
    frames[0].save(tmp_path/'a.webp', save_all=True, append_images=frames[1:], lossless=True)
    back, outcome = through_tool(tmp_path/'a.webp', tmp_path)
    assert np.abs(np.asarray(back).astype(int) - smooth(20, 30)).mean() < 8 and any('first of its 2' in m for m in outcome.messages)

# what comes along

@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif'])
@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_a_picture_that_lies_on_its_side_is_turned_once(tmp_path, suffix, orientation):
    Image.fromarray(smooth(20, 30)).save(tmp_path/f'a{suffix}', exif=tags(orientation))
    upright = ImageOps.exif_transpose(Image.open(tmp_path/f'a{suffix}'))
    back, _ = through_tool(tmp_path/f'a{suffix}', tmp_path)
    assert back.getexif().get(ORIENTATION) == 1
    shown = ImageOps.exif_transpose(back)
    assert shown.size == upright.size and np.abs(np.asarray(shown).astype(int) - np.asarray(upright)).mean() < 4

@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif'])
def test_exif_is_kept_and_says_the_new_size(tmp_path, suffix):
    Image.fromarray(smooth(20, 30)).save(tmp_path/f'a{suffix}', exif=tags(6))
    exif = through_tool(tmp_path/f'a{suffix}', tmp_path)[0].getexif()
    inner = exif.get_ifd(EXIF)
    assert exif[MAKER] == 'A camera' and inner[0x9003] == '2024:05:24 10:11:12' and float(inner[0x920A]) == 35
    assert (inner[0xA002], inner[0xA003]) == (20, 30) # turned
    assert exif.get_ifd(GPS)[1] == 'N' and [float(x) for x in exif.get_ifd(GPS)[2]] == [52, 31, 12]

def test_a_picture_without_notes_gets_none(tmp_path):
    Image.fromarray(smooth(20, 30)).save(tmp_path/'a.jpg')
    assert len(through_tool(tmp_path/'a.jpg', tmp_path)[0].getexif()) == 0

@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif'])
def test_the_colour_profile_is_kept(tmp_path, suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    Image.fromarray(smooth(20, 30)).save(tmp_path/f'a{suffix}', icc_profile=profile)
    assert through_tool(tmp_path/f'a{suffix}', tmp_path)[0].info['icc_profile'] == profile

def test_the_resolution_is_kept(tmp_path):
    Image.fromarray(smooth(20, 30)).save(tmp_path/'a.jpg', dpi=(300, 300))
    assert through_tool(tmp_path/'a.jpg', tmp_path)[0].info['dpi'] == (300, 300)

def test_a_picture_can_be_shrunk_first(tmp_path):
    Image.fromarray(pixels(40, 60, 4)).save(tmp_path/'a.png', exif=tags(1, (60, 40)))
    back, _ = through_tool(tmp_path/'a.png', tmp_path, long_side=30)
    assert back.size == (30, 20) and back.mode == 'RGBA' and back.getexif().get_ifd(EXIF)[0xA002] == 30

# folders

@pytest.fixture
def album(tmp_path):
    for name in ('one.png', 'inner/one.png', 'inner/deep/two.jpg'):
        path = tmp_path/'album'/name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(smooth(20, 30)).save(path)
    return tmp_path/'album'

def files(folder): return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())

def test_inner_folders_are_kept(album, tmp_path):
    assert not restored(album, tmp_path/'out').failed
    assert files(tmp_path/'out') == ['inner/deep/two.jpg', 'inner/one.png', 'one.png']

def test_a_result_folder_inside_is_not_restored_again(album):
    restored(album, album/'restored')
    outcome = restored(album, album/'restored', overwrite=True)
    assert len(outcome.written) == 3 and files(album/'restored') == ['inner/deep/two.jpg', 'inner/one.png', 'one.png']

def test_nothing_is_overwritten_unless_told_to(album, tmp_path):
    (tmp_path/'out').mkdir()
    (tmp_path/'out'/'one.png').write_bytes(b'mine')
    outcome = restored(album, tmp_path/'out')
    assert 'one.png exists: use --overwrite' in outcome.failed[album/'one.png'] and len(outcome.written) == 2
    assert (tmp_path/'out'/'one.png').read_bytes() == b'mine'
    assert len(restored(album, tmp_path/'out', overwrite=True).written) == 3 and Image.open(tmp_path/'out'/'one.png').size == (30, 20)

def test_a_stopped_run_goes_on(album, tmp_path):
    restored(album/'inner', tmp_path/'out'/'inner')
    before = (tmp_path/'out'/'inner'/'one.png').stat().st_mtime_ns
    outcome = restored(album, tmp_path/'out', skip_existing=True)
    assert outcome.written == [tmp_path/'out'/'one.png'] and (tmp_path/'out'/'inner'/'one.png').stat().st_mtime_ns == before

@pytest.mark.parametrize('overwrite', [False, True])
def test_a_picture_that_was_given_is_never_replaced(album, overwrite):
    outcome = restored(album, album, overwrite=overwrite)
    assert not outcome.written and all('one of the pictures given' in message for message in outcome.messages)

def test_two_results_of_one_name_become_two_files(tmp_path):
    for name, kind in (('a.bmp', 'BMP'), ('a.png', 'PNG')): Image.fromarray(smooth(20, 30)).save(tmp_path/name, format=kind)
    assert not restored(tmp_path, tmp_path/'out').failed
    assert files(tmp_path/'out') == ['a.bmp.png', 'a.png']

def test_of_two_pictures_of_one_name_the_second_is_named(album, tmp_path):
    outcome = restored([album/'one.png', album/'inner'/'one.png'], tmp_path/'out')
    assert len(outcome.written) == 1 and 'two pictures would be written' in outcome.failed[album/'inner'/'one.png']

def test_a_picture_that_is_named_twice_is_restored_once(album, tmp_path):
    assert len(restored([album, album/'one.png'], tmp_path/'out').written) == 3

def test_a_bad_file_is_named_and_the_others_go_on(album, tmp_path):
    (album/'broken.jpg').write_bytes(b'no picture')
    whole = (album/'inner'/'deep'/'two.jpg').read_bytes()
    (album/'half.jpg').write_bytes(whole[:len(whole) // 2]) # its beginning can be read
    Image.new('CMYK', (20, 20)).save(album/'inks.tif')
    outcome = restored(album, tmp_path/'out')
    assert {p.name for p in outcome.failed} == {'broken.jpg', 'half.jpg', 'inks.tif'} and len(outcome.written) == 3
    assert all(any(name in m for m in outcome.messages) for name in ('broken.jpg', 'half.jpg', 'inks.tif'))
    assert len(files(tmp_path/'out')) == 3

def test_a_result_that_cannot_be_written_is_named_and_leaves_nothing_behind(album, tmp_path, monkeypatch):
    save = Image.Image.save
    def full(self, path, *rest, **more):
        save(self, path, *rest, **more)
        if 'two.jpg' in str(path): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(Image.Image, 'save', full)
    outcome = restored(album, tmp_path/'out')
    assert [p.name for p in outcome.failed] == ['two.jpg'] and 'No space left' in outcome.messages[0]
    assert files(tmp_path/'out') == ['inner/one.png', 'one.png']

def test_an_interruption_leaves_no_half_file(album, tmp_path, monkeypatch):
    def stop(self, path, *rest, **more):
        path.write_bytes(b'half')
        raise KeyboardInterrupt
    monkeypatch.setattr(Image.Image, 'save', stop)
    with pytest.raises(KeyboardInterrupt): restored(album, tmp_path/'out')
    assert files(tmp_path/'out') == []

def test_progress_counts_every_tile_also_of_files_that_fail_late(album, tmp_path):
    Image.new('CMYK', (50, 50)).save(album/'inks.tif')
    total, done = [], []
    restored(album, tmp_path/'out', on_total=total.append, on_tiles=done.append)
    assert total == [sum(done)] and total[0] > 4

def test_tiles_of_many_files_share_batches(album, tmp_path):
    sizes = []
    def through(tiles):
        sizes.append(len(tiles))
        return tiles
    restored(album, tmp_path/'out', through, batch_size=5)
    assert set(sizes[:-1]) == {5} and sum(sizes) == 3 * 2 * 3

def test_a_task_that_needs_the_whole_picture_says_so_before_it_starts(album, tmp_path):
    with pytest.raises(ValueError, match='--whole'): restored(album, tmp_path/'out', task='flip')
    with pytest.raises(ValueError, match='overlap 16'): restored(album, tmp_path/'out', overlap=16)
    assert not (tmp_path/'out').exists()

def test_missing_and_empty_folders_are_named(tmp_path):
    assert 'no such file or folder' in restored(tmp_path/'nowhere', tmp_path/'out').failed[tmp_path/'nowhere']
    (tmp_path/'empty').mkdir()
    assert 'no pictures' in restored(tmp_path/'empty', tmp_path/'out').failed[tmp_path/'empty']

@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif'])
def test_a_turned_picture_is_planned_as_it_is_restored(tmp_path, suffix):
    "Upright it is 20 pixels wide and 60 high: the tiles that are announced are those that come."
    Image.fromarray(smooth(20, 60)).save(tmp_path/f'a{suffix}', exif=tags(6))
    total, done = [], []
    back = restored(tmp_path/f'a{suffix}', tmp_path/'out', on_total=total.append, on_tiles=done.append)
    assert not back.failed and total == [sum(done)] and plan([tmp_path/f'a{suffix}'], tmp_path/'x')[0][0].size == Image.open(back.written[0]).size == (20, 60)

def test_the_results_name_follows_what_it_must_hold():
    from pathlib import Path
    assert target_name(Path('a.jpg'), False, False) == ('a.jpg', None) and target_name(Path('a.tif'), True, True) == ('a.tif', None)
    for name, alpha, deep in (('a.jpg', True, False), ('a.webp', False, True), ('a.bmp', False, False), ('a', False, False)):
        assert target_name(Path(name), alpha, deep)[0] == 'a.png'

def test_assembled_pixels_are_rounded_and_not_cut(tmp_path):
    Image.fromarray(pixels(20, 30, 3)).save(tmp_path/'a.png')
    picture = read_picture(tmp_path/'a.png')
    assert np.asarray(assemble(picture, torch.full((3, 20, 30), .999), 'denoise')).min() == 255
    write_picture(tmp_path/'b.png', assemble(picture, picture.colours, 'denoise'), picture.info)
    assert np.array_equal(np.asarray(Image.open(tmp_path/'b.png')), pixels(20, 30, 3))
