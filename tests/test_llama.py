"Our own layers against transformers' and against finite differences."
import pytest
import torch
from lm4lv.llm.llama import Cache, LlamaDecoder, FrozenLinear, _Attend, _Gate, _Norm, _Split, causal_mask
from families import tiny_llm

CLOSE = dict(atol=1e-5, rtol=1e-4)

@pytest.fixture(scope='module')
def base(tokenizer): return tiny_llm('llama', tokenizer).requires_grad_(False).model

@pytest.fixture
def vectors(): return torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))

@pytest.fixture(params=[0, 3])
def padding(request): # mask and positions; the first sample begins with so much padding
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, :request.param] = False
    return mask, (mask.long().cumsum(1) - 1).clamp_min(0)

@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)

@pytest.mark.parametrize('rows', [(1,), (1, 1), (2, 5), (3, 50)])
def test_a_product_shared_out_among_threads_is_the_product(two_threads, rows):
    weight, x = torch.randn(96, 32), torch.randn(*rows, 32)
    product = FrozenLinear(weight)
    assert product.parts is not None
    with torch.no_grad(): torch.testing.assert_close(product(x), x @ weight.T, **CLOSE)

def test_a_product_that_cannot_be_shared_evenly_is_left_whole(two_threads):
    weight, x = torch.randn(97, 32), torch.randn(3, 32)
    assert FrozenLinear(weight).parts is None
    torch.testing.assert_close(FrozenLinear(weight)(x), x @ weight.T, **CLOSE)

def test_the_shared_product_is_the_weights_themselves(two_threads):
    weight = torch.randn(96, 32)
    assert FrozenLinear(weight).parts.data_ptr() == weight.data_ptr()

def gradient(forward, x, grad):
    x = x.clone().requires_grad_()
    forward(x).backward(grad)
    return x.grad

def test_gradients_are_those_of_transformers(base, vectors):
    grad = torch.randn(2, 9, 64)
    ours = gradient(LlamaDecoder(base), vectors, grad)
    theirs = gradient(lambda x: base(inputs_embeds=x).last_hidden_state, vectors, grad)
    torch.testing.assert_close(ours, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=1e-3)

def test_gradients_after_a_cached_prefix_are_those_of_the_whole(base, vectors):
    layers, grad, cache = LlamaDecoder(base), torch.randn(2, 5, 64), Cache()
    with torch.no_grad(): layers(vectors[:, :4], cache=cache)
    part = gradient(lambda x: layers(x, cache=cache), vectors[:, 4:], grad)
    whole = gradient(lambda x: layers(torch.cat([vectors[:, :4], x], 1))[:, 4:], vectors[:, 4:], grad)
    torch.testing.assert_close(part, whole, atol=1e-5 * whole.abs().max().item(), rtol=1e-3)

def test_wanted_positions_are_those_of_all(base, vectors, padding):
    mask, positions = padding
    mask = None if mask.all() else mask
    layers, only = LlamaDecoder(base), torch.tensor([4, 8])
    torch.testing.assert_close(layers(vectors, mask, positions, only=only), layers(vectors, mask, positions)[:, only], **CLOSE)
    ours, all_ = (gradient(f, vectors, torch.ones(2, 2, 64)) for f in (
        lambda x: layers(x, mask, positions, only=only), lambda x: layers(x, mask, positions)[:, only]))
    torch.testing.assert_close(ours, all_, atol=1e-5 * all_.abs().max().item(), rtol=1e-3)

def double(*shape): return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

def test_each_backward_pass_is_that_of_finite_differences():
    rotary = torch.randn(5, 4, dtype=torch.float64)
    cos, sin = rotary.cos().repeat(1, 2), torch.cat([-rotary.sin(), rotary.sin()], 1)
    assert torch.autograd.gradcheck(lambda x: _Norm.apply(x, torch.arange(6.).double(), 1e-5), double(2, 3, 6))
    assert torch.autograd.gradcheck(lambda x: _Split.apply(x, cos, sin, 3, 1), double(2, 5, 40))
    assert torch.autograd.gradcheck(_Gate.apply, double(2, 3, 8))

@pytest.mark.parametrize('rows', [1, 2])
def test_attention_with_shared_keys_is_torchs_and_so_is_its_backward_pass(rows):
    seen = torch.ones(3, 5, dtype=torch.bool).tril(2).expand(rows, 1, 3, 5).clone()
    seen[-1, :, :, 0] = rows == 1 # one sample is padded
    mask = torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, float('-inf'))
    q, k, v = double(2, 4, 3, 6), double(2, 2, 5, 6), double(2, 2, 5, 6)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
    torch.testing.assert_close(_Attend.apply(q, k, v, mask), theirs)
    assert torch.autograd.gradcheck(lambda q, k, v: _Attend.apply(q, k, v, mask), (q, k, v))

@pytest.mark.parametrize('parts', [[9], [1] * 9, [4, 1, 4], [1, 8]])
def test_a_cache_holds_what_was_put_in_however_it_came(parts):
    x, cache = torch.randn(2, 3, 9, 4), Cache()
    with torch.no_grad():
        for part in x.split(parts, 2): keys, values = cache.update(part, -part, 0)
    assert torch.equal(keys, x) and torch.equal(values, -x) and cache.length == 9

def test_a_cache_never_writes_to_what_was_handed_in():
    prefix = torch.randn(1, 3, 4, 2)
    before, cache = prefix.clone(), Cache()
    with torch.no_grad():
        cache.update(prefix.expand(5, -1, -1, -1), prefix.expand(5, -1, -1, -1), 0)
        for _ in range(3): cache.update(torch.randn(5, 3, 1, 2), torch.randn(5, 3, 1, 2), 0)
    assert torch.equal(prefix, before)

def test_a_cache_copies_each_position_a_few_times_at_most():
    cache, copied = Cache(), 0
    with torch.no_grad():
        for n in range(1, 513):
            cache.update(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), 0)
            here = cache.rows[0][0].shape[2]
            copied, room = (copied + n, here) if n == 1 or here != room else (copied, room)
    assert copied < 3 * 512

def test_every_row_of_a_mask_sees_something():
    mask = torch.tensor([[False, False, True, True]])
    seen = causal_mask(4, 0, mask, torch.zeros(1))
    assert (seen == 0).any(-1).all() and seen[0, 0, 3].tolist()[2:] == [0, 0] and seen[0, 0, 3, 0] == float('-inf')

def test_a_model_with_lora_or_biases_runs_through_transformers(tokenizer):
    model = tiny_llm('llama', tokenizer)
    assert LlamaDecoder.fits(model.model)
    model.model.layers[0].self_attn.q_proj = torch.nn.Sequential(model.model.layers[0].self_attn.q_proj)
    assert not LlamaDecoder.fits(model.model)
    assert not LlamaDecoder.fits(tiny_llm('qwen2', tokenizer).model)

def test_bfloat16_gradients_are_near_those_of_float32(tokenizer, vectors):
    model = tiny_llm('llama', tokenizer).requires_grad_(False).model
    grad = torch.randn(2, 9, 64)
    exact = gradient(LlamaDecoder(model), vectors, grad)
    rounded = gradient(LlamaDecoder(model.to(torch.bfloat16)), vectors.bfloat16(), grad.bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(exact.flatten(), rounded.float().flatten(), dim=0) > 0.999

def test_bfloat16_written_one_by_one_is_near_float32_read_whole(tokenizer, vectors, padding):
    mask, positions = padding
    model, cache = tiny_llm('llama', tokenizer).requires_grad_(False).model, Cache()
    exact = LlamaDecoder(model)(vectors, mask, positions)
    layers = LlamaDecoder(model.to(torch.bfloat16))
    with torch.no_grad():
        parts = [layers(vectors[:, a:b].bfloat16(), None if mask.all() else mask[:, :b], positions[:, a:b], cache) for a, b in ((0, 5), (5, 6), (6, 9))]
    whole = torch.cat(parts, 1)
    assert whole.dtype == torch.bfloat16 and len(cache.rows) == len(model.layers)
    assert torch.nn.functional.cosine_similarity(exact[mask].flatten(), whole[mask].float().flatten(), dim=0) > 0.999
