import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.linalg import subspace_angles
from lm4lv.core.io import save_snapshot
from lm4lv.model.generation import restore
from lm4lv.evaluation.adapter_weights import (Attention, adapter_directions, attention, best_affine, diagonal_share, effective_rank, identity_share,
    leading_directions, matrices, nearest_words, norms, overlap, plot_matrices, range_angles, read_snapshot, read_snapshots, shrink, shuffled,
    shuffled_columns, spectrum, typical, walk)

@pytest.fixture
def rng(): return torch.Generator().manual_seed(0)

def pictures(n): return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(n))

# the product

def test_the_product_is_that_of_entering_and_leaving(tiny):
    features = torch.randn(5, 16)
    a = tiny.adapters
    through = a.to_vision(a.to_llm(features)) - a.to_vision(a.to_llm(torch.zeros(1, 16)))
    torch.testing.assert_close(through, features @ matrices(tiny.trained_state())['product'].T, atol=1e-5, rtol=1e-4)

def test_the_control_has_the_same_entries_elsewhere(rng):
    weight = torch.randn(30, 20, generator=rng)
    other = shuffled(weight, 1)
    assert torch.equal(other.flatten().sort().values, weight.flatten().sort().values) and not torch.equal(other, weight)
    assert torch.equal(other, shuffled(weight, 1)) and not torch.equal(other, shuffled(weight, 2))

def test_the_shares_of_a_scaled_identity_of_noise_and_of_both(rng):
    noise = torch.randn(200, 200, generator=rng)
    assert diagonal_share(0.1 * torch.eye(200)) == pytest.approx(1)
    assert diagonal_share(noise) == pytest.approx(1 / 200, rel=0.3)
    assert diagonal_share(noise + 200 ** 0.5 * torch.eye(200)) == pytest.approx(0.5, abs=0.05)

def test_shuffled_columns_keep_each_column_and_lose_the_diagonal(rng):
    matrix = torch.eye(40) + 0.01 * torch.randn(40, 40, generator=rng)
    other = shuffled_columns(matrix, 3)
    assert sorted(map(tuple, other.T.tolist())) == sorted(map(tuple, matrix.T.tolist())) and torch.equal(other, shuffled_columns(matrix, 3))
    assert diagonal_share(other) < 0.2 < 0.9 < diagonal_share(matrix)

def test_a_scaled_identity_explains_no_more_than_the_diagonal(rng):
    for seed in range(5):
        matrix = torch.randn(12, 12, generator=rng) + seed * torch.diag(torch.rand(12, generator=rng))
        best = min(((matrix - c * torch.eye(12)).square().sum() for c in torch.linspace(-6, 6, 2401)), key=float)
        assert identity_share(matrix) == pytest.approx(1 - (best / matrix.square().sum()).item(), abs=1e-4)
        assert identity_share(matrix) <= diagonal_share(matrix) + 1e-6
    with pytest.raises(ValueError, match='2, 3'): identity_share(torch.ones(2, 3))

def test_the_best_affine_map_is_that_of_scikit_learn(rng):
    from sklearn.linear_model import Ridge
    x = torch.randn(300, 7, generator=rng) + 2
    y = x @ torch.randn(7, 7, generator=rng) + torch.randn(300, 7, generator=rng)
    strength = 1e-3 * (x - x.mean(0)).square().sum(0).mean().item()
    expected = Ridge(alpha=strength).fit(x.double().numpy(), y.double().numpy())
    weight, bias = best_affine(x, y)
    torch.testing.assert_close(weight.double(), torch.from_numpy(expected.coef_), atol=1e-5, rtol=0)
    torch.testing.assert_close(bias.double(), torch.from_numpy(expected.intercept_), atol=1e-4, rtol=0)

def test_matrices_are_drawn_with_their_shares():
    figure = plot_matrices({'a': torch.eye(3), 'b': torch.ones(2, 3)})
    assert [axis.get_title() for axis in figure.axes if axis.get_title()] == ['a\n100.0% on the diagonal', 'b']

def test_the_shipped_adapters_have_a_diagonal_and_their_control_has_none():
    snapshots = read_snapshots()
    opened = matrices(snapshots[max(snapshots)])
    assert diagonal_share(opened['product']) > 2 * diagonal_share(opened['shuffled product']) and diagonal_share(opened['shuffled product']) < 0.02

# snapshots

def test_snapshots_that_training_wrote_are_read_back(tiny, tmp_path):
    for samples in (16, 0, 8): save_snapshot(tmp_path, tiny.requires_grad_(True), samples, ('adapters.', 'tasks.'))
    snapshots = read_snapshots(tmp_path/'snapshots')
    assert list(snapshots) == [0, 8, 16] and snapshots[8].keys() == tiny.trained_state().keys()
    for name, x in tiny.trained_state().items(): assert torch.equal(snapshots[8][name], x.half().float()), name

def test_a_shrunk_snapshot_is_half_as_large_and_hardly_off(tiny, tmp_path):
    state = tiny.trained_state()
    state['adapters.adapter.weight'][0] *= 1e-4 # a row of its own scale
    save_file(shrink(state), tmp_path/'samples-00000001.safetensors')
    held = read_snapshot(tmp_path/'samples-00000001.safetensors')
    for name, x in state.items():
        allowed = x.abs().amax(-1, keepdim=True) / 254 if x.ndim == 2 else x.abs() / 1000
        assert ((held[name] - x).abs() <= allowed + 1e-7).all(), name

def test_the_shipped_snapshots_end_with_the_shipped_weights_and_begin_with_none():
    import json
    from lm4lv.core.io import WEIGHTS
    snapshots, record = read_snapshots(), json.loads((WEIGHTS/'snapshots'/'training_record.json').read_text())
    assert [s['samples'] for s in record['snapshots']] == list(snapshots)
    assert sum(p.stat().st_size for p in (WEIGHTS/'snapshots').iterdir()) < 2_000_000
    for name, x in load_file(WEIGHTS/'lm4lv'/'adapters.safetensors').items():
        torch.testing.assert_close(snapshots[max(snapshots)][name], x.float(), atol=x.float().abs().max().item() / 200, rtol=0)
    first = snapshots[min(snapshots)]['adapters.adapter.weight'] # an orthogonal matrix times a number, as it was initialised
    gram = first.T @ first
    torch.testing.assert_close(gram / gram[0, 0], torch.eye(len(gram)), atol=0.02, rtol=0)

def test_a_folder_without_snapshots_says_how_to_keep_some(tmp_path):
    with pytest.raises(ValueError, match=f'{tmp_path}.*snapshot_every'): read_snapshots(tmp_path)

def test_a_damaged_snapshot_and_one_of_something_else_are_named(tmp_path):
    (tmp_path/'samples-00000001.safetensors').write_bytes(b'no tensors')
    with pytest.raises(ValueError, match='samples-00000001.*cannot be read'): read_snapshots(tmp_path)
    save_file({'adapters.adapter.weight': torch.zeros(2, 2)}, tmp_path/'samples-00000001.safetensors')
    with pytest.raises(ValueError, match='samples-00000001.*deadapter.weight is missing'): read_snapshots(tmp_path)

# directions

def test_the_effective_rank_counts_equal_directions_and_ignores_scale(rng):
    q = torch.linalg.qr(torch.randn(50, 50, generator=rng)).Q
    for k in (1, 5, 50): assert effective_rank(spectrum(7 * q[:, :k] @ q[:k])) == pytest.approx(k, rel=1e-3)

def test_angles_are_those_of_scipy(rng):
    weight, words = torch.randn(40, 12, generator=rng), torch.randn(500, 40, generator=rng)
    for k in (5, 12, 30):
        directions = leading_directions(words, k)
        expected = torch.rad2deg(torch.from_numpy(subspace_angles(weight.double().numpy(), directions.numpy()).copy())).flip(0)
        torch.testing.assert_close(range_angles(weight, directions), expected, atol=1e-4, rtol=0)

def test_leading_directions_are_where_vectors_vary(rng):
    scale = torch.ones(10); scale[[3, 7]] = 9
    directions = leading_directions(torch.randn(2000, 10, generator=rng) * scale + 5, 2)
    assert directions[[3, 7]].square().sum() > 1.98

def test_the_overlap_of_a_random_range_is_its_share_of_the_space(rng):
    directions = leading_directions(torch.randn(300, 60, generator=rng), 10)
    overlaps = [overlap(range_angles(torch.randn(60, 20, generator=rng), directions)) for _ in range(30)]
    assert sum(overlaps) / 30 == pytest.approx(1 / 3, abs=0.02)

def test_a_text_token_is_nearest_to_itself_whatever_its_length(tiny):
    ids = torch.tensor([10, 500, 7000])
    rows = nearest_words(tiny.llm, 3 * tiny.llm.embed(ids), 2)
    assert [row[0][0] for row in rows] == [tiny.llm.tokenizer.decode([i]) for i in ids.tolist()]
    assert all(row[0][1] == pytest.approx(1, abs=1e-5) and row[1][1] < row[0][1] for row in rows)

def test_typical_vectors_come_one_from_each_cluster(rng):
    centres = 20 * torch.randn(4, 6, generator=rng)
    vectors = (centres[:, None] + torch.randn(4, 25, 6, generator=rng)).flatten(0, 1)
    assert sorted((typical(vectors, 4) // 25).tolist()) == [0, 1, 2, 3]

def test_lengths_are_of_what_the_language_model_is_given(tiny):
    lengths = norms(tiny, pictures(2))
    assert list(lengths) == ['words', 'visual', '<denoise>', '<flip>']
    torch.testing.assert_close(lengths['visual'], tiny.adapters.to_llm(tiny.vision.encode(pictures(2))).norm(dim=-1).flatten())

def test_walking_nowhere_draws_the_picture_and_a_token_moves_its_patch(tiny):
    photo, direction = pictures(1), adapter_directions(tiny)[0]
    assert direction.norm() == pytest.approx(1, abs=1e-5)
    there, moved = walk(tiny, photo, direction, torch.tensor([0., 3.]))
    torch.testing.assert_close(there, tiny.vision(photo)[0].clamp(0, 1))
    one = walk(tiny, photo, direction, torch.tensor([3.]), token=2)[0]
    assert not torch.equal(one, there) and not torch.equal(one, moved)

# attention

def test_shares_of_attention_made_by_hand():
    maps = torch.zeros(1, 1, 2, 5, 5)
    maps[0, 0, 0, 1:, 1:] = torch.eye(4) * 0.1 # looks at the own patch, with a tenth of its attention
    maps[0, 0, 1, 1:, 1:] = torch.eye(4).roll(1, 1) * 0.9 # at the next one
    seen = Attention(maps, torch.zeros(1, 5, 3))
    assert seen.share().tolist() == [[1, 0]] and seen.share(1).tolist() == [[0, 1]]
    even = Attention(torch.full((1, 1, 1, 5, 5), 0.02), torch.zeros(1, 5, 3))
    for offset in range(4): assert even.share(offset).item() == pytest.approx(1 / 4)

def test_attention_is_that_of_the_run_that_wrote_the_picture(tiny):
    images, usual = pictures(2), tiny.llm.model.config._attn_implementation
    seen = attention(tiny, images, 'denoise')
    assert tiny.llm.model.config._attn_implementation == usual
    assert seen.maps.shape == (2, 2, 4, 5, 5) and (seen.maps >= 0).all() and (seen.maps.sum(-1) <= 1).all()
    drawn = tiny.vision.decode(seen.features).clamp(0, 1)
    torch.testing.assert_close(drawn, torch.stack(restore(tiny, images, 'denoise')))

def test_attention_does_not_depend_on_the_batch(tiny):
    images = pictures(3)
    together = attention(tiny, images, 'flip')
    for i in range(3): torch.testing.assert_close(together.maps[i], attention(tiny, images[i:i + 1], 'flip').maps[0], atol=1e-5, rtol=1e-4)

def test_attention_is_that_of_the_position_before_a_token_to_the_inputs_columns(tiny):
    # A picture token that is changed in the input changes what is written from there on; a later one's own vector does not.
    images = pictures(1)
    seen = attention(tiny, images, 'denoise')
    with torch.no_grad(): tiny.adapters.deadapter.weight.zero_(); tiny.adapters.deadapter.bias.fill_(0.3)
    still = attention(tiny, images, 'denoise')
    torch.testing.assert_close(still.features, torch.full_like(still.features, 0.3))
    torch.testing.assert_close(still.maps[:, :, :, 0], seen.maps[:, :, :, 0]) # the first is written before any was fed back
    assert not torch.allclose(still.maps[:, :, :, 1], seen.maps[:, :, :, 1])

def test_attention_stops_at_the_layer_that_visual_tokens_are_read_after(tokenizer):
    from lm4lv.model.next_element import tiny_model
    short = tiny_model(tokenizer=tokenizer, visual_layer=1).eval()
    assert attention(short, pictures(1), 'denoise').maps.shape == (1, 1, 4, 5, 5)
