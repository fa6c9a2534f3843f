"Pictures as answers, and places in words: requests, what they want, and how answers are read."
import json
import pytest
import torch
from conftest import ROOT
from lm4lv.ablations.pointing import REQUESTS, Requests, answers, judge_pointing, measure_pointing, patch_means, read_place, request, shown_and_wanted, train_pointing
from lm4lv.core.loop import FitConfig
from lm4lv.images.photos import CROP_SCALE, Photos

@pytest.fixture(scope='module')
def photos(): return Photos('builtin', size=32, crops=4, scale=CROP_SCALE, random=True)

@pytest.mark.parametrize('kind', REQUESTS)
def test_what_is_wanted_marks_the_place(photos, kind):
    for cell in range(16):
        shown, wanted = shown_and_wanted(photos[cell], kind, cell)
        assert read_place(shown[None], wanted[None], kind).item() == cell
        r, c = divmod(cell, 4)
        assert ((wanted if kind == 'cover' else shown)[:, 8 * r:8 * r + 8, 8 * c:8 * c + 8] == 0).all()

def test_only_cover_tells_the_place_in_words():
    assert request('find', 3)['turns'] == request('find', 9)['turns']
    assert 'row 3, column 2' in request('cover', 9)['turns'][0][1]
    assert request('cover', 9, answered=False)['images'] == ['picture']
    assert request('paint', 3)['turns'] == request('paint', 9)['turns']
    with pytest.raises(ValueError, match='find, paint, cover'): request('erase', 0)

def test_samples_follow_from_their_index(photos):
    data = Requests(photos, 'paint', seed=1)
    assert torch.equal(data[3]['images'], data[3]['images'])
    assert data[0]['images'].shape == (2, 3, 32, 32) and len({data[i]['cell'] for i in range(20)}) > 6

def test_patches_are_averaged_in_reading_order():
    picture = torch.zeros(1, 3, 32, 32); picture[..., 8:16, 24:] = 1
    assert patch_means(picture)[0].tolist() == [float(k == 7) for k in range(16)]

def test_a_short_training_answers_and_is_measured(photos, tmp_path):
    model, log = train_pointing('paint', 'builtin', FitConfig(steps=2, batch=2, lr=1e-3, warmup=1, log_every=1), save=tmp_path/'model', progress=False)
    assert 'point' in model.tasks.names and len(log) == 2
    row, pictures = judge_pointing(model, 'paint', 'builtin', count=18, crops=6)
    assert row['n'] == 18 and pictures.shape == (3, 96, 96)
    assert 0 <= row['right']['share'] <= min(row['row']['share'], row['column']['share'])
    assert answers(model, photos[:3], 'cover', [0, 5, 9], batch_size=2).shape == (3, 3, 32, 32)

def test_a_file_of_another_run_is_refused(tmp_path):
    (tmp_path/'r.json').write_text(json.dumps(dict(settings=dict(samples=1), kinds={})))
    with pytest.raises(ValueError, match='other settings'): measure_pointing(tmp_path/'r.json', 'builtin', 'builtin')

def test_committed_results_have_all_kinds_and_their_pictures():
    folder = ROOT/'nbs'/'results'
    result = json.loads((folder/'pointing.json').read_text())
    assert set(REQUESTS) == set(result['kinds']) and all((folder/f'pointing_{kind}.png').exists() for kind in REQUESTS)
    assert all(row['n'] >= 96 for row in result['kinds'].values())
