import json
import numpy as np
import pytest
import torch
from PIL import Image
from lm4lv.core.io import write_json
from lm4lv.images.classical import CLASSICAL, classical
from lm4lv.images.degradations import make_pairs, sample_params
from lm4lv.images.metrics import psnr
from lm4lv.images.photos import to_tensor
from lm4lv.evaluation.restoration import (LEVELS, ROWS, SHEET, by_strength, contact_sheet, differences, emission_rate, evaluate, evaluate_task,
    evaluation_seeds, gains, perceptual, plot_by_strength, plot_figure_3, plot_quality, rows_of, strength_curve, summary, table, task_pictures)

@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3): Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(tmp_path/f'{i}.png')
    return tmp_path

def field(*shape): return torch.rand(shape, generator=torch.Generator().manual_seed(0))

# reports

KEYS = {'psnr', 'psnr_ci', 'ssim', 'ssim_ci'}

def test_a_report_is_json_with_all_rows(tiny, folder):
    report, shown = evaluate(tiny, str(folder), count=6, crops=2, seed=3, free=2)
    report = json.loads(json.dumps(report, allow_nan=False))
    assert report['seed'] == 3 and set(report['tasks']) == {'denoise', 'flip'}
    for task, rows in report['tasks'].items():
        assert rows['n'] == 6 and rows['img_emission_n'] == 2 and 0 <= rows['img_emission_rate'] <= 1
        assert all(KEYS <= set(rows[row]) for row in ('degraded', 'mae_r', 'lm4lv', 'ceiling')) and rows['photographs'] == 3
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
    assert all(ROWS[row] in lines[0] for row in rows_of(report)) and set(ROWS) - set(rows_of(report)) <= {'specialist'} and lines[2].startswith('| denoise |')
    assert f"{report['tasks']['denoise']['lm4lv']['psnr']:.2f}" in lines[2]

@pytest.mark.parametrize('scale', [1, 2])
def test_a_contact_sheet_has_four_labelled_rows_for_each_task(tiny, folder, scale):
    _, shown = evaluate(tiny, str(folder), count=3, free=0)
    sheet, side, title = contact_sheet(shown, columns=2, scale=scale), 18 * scale, 28 # letters of 14 pixels under a task's name
    assert sheet.height == 2 * (title + 4 * side) and sheet.width > 2 * side
    labels, pictures = to_tensor(sheet)[:, :, :-2 * side], to_tensor(sheet)[:, :, -2 * side:]
    for i, task in enumerate(shown):
        top = i * (title + 4 * side)
        assert labels[:, top:top + title].min() < .2, 'the name stands above the pictures'
        for j, row in enumerate(SHEET):
            line = slice(top + title + j * side, top + title + (j + 1) * side)
            assert labels[:, line].min() < .2, f'{task}: the row {row} has no label'
            drawn = pictures[:, line][:, scale:-scale, scale:side - scale][:, ::scale, ::scale]
            torch.testing.assert_close(drawn, shown[task][row][0].clamp(0, 1), atol=1 / 255, rtol=0)

# classical, intervals and differences

def test_the_classical_row_is_that_of_the_method_that_was_chosen(tiny):
    photos = field(3, 3, 16, 16)
    rows, shown = evaluate_task(tiny, photos, 'denoise')
    assert rows['classical']['method'] == CLASSICAL['denoise'] and torch.equal(shown['classical'], classical(shown['degraded'], 'denoise'))

@pytest.mark.parametrize('there', [True, False])
def test_a_published_denoiser_has_a_row_where_its_weights_are_at_hand(tiny, folder, monkeypatch, there):
    import lm4lv.evaluation.restoration as evaluation
    monkeypatch.setattr(evaluation, 'ffdnet_at_hand', lambda: there)
    monkeypatch.setattr(evaluation, 'blind_ffdnet', lambda x: (x + .01).clamp(0, 1))
    report, shown = evaluate(tiny, str(folder), count=3, free=0)
    denoise = report['tasks']['denoise']
    assert ('specialist' in denoise) == ('lm4lv_minus_specialist' in denoise['differences']) == ('FFDNet' in table(report)) == there
    assert 'specialist' not in report['tasks']['flip']
    if there:
        made = psnr((shown['denoise']['degraded'] + .01).clamp(0, 1), shown['denoise']['target']).mean().item()
        assert abs(denoise['specialist']['psnr'] - made) < 1e-4 and 'FFDNet' in denoise['specialist']['method']

def test_a_spatial_task_has_no_classical_row_and_closes_no_gap(tiny):
    rows, shown = evaluate_task(tiny, field(2, 3, 16, 16), 'flip')
    assert 'classical' not in rows and 'closed' not in rows and 'lm4lv_minus_classical' not in rows['differences']

def test_intervals_are_over_photographs(tiny, folder):
    report, shown = evaluate(tiny, str(folder), ['denoise'], count=6, crops=2, free=0)
    from scipy.stats import t
    means = psnr(shown['denoise']['degraded'], shown['denoise']['target']).double().view(3, 2).mean(1)
    assert abs(report['tasks']['denoise']['degraded']['psnr_ci'] - t.ppf(.975, 2) * means.std().item() / 3 ** .5) < 1e-6

def test_copies_of_crops_make_no_interval_narrower():
    target, written, given = field(8, 3, 16, 16), field(8, 3, 16, 16).flip(0), field(8, 3, 16, 16).flip(-1)
    twice = lambda x: x.repeat_interleave(2, 0)
    once = differences(dict(target=target, lm4lv=written, mae_r=given), torch.arange(8))
    both = differences(dict(target=twice(target), lm4lv=twice(written), mae_r=twice(given)), twice(torch.arange(8)))
    assert abs(once['lm4lv_minus_mae_r']['psnr_ci'] - both['lm4lv_minus_mae_r']['psnr_ci']) < 1e-9

def test_a_difference_is_paired():
    "Pictures that differ a lot, and a constant gain: the gain is known exactly though neither row is."
    target = torch.zeros(6, 3, 16, 16)
    error = torch.linspace(.05, .5, 6).view(-1, 1, 1, 1)
    gain = differences(dict(target=target, lm4lv=target + error / 2, mae_r=target + error), torch.arange(6))['lm4lv_minus_mae_r']
    assert abs(gain['psnr'] - 20 * np.log10(2)) < 1e-4 and gain['psnr_ci'] < 1e-4

def test_one_photograph_gives_no_interval_and_a_table_all_the_same(tiny, folder):
    report, _ = evaluate(tiny, str(folder/'0.png'), crops=2, free=1)
    assert np.isnan(report['tasks']['denoise']['lm4lv']['psnr_ci'])
    read = json.loads(json.dumps(report, allow_nan=True).replace('NaN', 'null'))
    for data in (report, read): assert '?' in table(data) and '?' in gains(data)

def test_the_summary_is_over_restoration_tasks(tiny, folder):
    report, _ = evaluate(tiny, str(folder), count=3, free=0)
    rows = report['tasks']['denoise']
    assert report['summary'] == dict(restoration_tasks=1, closed=rows.get('closed'), gain_over_mae_r=rows['differences']['lm4lv_minus_mae_r']['psnr'])
    assert summary(dict(tasks={'flip': report['tasks']['flip']}))['closed'] is None

def test_gains_say_how_often_img_was_written_of_how_many(tiny, folder):
    report, _ = evaluate(tiny, str(folder), ['denoise'], count=3, free=2)
    report['tasks']['denoise']['img_emission_rate'] = .5
    lines = gains(report).splitlines()
    assert '| 1 of 2 |' in lines[2] and len({line.count('|') for line in lines}) == 1

def test_lpips_is_measured_where_it_can_be_and_else_says_why(tiny, folder, monkeypatch):
    report, _ = evaluate(tiny, str(folder), ['denoise'], count=2, free=0)
    assert report['lpips'] == perceptual(16) != 'alex' and (perceptual() is None or 'fetch' in perceptual())
    from lm4lv.evaluation import restoration as evaluation
    monkeypatch.setattr(evaluation, 'perceptual', lambda size: None)
    monkeypatch.setattr(evaluation, 'lpips', lambda a, b, fetch: (a - b).abs().mean((1, 2, 3)))
    report, shown = evaluate(tiny, str(folder), ['denoise'], count=2, free=0)
    row = report['tasks']['denoise']['lm4lv']
    assert report['lpips'] == 'alex' and abs(row['lpips'] - (shown['denoise']['lm4lv'] - shown['denoise']['target']).abs().mean()) < 1e-5
    assert f"/ {row['lpips']:.3f}" in table(report)

def test_figure_3_has_a_line_for_each_task(tiny, folder):
    _, shown = evaluate(tiny, str(folder), count=3, free=0)
    figure = plot_figure_3(shown, photographs=2)
    assert len(figure.axes) == 2 * 2 * 5 and {a.get_ylabel() for a in figure.axes} == {'', 'denoise', 'flip'}
    assert [a.get_title() for a in figure.axes][:10] == 2 * ['input', 'classical', 'MAE-r', 'LM4LV', 'target'] and not any(a.get_title() for a in figure.axes[10:])

def test_a_model_for_each_task_is_evaluated_as_one_for_all_is(tiny, folder):
    one, _ = evaluate(tiny, str(folder), count=3, free=0)
    each, _ = evaluate({'denoise': tiny, 'flip': tiny}, str(folder), count=3, free=0)
    assert one == each

def test_vision_modules_of_two_sizes_are_not_measured_on_one_set_of_crops(tiny, folder):
    from types import SimpleNamespace
    other = SimpleNamespace(vision=SimpleNamespace(image_size=32), llm=tiny.llm)
    with pytest.raises(ValueError, match='flip: its vision module sees 32 pixels'): evaluate({'denoise': tiny, 'flip': other}, str(folder), count=3, free=0)

def test_the_share_closed_is_of_the_gap_between_mae_r_and_the_ceiling(tiny, monkeypatch):
    "A vision module that loses nothing, and a model that leaves a tenth of the fault: 20 dB better than the input, whatever the ceiling."
    from lm4lv.evaluation import restoration as evaluation
    monkeypatch.setattr(tiny.vision, 'forward', lambda x: x)
    photos = .3 + .4 * field(4, 3, 16, 16)
    pairs = make_pairs(photos, 'denoise', evaluation_seeds(0, 4))
    monkeypatch.setattr(evaluation, 'restore', lambda model, images, task: list(photos + .1 * (pairs.input - photos)))
    rows, _ = evaluate_task(tiny, photos, 'denoise')
    assert abs(rows['differences']['lm4lv_minus_mae_r']['psnr'] - 20) < .01
    assert abs(rows['closed'] - 20 / (100 - rows['mae_r']['psnr'])) < 1e-3

def test_no_share_is_said_to_be_closed_where_there_is_nothing_to_close(tiny, folder):
    "The tiny vision module draws the same grey whatever it sees."
    report, _ = evaluate(tiny, str(folder), ['denoise'], count=3, free=0)
    rows = report['tasks']['denoise']
    assert ('closed' in rows) == (rows['ceiling']['psnr'] - rows['mae_r']['psnr'] > .1) and gains(report)

def test_tasks_come_in_the_books_order(tokenizer, folder):
    from lm4lv.images.degradations import TASKS
    from lm4lv.model.next_element import tiny_model
    report, _ = evaluate(tiny_model(tasks=['rotate', 'demask', 'denoise'], tokenizer=tokenizer).eval(), str(folder), count=1, free=0)
    assert list(report['tasks']) == ['denoise', 'demask', 'rotate']

# by strength

def test_damage_can_be_given_instead_of_drawn(tiny):
    photos = field(2, 3, 16, 16)
    params = [dict(seed=5, sigma=0.), dict(seed=6, sigma=.1)]
    shown = task_pictures(tiny, photos, 'denoise', params=params)
    assert torch.equal(shown['degraded'], make_pairs(photos, 'denoise', params=params).input) and torch.equal(shown['degraded'][0], photos[0])

def test_a_curve_has_the_strengths_that_were_asked_for(tiny):
    photos = .2 + .6 * field(4, 3, 16, 16)
    curve = strength_curve(tiny, photos, 'denoise', levels=(.01, .05))
    assert [point['value'] for point in curve] == [.01, .05]
    for point in curve: # noise of this size on pixels that are hardly clipped
        assert abs(point['degraded']['psnr'] + 20 * np.log10(point['value'])) < .5
        for other in ('degraded', 'mae_r'):
            assert abs(point[f'lm4lv_minus_{other}']['psnr'] - (point['lm4lv']['psnr'] - point[other]['psnr'])) < 1e-4

def test_the_same_noise_is_scaled_along_a_curve():
    drawn = [make_pairs(torch.full((1, 3, 8, 8), .5), 'denoise', params=[dict(sample_params('denoise', 7), sigma=s)]).input - .5 for s in (.01, .02)]
    torch.testing.assert_close(2 * drawn[0], drawn[1])

def test_every_restoration_task_has_strengths_that_rise():
    from lm4lv.images.degradations import TASKS
    assert list(LEVELS) == [name for name, task in TASKS.items() if not task.spatial]
    for task, (parameter, values, _, _) in LEVELS.items():
        assert parameter in sample_params(task, 0) and sorted(values) == list(values)

def test_a_spatial_task_has_no_strength(tiny):
    with pytest.raises(ValueError, match="'flip' has no strength.*denoise"): strength_curve(tiny, field(1, 3, 16, 16), 'flip')

def test_a_report_by_strength_is_json_and_can_be_drawn(tiny, folder):
    report = json.loads(json.dumps(by_strength(tiny, str(folder), count=2), allow_nan=False))
    assert list(report['tasks']) == ['denoise'] and report['n'] == report['photographs'] == 2
    assert len(plot_by_strength(report).axes) == 1

def test_the_committed_curves_are_of_all_restoration_tasks():
    from conftest import ROOT
    path = ROOT/'nbs'/'results'/'by_strength.json'
    report = json.loads(path.read_text())
    assert list(report['tasks']) == list(LEVELS) and path.stat().st_size < 60_000
    for task, curve in report['tasks'].items(): assert [point['value'] for point in curve] == pytest.approx(LEVELS[task][1])

def test_dots_are_drawn_for_restoration_tasks_only(tiny, folder):
    _, shown = evaluate(tiny, str(folder), count=3, free=0)
    axes = [axis for axis in plot_quality(shown).axes if axis.collections]
    assert [axis.get_title() for axis in axes] == ['denoise'] and all(len(dots.get_offsets()) == 3 for dots in axes[0].collections)
    with pytest.raises(ValueError, match='no restoration task'): plot_quality({'flip': shown['flip']})

@pytest.mark.parametrize('scale', ['1', 'a,b', '.5,.1', '0,1', '.1,2', 'nan,1'])
def test_a_scale_that_is_none_is_refused_before_the_work(scale):
    from lm4lv.cli import _scale
    with pytest.raises(ValueError, match=f"--scale '{scale}': expected LOW,HIGH"): _scale(scale)
    assert _scale(None) is None and _scale('0.004,.03') == (.004, .03)

def test_crops_can_be_of_the_photographs_own_pixels(tiny, folder):
    report, shown = evaluate(tiny, str(folder), ['flip'], count=3, crops=1, free=0, scale=(.28, .29)) # 16 of 30 pixels
    _, large = evaluate(tiny, str(folder), ['flip'], count=3, crops=1, free=0)
    assert report['scale'] == (.28, .29) and not torch.equal(shown['flip']['target'], large['flip']['target'])
    assert shown['flip']['target'].var() > 1.5 * large['flip']['target'].var() # noise, not its average
