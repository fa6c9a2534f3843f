"""Learning curves: goals, lines through the last points, and what they cannot say."""
import json, math
import pytest
import torch
from lm4lv.model.next_element import tiny_model
from lm4lv.evaluation.learning_curves import (GatedMaps, OneMap, budgets, doubling, fit_map, goal, measure_maps, measure_snapshots,
                                              plot_learning_curves, samples_needed, samples_range)

def points(*psnrs, first=1000): return [dict(samples=first * 2 ** k, psnr=p, psnr_ci=.1) for k, p in enumerate(psnrs)]

def test_goals_are_the_papers_gain_and_the_papers_distance():
    assert goal('denoise', 20, 40) == pytest.approx(20 + 26.77 - 19.96)
    assert goal('flip', 40, 40) == pytest.approx(40 + 27.28 - 29.52)
    assert goal('repeat', 40, 40) == goal('rotate', 40, 40)

def test_the_start_has_no_position_on_a_logarithmic_axis():
    slope, half, now = doubling([dict(samples=0, psnr=5., psnr_ci=1.), *points(20., 21., 22.)])
    assert (slope, now) == (pytest.approx(1), pytest.approx(22)) and half == pytest.approx(0, abs=1e-6)

def test_scatter_widens_the_interval(): assert doubling(points(20., 21.5, 21.5, 23.))[1] > .3

@pytest.mark.parametrize('few', [[], points(20.), [dict(samples=0, psnr=5., psnr_ci=1.)]])
def test_too_few_points_make_no_line(few): assert all(math.isnan(x) for x in doubling(few))

def test_a_goal_takes_as_many_doublings_as_it_is_slopes_away():
    curve = points(20., 20.5, 21., 21.5)
    assert samples_needed(curve, 23.5) == pytest.approx(8000 * 2 ** 4)
    assert samples_needed(curve, 23.5, slope=1) == pytest.approx(8000 * 2 ** 2)
    assert samples_needed(curve, 20) == 8000

def test_a_curve_that_falls_or_hardly_rises_never_meets_its_goal():
    assert samples_needed(points(23., 22., 21.), 25) == math.inf
    assert samples_needed(points(20., 20.001, 20.002), 40) == math.inf

def test_a_goal_is_a_range_as_wide_as_the_slope_is_uncertain():
    curve = points(20., 21.1, 21.9, 23.)
    slope, half, now = doubling(curve)
    low, high = samples_range(curve, 30)
    assert slope > half > 0 and low < samples_needed(curve, 30) < high
    assert (low, high) == (pytest.approx(8000 * 2 ** ((30 - now) / (slope + half))), pytest.approx(8000 * 2 ** ((30 - now) / (slope - half))))
    assert samples_range(curve, 21) == (8000, 8000), 'met already'

@pytest.mark.parametrize('curve', [points(20., 22., 20., 22.), points(20., 21.)]) # the interval includes zero, or two points give none
def test_without_a_slope_above_zero_the_range_has_no_end(curve):
    assert samples_range(curve, 30)[1] == math.inf
    run = dict(tasks=dict(denoise=dict(degraded=20., mae_r=20., ceiling=40., goal=30., points=curve)), seconds=4000)
    assert 'unbounded' in budgets(dict(runs=dict(a=run)))

@pytest.fixture(scope='module')
def measured():
    model = tiny_model()
    first = {k: v.clone() for k, v in model.trained_state().items()}
    second = {k: v + .1 * torch.randn(v.shape, generator=torch.Generator().manual_seed(0)) for k, v in first.items()}
    return model, second, measure_snapshots(model, {0: first, 64: second}, count=4, seconds=10.)

def test_a_run_is_measured_snapshot_by_snapshot(measured):
    model, last, run = measured
    assert list(run['tasks']) == ['denoise', 'flip'] and run['n'] == 4
    for task, row in run['tasks'].items():
        assert [p['samples'] for p in row['points']] == [0, 64] and 'pairs' not in row
        assert row['points'][0]['psnr'] != row['points'][1]['psnr']
    flip, denoise = run['tasks']['flip'], run['tasks']['denoise']
    assert flip['mae_r'] == flip['ceiling'] and denoise['mae_r'] != denoise['ceiling']
    assert torch.equal(model.trained_state()['adapters.adapter.weight'], last['adapters.adapter.weight'])

def test_a_run_follows_the_one_that_it_continued(measured):
    model, last, run = measured
    longer = measure_snapshots(model, {0: last, 96: last}, count=4, seconds=5., previous=run)
    for task, row in longer['tasks'].items():
        assert [(p['samples'], 'settled' in p) for p in row['points']] == [(0, False), (64, True), (160, True)]
        assert row['points'][:2] == run['tasks'][task]['points']
    assert longer['seconds'] == 15 and len(run['tasks']['flip']['points']) == 2, 'the first run stays as it was'

def test_a_run_does_not_continue_one_that_saw_other_pictures(measured):
    model, last, run = measured
    with pytest.raises(ValueError, match='previous: measured on other pictures'): measure_snapshots(model, {64: last}, count=3, previous=run)

def test_the_table_says_what_it_cannot_know(measured):
    report = dict(runs=dict(short=measured[2]))
    text = budgets(report)
    assert text.count('\n') == 3 and 'nan' not in text and text.count('|  |  |') == 2, 'one point makes no line'
    rising = dict(tasks=dict(denoise=dict(degraded=20., mae_r=20., ceiling=40., goal=26.81, points=points(20., 21., 22.))), seconds=4000)
    assert '+1.00 ± 0.00' in (line := budgets(dict(runs=dict(a=rising)))) and '110,000, 31.2 h' in line # 4,000 samples, 4.81 doublings
    plot_learning_curves(report)

# maps of visual tokens

def pictures(n=200):
    "Features of two kinds of pictures: faint ones, to be doubled, and strong ones, to be left as they are."
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(n, 4, 6, generator=rng) * torch.where(torch.arange(n) % 2 == 0, 1., 3.)[:, None, None]
    return x, torch.where((torch.arange(n) % 2 == 0)[:, None, None], 2 * x, x)

def test_one_map_cannot_double_some_and_leave_others_and_a_gate_can():
    x, y = pictures()
    errors = {}
    for name, net, log_error in (('mean', OneMap(6), False), ('log', OneMap(6), True), ('gated', GatedMaps(6, 2), True)):
        fit_map(net, x, y, log_error, steps=600, lr=1e-2)
        with torch.no_grad(): errors[name] = (net(x) - y).square().mean((1, 2))
    assert errors['log'][1::2].mean() < errors['mean'][1::2].mean(), 'what is right already counts for more'
    assert errors['gated'].mean() < .2 * errors['mean'].mean()

def test_maps_begin_with_what_comes_in():
    x, _ = pictures(4)
    for net in (OneMap(6), GatedMaps(6)): assert torch.equal(net(x), x)

def test_maps_are_measured_beside_mae_r(tmp_path):
    report = measure_maps(tmp_path/'maps.json', 'builtin', 'builtin', pairs=40, steps=3, count=12, crops=2)
    kept = json.loads((tmp_path/'maps.json').read_text())
    assert [row['psnr'] for row in kept['rows']] == [row['psnr'] for row in report['rows']]
    assert kept['settings']['crops'] == 12
    for row in report['rows']: assert abs(row['psnr'] - report['mae_r'] - row['minus_mae_r']['all']['psnr']) < 1e-3
    assert 0 <= report['spared'] < 12
