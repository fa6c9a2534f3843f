import ast, json, math, re
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from conftest import ROOT
from lm4lv.images.metrics import BEST, INCEPTION, MetricUnavailable, decibels, inception_file, mean_interval, psnr, rfid, score, ssim

@pytest.fixture
def pair():
    rng = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(3, 3, 6, 8, generator=rng), (37, 50), mode='bilinear')
    return smooth, (smooth + 0.1 * torch.randn(smooth.shape, generator=rng)).clamp(0, 1)

def numpy(image): return image.double().permute(1, 2, 0).numpy()

def test_psnr_equals_scikit_images(pair):
    for a, b, found in zip(*pair, psnr(*pair)):
        assert abs(found - peak_signal_noise_ratio(numpy(a), numpy(b), data_range=1)) < 1e-3

def test_psnr_equals_that_of_torchmetrics(pair):
    from torchmetrics.functional.image import peak_signal_noise_ratio as theirs
    torch.testing.assert_close(psnr(*pair), theirs(*pair, data_range=(0., 1.), dim=(1, 2, 3), reduction='none'), atol=1e-4, rtol=0)

def test_psnr_equals_the_formula_in_float64(pair):
    errors = [float(((numpy(a) - numpy(b)) ** 2).mean()) for a, b in zip(*pair)]
    for found, error in zip(psnr(*pair), errors): assert abs(found - 10 * math.log10(1 / error)) < 1e-4

def test_pictures_are_at_most_100_db_apart_from_perfect():
    errors = torch.tensor([1., .01, 1e-9, 1e-10, 1e-11, 0.])
    torch.testing.assert_close(decibels(errors), torch.tensor([0., 20., 90., 100., 100., 100.]))
    almost = torch.full((1, 3, 16, 16), .5)
    assert BEST == 100 and psnr(almost, almost + 1e-6).item() == 100

def sources():
    "The code of the library and of each cell of the notebooks, with the name of its file."
    for path in sorted((ROOT/'nbs').rglob('*.ipynb')):
        if '.ipynb_checkpoints' in path.parts: continue
        for cell in json.loads(path.read_text())['cells']:
            if cell['cell_type'] == 'code': yield path.name, ''.join(cell['source'])
    for path in sorted((ROOT/'lm4lv').rglob('*.py')): yield path.name, path.read_text()

def caps(code):
    "Lines on which a PSNR is cut off: psnr(...).clamp_max(60), whatever is called in between, or min(psnr(...), 60)."
    def name(node): return getattr(node, 'attr', getattr(node, 'id', ''))
    def of_psnr(node): # psnr(...), or a method of what it returns
        while isinstance(node, ast.Call):
            if name(node.func) == 'psnr': return True
            node = getattr(node.func, 'value', None)
        return False
    found = []
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call): continue
        cut = name(node.func) in ('clamp', 'clamp_max', 'clip', 'minimum') and of_psnr(getattr(node.func, 'value', None))
        smaller = name(node.func) in ('min', 'minimum') and any(map(of_psnr, node.args)) and any(isinstance(x, ast.Constant) for x in node.args)
        if cut or smaller: found.append(ast.unparse(node))
    return found

@pytest.mark.parametrize('line, found', [('x = psnr(a, b).clamp_max(60).mean()', 1), ('psnr(a, b).mean().clip(max=40)', 1), ('min(psnr(a, b).item(), 60)', 1),
    ('psnr(a.clamp(0, 1), b)', 0), ('psnr(vision(x).clamp(0, 1), y).mean()', 0), ('min(psnr(a, b), psnr(c, d))', 0)])
def test_a_cap_on_psnr_is_seen(line, found): assert len(caps(line)) == found

def test_one_rule_caps_psnr_everywhere():
    "Nowhere is a PSNR cut off at a value of its own, and few files turn an error into decibels by hand: those that explain it."
    codes = [(name, code) for name, code in sources() if not code.lstrip().startswith(('%', '!'))]
    assert len(codes) > 500
    assert [(name, found) for name, code in codes for found in caps(code)] == []
    by_hand = {name for name, code in codes if re.search(r'10 \* [^\n]*log10', code)}
    assert by_hand == {'metrics.py', '03_metrics.ipynb', '1_mae.ipynb', '04a_mae_training.ipynb', '16b_teaching.ipynb'}

def test_ssim_equals_scikit_images(pair):
    # sigma 1.5 gives both a window of 11 pixels. torchmetrics mirrors the edges and averages over all pixels,
    # scikit-image leaves out 5 at each side: so it is given pictures with 5 mirrored pixels more.
    # It works in float64 here, ours in float32, whose variances are differences of nearly equal numbers: hence 1e-4
    for a, b, found in zip(*pair, ssim(*pair)):
        a, b = (np.pad(numpy(x), ((5, 5), (5, 5), (0, 0)), mode='reflect') for x in (a, b))
        theirs = structural_similarity(a, b, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        assert abs(found - theirs) < 1e-4

def test_ssim_equals_the_formula_in_float64(pair):
    "Wang et al. (2004), filtered by SciPy: the window of 11 pixels, borders mirrored, averaged over all pixels and colours."
    from scipy.ndimage import correlate1d
    line = np.exp(-(np.arange(11) - 5.) ** 2 / (2 * 1.5 ** 2))
    line /= line.sum()
    def local(x): return correlate1d(correlate1d(x, line, 0, mode='mirror'), line, 1, mode='mirror')
    for a, b, found in zip(*pair, ssim(*pair)):
        a, b = numpy(a), numpy(b)
        ma, mb = local(a), local(b)
        va, vb, vab = local(a * a) - ma ** 2, local(b * b) - mb ** 2, local(a * b) - ma * mb
        theirs = (2 * ma * mb + 1e-4) * (2 * vab + 9e-4) / ((ma ** 2 + mb ** 2 + 1e-4) * (va + vb + 9e-4))
        assert abs(found - theirs.mean()) < 1e-4

def test_identical_pictures_have_100_db_and_an_ssim_of_1(pair):
    assert (psnr(pair[0], pair[0]) == 100).all() and torch.allclose(ssim(pair[0], pair[0]), torch.ones(3), atol=1e-6)

def test_black_against_white_has_0_db():
    assert psnr(torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)).item() == 0

def test_values_outside_of_the_range_are_clipped(pair):
    assert torch.equal(psnr(pair[0], pair[1] * 0 + 2), psnr(pair[0], torch.ones_like(pair[1])))

@pytest.mark.parametrize('metric', [psnr, ssim])
def test_a_border_is_cut_off_at_each_side(pair, metric):
    a, b = pair
    torch.testing.assert_close(metric(a, b, border=4), metric(a[..., 4:-4, 4:-4], b[..., 4:-4, 4:-4]))

@pytest.mark.parametrize('metric', [psnr, ssim])
def test_a_batch_equals_its_pictures_one_by_one(pair, metric):
    a, b = pair
    torch.testing.assert_close(metric(a, b), torch.cat([metric(a[i:i + 1], b[i:i + 1]) for i in range(3)]), atol=1e-5, rtol=1e-5)

@pytest.mark.parametrize('metric', [psnr, ssim])
def test_batches_of_unequal_shapes_are_refused(pair, metric):
    with pytest.raises(ValueError, match='one shape'): metric(pair[0], pair[1][:2])
    with pytest.raises(ValueError, match='one shape'): metric(pair[0][0], pair[1][0])

def test_ssim_of_a_picture_below_its_window_is_refused():
    with pytest.raises(ValueError, match='11 pixels a side, not 10x32'): ssim(torch.rand(1, 3, 10, 32), torch.rand(1, 3, 10, 32))

def test_an_interval_is_that_of_the_normal_approximation():
    values = torch.tensor([1., 2., 3., 4.])
    mean, half = mean_interval(values)
    assert mean == 2.5 and abs(half - 1.96 * math.sqrt(5 / 3) / 2) < 1e-9

def test_one_value_has_no_interval(): assert math.isnan(mean_interval(torch.tensor([3.]))[1])

def test_a_score_holds_the_means(pair):
    found = score(*pair)
    assert abs(found['psnr'] - psnr(*pair).mean()) < 1e-4 and abs(found['ssim'] - ssim(*pair).mean()) < 1e-4

# rFID, whose weights are not at hand: every way to be without them is an error that helps

@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    (tmp_path/'checkpoints').mkdir()
    return tmp_path/'checkpoints'/INCEPTION

def test_missing_inception_weights_name_the_file_and_the_address(hub):
    with pytest.raises(MetricUnavailable) as error: inception_file()
    assert str(hub) in str(error.value) and 'https://' in str(error.value)

def test_damaged_inception_weights_are_never_opened(hub, monkeypatch):
    hub.write_bytes(b'half of a file')
    monkeypatch.setattr(torch, 'load', lambda *args, **kwargs: pytest.fail('opened'))
    with pytest.raises(MetricUnavailable, match='damaged'): inception_file()

def test_inception_weights_that_hold_code_are_refused(hub, monkeypatch):
    import hashlib, lm4lv.images.metrics as metrics
    class Attack:
        def __reduce__(self): return (pytest.fail, ('unpickled',))
    torch.save(dict(a=Attack()), hub)
    name = f'weights-{hashlib.sha256(hub.read_bytes()).hexdigest()[:8]}.pth'
    hub.rename(hub.with_name(name))
    monkeypatch.setattr(metrics, 'INCEPTION', name)
    with pytest.raises(MetricUnavailable, match='more than tensors'): inception_file()

def test_rfid_of_too_few_pictures_is_refused(pair):
    with pytest.raises(ValueError, match='2048'): rfid(*pair)

def test_rfid_without_its_package_names_the_extra(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, 'torch_fidelity', None)
    many = torch.zeros(2049, 3, 2, 2)
    with pytest.raises(MetricUnavailable, match=r'lm4lv\[fidelity\]'): rfid(many, many)
