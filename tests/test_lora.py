"Our layers with LoRA against peft's and transformers'."
import pytest
import torch
from lm4lv.llm.frozen import FrozenLLM
from lm4lv.llm.llama import Cache, LlamaDecoder
from lm4lv.llm.lora import LoraLinear, LoraDecoder, lora_delta
from families import tiny_llm

pytest.importorskip('peft')
ATTENTION, MLP = ('q_proj', 'k_proj', 'v_proj', 'o_proj'), ('gate_proj', 'up_proj', 'down_proj')

def make(tokenizer, targets=ATTENTION, dtype=torch.float32, std=.1):
    llm, rng = FrozenLLM(tiny_llm('llama', tokenizer).to(dtype), tokenizer, 'tiny'), torch.Generator().manual_seed(0)
    llm.add_lora(4, 8., targets)
    for name, p in llm.named_parameters():
        if 'lora_B' in name: p.data.normal_(std=std, generator=rng)
    return llm

@pytest.fixture
def vectors(): return torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(1))

def theirs(llm, vectors, **more): return llm.model.model(inputs_embeds=vectors, **more).last_hidden_state

@pytest.mark.parametrize('targets', [ATTENTION, MLP, ATTENTION + MLP, ('v_proj',), ('down_proj',), ('gate_proj', 'k_proj')])
def test_whatever_lora_stands_beside_the_numbers_are_pefts(tokenizer, vectors, targets):
    llm = make(tokenizer, targets)
    assert llm.fast and isinstance(llm.layers, LoraDecoder)
    with torch.no_grad(): found, bare = llm.hidden(vectors), LlamaDecoder.__call__(FrozenLLM(tiny_llm('llama', tokenizer), tokenizer).layers, vectors)
    torch.testing.assert_close(found, theirs(llm, vectors), atol=1e-4, rtol=1e-4)
    assert (found - bare).abs().max() > 1e-2

def test_gradients_of_input_and_thin_matrices_are_pefts(tokenizer, vectors):
    llm, grad = make(tokenizer), torch.randn(2, 9, 64)
    thin = [p.requires_grad_() for name, p in llm.named_parameters() if 'lora_' in name]
    assert len(thin) == 2 * 2 * len(ATTENTION)
    def gradients(forward):
        x = vectors.clone().requires_grad_()
        return torch.autograd.grad((forward(x) * grad).sum(), [x, *thin])
    for ours, other in zip(gradients(llm.hidden), gradients(lambda x: theirs(llm, x))):
        torch.testing.assert_close(ours, other, atol=1e-5 * other.abs().max().item(), rtol=1e-3)

def test_thin_matrices_learn_where_the_input_needs_no_gradient(tokenizer, vectors):
    llm = make(tokenizer)
    thin = [p.requires_grad_() for name, p in llm.named_parameters() if 'lora_' in name]
    llm.hidden(vectors).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in thin)

def test_a_cache_and_padding_change_nothing(tokenizer, vectors):
    llm, cache = make(tokenizer), Cache()
    with torch.no_grad():
        whole = llm.hidden(vectors)
        parts = [llm.hidden(part, cache=cache) for part in vectors.split([4, 1, 4], 1)]
        padded = torch.cat([torch.randn(2, 3, 64), vectors], 1)
        mask = torch.arange(12).expand(2, -1) >= 3
        after_padding = llm.hidden(padded, mask, (mask.long().cumsum(1) - 1).clamp_min(0))[:, 3:]
    for found in (torch.cat(parts, 1), after_padding): torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-4)

def test_bfloat16_with_float32_beside_it_is_near_peft(tokenizer, vectors):
    llm = make(tokenizer, dtype=torch.bfloat16)
    assert {p.dtype for name, p in llm.named_parameters() if 'lora_' in name} == {torch.float32}
    with torch.no_grad(): ours, other = llm.hidden(vectors), theirs(llm, vectors.bfloat16())
    assert ours.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(ours.float().flatten(), other.float().flatten(), dim=0) > .999

def test_a_plain_matrix_is_changed_by_nothing():
    assert not lora_delta(torch.nn.Linear(4, 6), torch.randn(2, 3, 4)).any()

def test_matrices_without_lora_are_plain_products(tokenizer):
    layers = make(tokenizer, ('o_proj',)).layers
    layers.fuse()
    assert [isinstance(p, LoraLinear) for p in layers.joined[0]] == [False, True, False, False]

@pytest.mark.parametrize('kind', ['dora', 'two', 'merged', 'off'])
def test_other_kinds_of_lora_run_through_transformers(tokenizer, vectors, kind):
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer
    llm = FrozenLLM(tiny_llm('llama', tokenizer), tokenizer, 'tiny')
    inject_adapter_in_model(LoraConfig(r=4, target_modules=list(ATTENTION), use_dora=kind == 'dora'), llm.model)
    if kind == 'two': inject_adapter_in_model(LoraConfig(r=2, target_modules=list(ATTENTION)), llm.model, adapter_name='second')
    for module in llm.modules():
        if isinstance(module, LoraLayer):
            if kind == 'two': module.set_adapter(['default', 'second'])
            if kind == 'merged': module.merge()
            if kind == 'off': module.enable_adapters(False)
    assert not LoraDecoder.fits(llm.model.model) and not llm.fast
    with torch.no_grad(): torch.testing.assert_close(llm.hidden(vectors), theirs(llm, vectors))

def test_the_first_layers_keep_their_lora_and_one_pass_without_order_refuses_it(tokenizer, vectors):
    from types import SimpleNamespace
    from lm4lv.ablations.language_model import first_layers, parallel
    llm = first_layers(1, make(tokenizer))
    assert llm.fast
    with torch.no_grad(): torch.testing.assert_close(llm.hidden(vectors), theirs(llm, vectors), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match='without LoRA'): parallel(True, SimpleNamespace(llm=llm), None)
