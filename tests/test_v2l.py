"The tokenizer into words: which tokens are words, whose gradient moves what, what is stored, and bad input."
import json, shutil
import pytest, torch
from lm4lv.core.loop import FitConfig
from lm4lv.images.photos import Photos
from lm4lv.llm.frozen import load_llm
from lm4lv.model.conversations import check_item
from lm4lv.model.generation import restore
from lm4lv.model.next_element import LM4LV
from lm4lv.training.trainer import TrainConfig, train
from lm4lv.vision.loading import load_vision
from lm4lv.vision.mae import VisionModule
from lm4lv.vision.v2l import (SPACE, V2LConfig, V2LNetwork, V2LObjective, V2LVision, Words, candidates, codebook_use, dry_run,
                              evaluate_words, look_up, nearest, start_linear, train_v2l)

def some_words(count=24, width=12, llm='a model'):
    rng = torch.Generator().manual_seed(0)
    texts = [f'{a}{b}{c}' for a in 'abcd' for b in 'aeiou' for c in 'xyz'][:count]
    return Words(texts, list(range(5, 5 + count)), llm, torch.randn(count, width, generator=rng))

def small_vision(words=None):
    torch.manual_seed(0)
    words = words or some_words()
    network = V2LNetwork(len(words), 12, 4, (6, 8)).finish(words.embeddings)
    return V2LVision(network, words, 16).eval().requires_grad_(False)

def test_candidates_are_lower_case_words_in_the_order_of_their_ids():
    vocabulary = {SPACE + 'tree': 9, SPACE + 'House': 1, SPACE + 'cat': 4, 'dog': 2, SPACE + 'an': 3, SPACE + "it's": 5, SPACE + 'blue': 7}
    assert candidates(vocabulary) == {'cat': 4, 'blue': 7, 'tree': 9}
    assert list(candidates(vocabulary, 2)) == ['cat', 'blue']

def test_a_codebook_of_another_vocabulary_is_refused_with_its_first_odd_word():
    words = some_words()
    vocabulary = {SPACE + text: i for text, i in zip(words.texts, words.ids)}
    words.check(vocabulary, 'the same')
    with pytest.raises(ValueError, match=r"codebook of a model: its word 'aax' is token 5, in the vocabulary of b token 6; load a model"):
        words.check({text: i + 1 for text, i in vocabulary.items()}, 'b')
    with pytest.raises(ValueError, match='in the vocabulary of c none'): words.check({}, 'c')

def test_nearest_is_the_smallest_distance():
    rng = torch.Generator().manual_seed(1)
    z, codes = torch.randn(3, 5, 4, 6, generator=rng), torch.randn(40, 5, generator=rng)
    ids = nearest(z, codes)
    slow = torch.cdist(z.permute(0, 2, 3, 1).reshape(-1, 5), codes).argmin(1).view(3, 4, 6)
    assert torch.equal(ids, slow)
    assert torch.equal(look_up(ids, codes)[1, :, 2, 3], codes[ids[1, 2, 3]])

def test_what_moves_and_what_is_frozen():
    words = some_words()
    model = V2LObjective(V2LNetwork(len(words), 12, 4, (6, 8)), words.embeddings, V2LConfig())
    model(torch.rand(2, 3, 16, 16)).backward()
    assert not words.embeddings.requires_grad
    for name in ('project', 'patches', 'pixels'): assert getattr(model.network, name).weight.grad.abs().sum() > 0, name

def test_the_adversarial_gradient_is_turned_round():
    "What the discriminator minimises, the decoder maximises."
    words, x = some_words(), torch.rand(2, 3, 16, 16)
    torch.manual_seed(0)
    model = V2LObjective(V2LNetwork(len(words), 12, 4, (6, 8)), words.embeddings, V2LConfig(adversarial=.5))
    def grad(weight):
        model.config.adversarial = weight
        model.zero_grad()
        model(x).backward()
        return model.network.pixels.weight.grad.clone(), model.judge[0].weight.grad.clone()
    (none, judge), (half, same), (whole, _) = grad(1e-9), grad(.5), grad(1.)
    assert torch.allclose(judge, same) and judge.abs().sum() > 0
    assert torch.allclose(half - none, (whole - none) / 2, atol=1e-5) and (whole - none).abs().sum() > 0

def test_starting_brings_words_nearer_to_latents():
    words = some_words(48)
    x = torch.stack([Photos('builtin', split='train', size=16)[i] for i in range(16)]) * 2 - 1
    network = V2LNetwork(48, 12, 4, (6, 8))
    errors = start_linear(network, x, words.embeddings, 6)
    assert errors[-1] < errors[0]
    network.finish(words.embeddings)
    with torch.no_grad(): z = network.encode(x)
    distance = (look_up(nearest(z, network.codes), network.codes) - z).pow(2).mean().item()
    assert distance <= errors[-1] * 1.01 # the projection is what the last round left
    with torch.no_grad(): assert (network.decode(z) - x).abs().mean() < .2 # principal components come back

def test_fewer_words_than_numbers_in_an_embedding():
    words, x = some_words(10), torch.rand(4, 3, 16, 16) * 2 - 1
    network = V2LNetwork(10, 12, 4, (6, 8))
    errors = start_linear(network, x, words.embeddings, 4)
    assert errors[-1] < errors[0] and network.finish(words.embeddings).codes.isfinite().all()

def test_it_is_a_vision_module_and_comes_back_from_its_folder(tmp_path):
    vision = small_vision()
    assert isinstance(vision, VisionModule)
    x = torch.rand(3, 3, 16, 16)
    assert vision.encode(x).shape == (3, 16, 4) and vision.read(x).shape == (3, 4, 4)
    assert torch.allclose(vision(x), vision.draw(vision.read(x)), atol=1e-6)
    vision.save_pretrained(tmp_path)
    loaded = load_vision(f'v2l:{tmp_path}')
    assert (loaded.words.texts, loaded.words.ids, loaded.words.llm) == (vision.words.texts, vision.words.ids, 'a model')
    assert loaded.words.embeddings is None
    assert (loaded.read(x) == vision.read(x)).float().mean() > .9
    assert [len(row) for row in loaded.text(loaded.read(x)[0])] == [4] * 4
    with pytest.raises(ValueError, match='without embeddings'): train_v2l(loaded.words)

def test_bad_input_is_one_clear_line(tmp_path):
    vision = small_vision()
    with pytest.raises(ValueError, match=r'takes \(B, 3, 16, 16\), not \(1, 3, 24, 24\)'): vision.read(torch.rand(1, 3, 24, 24))
    with pytest.raises(ValueError, match='no V2L Tokenizer'): load_vision(f'v2l:{tmp_path}')
    vision.save_pretrained(tmp_path)
    config = json.loads((tmp_path/'vision.json').read_text())
    (tmp_path/'vision.json').write_text(json.dumps(dict(config, words=config['words'].rpartition(' ')[0])))
    with pytest.raises(ValueError, match='23 words for a codebook of 24'): load_vision(f'v2l:{tmp_path}')
    (tmp_path/'model.safetensors').write_bytes(b'nothing')
    with pytest.raises(ValueError, match='cannot be read'): load_vision(f'v2l:{tmp_path}')
    with pytest.raises(ValueError, match='expected one of default, paper'): dry_run('small')

def test_training_is_repeatable():
    run = FitConfig(steps=3, batch=4, warmup=1, log_every=1)
    logs = [train_v2l(some_words(48), size=16, run=run, sample=8, progress=False, width=4, channels=(6, 8)) for _ in range(2)]
    assert torch.equal(logs[0][0].network.codes, logs[1][0].network.codes)
    assert [e['loss'] for e in logs[0][1]] == [e['loss'] for e in logs[1][1]]

def test_use_of_a_codebook():
    assert codebook_use(torch.arange(8), 8) == pytest.approx(dict(used=8, perplexity=8, words=8))
    assert codebook_use(torch.zeros(5, dtype=torch.long), 8) == pytest.approx(dict(used=1, perplexity=1, words=5))

def test_the_dry_run_counts_what_a_real_step_would_do():
    ours, paper = dry_run('default'), dry_run('paper')
    words = sum(p.numel() for p in V2LNetwork().parameters())
    assert V2LNetwork(width=8).config == dict(codes=4096, embedding=576, width=8, channels=[32, 64], blocks=1, global_width=0)
    assert ours['trained'] == sum(p.numel() for p in V2LNetwork(width=8).parameters()) != words
    assert (paper['picture'], paper['words'], paper['frozen']) == ('128 x 128', '16 x 16', (32_000 + 11_908) * 768)
    assert dry_run('default', batch=2)['operations'] > 1.9 * (ours['operations'] - 3 * 2 * 4096 * 576 * 8)

def test_the_shipped_tokenizer():
    vision = load_vision('v2l:default')
    row = evaluate_words({'shipped': vision}, count=24, crops=4)['shipped']
    assert (vision.image_size, vision.num_tokens, len(vision.words)) == (32, 64, 4096)
    assert row['psnr'] > 22 and row['codebook']['used'] > 200
    assert len(set(vision.words.texts)) == 4096 == len(set(vision.words.ids))

def test_the_shipped_codes_are_projected_embeddings(llm):
    vision = load_vision('v2l:default')
    vision.words.check(llm.tokenizer.get_vocab(), llm.name)
    codes = vision.network.project(llm.embed(torch.tensor(vision.words.ids)).float())
    assert (codes - vision.network.codes).abs().max() < .02 * vision.network.codes.std()

# in the model

def adapted(base, vision, folder):
    "LM4LV's adapters behind a tokenizer, after a few steps."
    config = TrainConfig(images=str(base/'photos'), tasks=('rotate',), llm=str(base/'llm'), vision=vision, warm_start=4, llm_dtype='float32',
                         fit=FitConfig(steps=3, batch=2, warmup=1, log_every=1))
    return train(config, folder, progress=False)

def test_adapters_behind_the_shipped_tokenizer_are_trained_saved_and_restore(base, tmp_path):
    model, log = adapted(base, 'v2l:default', tmp_path/'model')
    assert len(log) == 3 and all(torch.isfinite(torch.tensor(entry['loss'])) for entry in log)
    assert json.loads((tmp_path/'model'/'lm4lv.json').read_text())['vision'] == 'v2l:default'
    again = LM4LV.from_pretrained(tmp_path/'model')
    assert isinstance(again.vision, V2LVision) and again.vision_name == 'v2l:default'
    assert all(torch.equal(a, b) for a, b in zip(model.trained_state().values(), again.trained_state().values()))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pictures = torch.stack(restore(again, images, 'rotate'))
    assert pictures.shape == images.shape
    torch.testing.assert_close(pictures, torch.stack(restore(model.eval(), images, 'rotate')))
    with torch.no_grad(): read = again.vision.read(pictures) # words were drawn, and about the same are read again
    assert (again.vision.draw(read).clamp(0, 1) - pictures).abs().mean() < .1

def test_a_shared_checkpoint_brings_its_own_tokenizer(base, tmp_path):
    small_vision().save_pretrained(tmp_path/'words')
    adapted(base, f'v2l:{tmp_path/"words"}', tmp_path/'model')
    LM4LV.from_pretrained(tmp_path/'model').save_pretrained(tmp_path/'shared', model_card_kwargs={})
    shutil.rmtree(tmp_path/'words')
    config = json.loads((tmp_path/'shared'/'lm4lv.json').read_text())
    assert config['vision'] == 'v2l:vision' and (tmp_path/'shared'/'vision'/'vision.json').exists()
    again = LM4LV.from_pretrained(tmp_path/'shared', llm=load_llm(base/'llm')) # the language model is not shared along
    assert isinstance(again.vision, V2LVision) and again.vision.words.texts == small_vision().words.texts

def test_hidden_words_are_learned_by_lora_from_conversations_of_text_alone(base, tmp_path):
    "30% of a picture's words are hidden, all are to be written: data set, loop and loss as they are."
    vision, rng, items = load_vision('v2l:default'), torch.Generator().manual_seed(1), []
    ids = vision.read(torch.rand(4, 3, 32, 32, generator=rng)).flatten(1)
    for texts in ([vision.words.texts[i] for i in row] for row in ids):
        hidden = torch.randperm(64, generator=rng)[:round(.3 * 64)].tolist()
        shown = ' '.join('_' if k in hidden else text for k, text in enumerate(texts))
        items.append(dict(conversations=[{'from': 'human', 'value': f'Restore: {shown}'}, {'from': 'gpt', 'value': f'Words: {" ".join(texts)}'}]))
    (tmp_path/'items.json').write_text(json.dumps(items))
    config = TrainConfig(items=str(tmp_path/'items.json'), llm=str(base/'llm'), vision='v2l:default', trainable=('lora',), lora_rank=4,
                         llm_dtype='float32', fit=FitConfig(steps=10, batch=4, lr=1e-2, warmup=1, log_every=1))
    model, log = train(config, tmp_path/'model', progress=False)
    assert log[-1]['text'] < log[0]['text'] and all(entry['visual'] == 0 for entry in log)
    asked, codebook = model.compile([check_item(items[0])]).text_to.tolist(), set(vision.words.ids)
    assert [token for token in asked if token in codebook] == [vision.words.ids[i] for i in ids[0]] # each word one supervised token
    again = LM4LV.from_pretrained(tmp_path/'model')
    assert all(torch.equal(a, b) for a, b in zip(model.trained_state().values(), again.trained_state().values()))
    assert sum('lora_B' in name and value.abs().sum() > 0 for name, value in again.trained_state().items()) > 0
