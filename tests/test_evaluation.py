import json
import numpy as np
import pytest
import torch
from PIL import Image
from lm4lv.degradations import make_pairs
from lm4lv.evaluation import evaluation_seeds, ROWS, contact_sheet, emission_rate, evaluate, evaluate_task, restore_large, table, tile_starts, worst
from lm4lv.generation import restore
from lm4lv.loop import write_json
from lm4lv.metrics import psnr

@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3): Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(tmp_path/f'{i}.png')
    return tmp_path

def field(*shape): return torch.rand(shape, generator=torch.Generator().manual_seed(0))

# tiles

@pytest.mark.parametrize('overlap', [0, 1, 8])
def test_tiles_cover_every_pixel_and_stay_inside(overlap):
    for length in range(16, 120):
        starts = tile_starts(length, 16, overlap)
        covered = {p for s in starts for p in range(s, s + 16)}
        assert covered == set(range(length)) and starts == sorted(set(starts))
        assert all(b - a <= 16 - overlap for a, b in zip(starts, starts[1:]))

def test_a_side_below_a_tile_has_one_tile(): assert tile_starts(10, 16, 8) == tile_starts(16, 16, 8) == [0]

@pytest.mark.parametrize('height,width', [(16, 16), (8, 8), (40, 50), (17, 16), (9, 100), (61, 33)])
def test_tiles_that_come_back_unchanged_give_the_picture(tiny, height, width):
    image = field(3, height, width)
    torch.testing.assert_close(restore_large(tiny, image, 'denoise', through=list), image, atol=1e-6, rtol=0)

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

def test_a_spatial_task_in_tiles_is_refused(tiny):
    with pytest.raises(ValueError, match="'flip'.*16 pixels"): restore_large(tiny, field(3, 40, 40), 'flip')

# reports

KEYS = {'psnr', 'psnr_ci', 'ssim', 'ssim_ci'}

def test_a_report_is_json_with_all_rows(tiny, folder):
    report, shown = evaluate(tiny, str(folder), count=6, crops=2, seed=3, free=2)
    report = json.loads(json.dumps(report, allow_nan=False))
    assert report['seed'] == 3 and set(report['tasks']) == {'denoise', 'flip'}
    for task, rows in report['tasks'].items():
        assert rows['n'] == 6 and rows['img_emission_n'] == 2 and 0 <= rows['img_emission_rate'] <= 1
        assert all(set(rows[row]) == KEYS for row in ('degraded', 'mae_r', 'lm4lv', 'ceiling'))
        assert shown[task]['target'].shape == (6, 3, 16, 16)

def test_a_written_report_on_one_picture_is_json(tiny, folder, tmp_path):
    write_json(tmp_path/'a.json', evaluate(tiny, str(folder), count=1, free=0)[0])
    def refuse(text): raise ValueError(text)
    json.loads((tmp_path/'a.json').read_text(), parse_constant=refuse)

@pytest.mark.filterwarnings('ignore')
def test_a_broken_file_is_stepped_over_and_reported(tiny, folder):
    (folder/'1.png').write_bytes((folder/'1.png').read_bytes()[:100])
    report, _ = evaluate(tiny, str(folder), crops=1, free=0)
    assert list(report['skipped']) == [str(folder/'1.png')] and all(np.isfinite(r['lm4lv']['psnr']) for r in report['tasks'].values())

@pytest.mark.filterwarnings('ignore')
def test_no_picture_is_counted_twice_for_a_broken_one(tiny, folder):
    (folder/'1.png').write_text('')
    report, shown = evaluate(tiny, str(folder), crops=1, free=0)
    assert len({p.numpy().tobytes() for p in shown['flip']['target']}) == report['tasks']['flip']['n']

def test_an_evaluation_is_the_same_each_time(tiny, folder):
    a, b = (evaluate(tiny, str(folder), count=4, crops=2, free=0)[0] for _ in range(2))
    assert a == b

def test_no_degradation_is_tested_that_was_trained_on():
    assert min(evaluation_seeds(0, 96)) > 10**9 and max(evaluation_seeds(700, 10_000)) < 2**32 # the generator's own range

def test_the_rows_are_measured_against_the_target(tiny):
    photos = field(4, 3, 16, 16)
    rows, shown = evaluate_task(tiny, photos, 'denoise')
    pairs = make_pairs(photos, 'denoise', evaluation_seeds(0, 4))
    assert torch.equal(shown['degraded'], pairs.input) and torch.equal(shown['target'], photos)
    assert abs(rows['degraded']['psnr'] - psnr(pairs.input, photos).mean()) < 1e-4
    with torch.no_grad(): assert abs(rows['ceiling']['psnr'] - psnr(tiny.vision(photos), photos).mean()) < 1e-4

def test_a_spatial_task_is_measured_against_the_turned_picture(tiny):
    photos = field(2, 3, 16, 16)
    rows, shown = evaluate_task(tiny, photos, 'flip')
    assert torch.equal(shown['target'], photos.flip(3)) and rows['mae_r']['psnr'] == rows['ceiling']['psnr']

def test_a_task_that_the_model_lacks_is_named(tiny, folder):
    with pytest.raises(ValueError, match="'derain'.*denoise, flip"): evaluate(tiny, str(folder), ['derain'])

def test_a_negative_count_is_refused(tiny, folder):
    with pytest.raises(ValueError): evaluate(tiny, str(folder), count=-3)

def test_a_model_that_never_writes_a_picture_has_a_rate_of_zero(tiny, monkeypatch):
    scores = torch.nn.functional.one_hot(torch.tensor(tiny.llm.tokenizer.eos_token_id), len(tiny.llm.tokenizer)).float()
    monkeypatch.setattr(tiny.llm, 'logits', lambda hidden: scores.expand(len(hidden), -1))
    assert emission_rate(tiny, field(3, 3, 16, 16), 'denoise') == 0

def test_the_table_has_a_line_for_each_task(tiny, folder):
    report, _ = evaluate(tiny, str(folder), count=2, free=0)
    lines = table(report).splitlines()
    assert len(lines) == 4 and len({line.count('|') for line in lines}) == 1
    assert all(title in lines[0] for title in ROWS.values()) and lines[2].startswith('| denoise |')
    assert f"{report['tasks']['denoise']['lm4lv']['psnr']:.2f}" in lines[2]

def test_a_contact_sheet_has_four_rows_for_each_task(tiny, folder):
    _, shown = evaluate(tiny, str(folder), count=3, free=0)
    assert contact_sheet(shown, columns=2, scale=1).size == (2 * 18, 2 * 4 * 18 + 6)

def test_the_worst_pictures_come_first(tiny, folder):
    _, shown = evaluate(tiny, str(folder), count=6, crops=2, free=0)
    pictures = worst(shown['denoise'], 3)
    found = psnr(pictures['lm4lv'], pictures['target'])
    assert len(found) == 3 and (found.diff() >= 0).all() and found[0] == psnr(shown['denoise']['lm4lv'], shown['denoise']['target']).min()
