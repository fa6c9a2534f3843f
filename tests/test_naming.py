"Damage in words: labels, the loss on text alone, likelihoods, and the commands that answers give."
import json, subprocess, sys
import pytest
import torch
from lm4lv.ablations.naming import (
    DAMAGES, GRID, LABELS, PREFIX, QUESTIONS, NamedDamage, NamingConfig, accuracy, ask, blacken, conversation, damage, in_words,
    labelled, likelihoods, mend, parse, place_in_words, plan_prompt, question_vectors, read_off, tools_of, train_naming, with_cure)
from lm4lv.core.loop import FitConfig
from lm4lv.images.degradations import TASKS
from lm4lv.images.photos import Photos, to_image
from lm4lv.model.next_element import LM4LV, tiny_model

@pytest.fixture(scope='module')
def photos(): return Photos('builtin', split='train', size=32, scale=(.01, .03))

@pytest.fixture(scope='module')
def tiny(): return tiny_model(tasks=['name'], gpt_prefix=PREFIX).eval()

def test_sentences_tell_labels_apart_and_are_read_back():
    assert len(set(map(in_words, LABELS))) == len(LABELS) == 1 + 2 * len(DAMAGES)
    for label in LABELS:
        assert parse(f'{PREFIX}{in_words(label)}') == parse(f'{PREFIX}{with_cure(label)}') == label
        assert tools_of(with_cure(label)) == ([] if label is None else [label[0]])
    assert parse('') == parse('It is very clean.') == 'other'

def test_tools_are_tasks_and_only_commands_call_them():
    assert set(DAMAGES) <= set(TASKS)
    assert tools_of('It is noisy and rainy. Denoise it. Derain it.') == ['denoise', 'derain']
    assert tools_of('To denoise items is hard.') == []

@pytest.mark.parametrize('task', DAMAGES)
def test_heavy_damage_is_further_from_the_photograph_than_slight(task, photos):
    image = photos[0]
    slight, heavy = ((damage(image, (task, strength), seed=3) - image).pow(2).mean() for strength in ('slightly', 'very'))
    assert 0 < slight < heavy
    assert torch.equal(damage(image, (task, 'very'), seed=3), damage(image, (task, 'very'), seed=3))

def test_a_sample_follows_from_its_index_and_shows_what_its_answer_says(photos):
    data, again = NamedDamage(photos, seed=5), NamedDamage(photos, seed=5)
    seen = set()
    for i in range(60):
        sample = data[i]
        assert torch.equal(sample['images'], again[i]['images']) and sample['item'] == again[i]['item']
        question, answer = (value for _, value in sample['item']['turns'])
        seen.add(question)
        if question == QUESTIONS['where']:
            assert answer == place_in_words(sample['truth'])
            row, column = divmod(sample['truth'], GRID)
            assert sample['images'][0, :, 8 * row:8 * row + 8, 8 * column:8 * column + 8].abs().max() == 0
        else: assert parse(PREFIX + answer) == sample['truth']
    assert seen == set(QUESTIONS.values())

def test_only_one_patch_is_black():
    picture = blacken(torch.ones(3, 32, 32), 9)
    assert (picture == 0).float().mean() == 1 / GRID ** 2 and picture[:, 16:24, 8:16].max() == 0

def test_likelihoods_are_those_of_the_loss(tiny):
    images = torch.rand(2, 3, 16, 16)
    answers = [in_words(label) for label in LABELS[:3]]
    logs = likelihoods(tiny, images, 'what', answers)
    assert logs.shape == (2, 3) and logs.max() < 0
    for b, image in enumerate(images):
        for k, answer in enumerate(answers):
            batch = tiny.compile([conversation('what', answer)])
            with torch.no_grad(): loss = tiny(batch, image[None])
            assert logs[b, k].item() == pytest.approx(-loss.text.item() * len(batch.text_to), abs=2e-4)

def test_question_vectors_predict_the_first_word(tiny):
    images = torch.rand(3, 3, 16, 16)
    vectors = question_vectors(tiny, images, 'where')
    assert vectors.shape == (3, tiny.llm.hidden_size)
    first = [sentence.removeprefix(PREFIX + ' ') for sentence in ask(tiny, images, 'where')]
    words = [tiny.llm.tokenizer.decode([i]).strip() for i in tiny.llm.logits(vectors).argmax(-1).tolist()]
    assert all(sentence.startswith(word) for sentence, word in zip(first, words))

def test_a_linear_layer_reads_what_is_linear():
    torch.manual_seed(0)
    y = [i % 3 for i in range(120)]
    x = torch.randn(120, 8) + 8 * torch.eye(3, 8)[y]
    assert read_off(x[:90], y[:90], x[90:]) == y[90:]

def test_every_photograph_of_the_test_shows_every_label():
    images, labels, groups = labelled('builtin')
    for group in groups.unique(): assert {labels[i] for i in (groups == group).nonzero().flatten().tolist()} == set(LABELS)
    right = accuracy(labels, labels, groups)
    assert right['exact'] == right['kind'] == 1 and right['n'] == len(images) and right['photographs'] == 6

def test_unknown_questions_labels_and_bad_plans_are_named():
    with pytest.raises(ValueError, match='what, mend, where'): conversation('who')
    with pytest.raises(ValueError, match="'dehaze', 'very'"): damage(torch.zeros(3, 8, 8), ('dehaze', 'very'))
    assert 'denoise' in plan_prompt('My photo is mirrored.')['turns'][0][1]

def test_training_moves_the_adapter_and_the_task_tokens_alone(tmp_path):
    config = NamingConfig(fit=FitConfig(steps=3, batch=2, lr=1e-3, warmup=1))
    model, log = train_naming(config, tmp_path/'n', progress=False)
    assert log[-1]['samples'] == 6 and log[-1]['visual'] == 0
    loaded = LM4LV.from_pretrained(tmp_path/'n')
    assert loaded.gpt_prefix == PREFIX and loaded.system.endswith('<task:name>')
    images = torch.rand(2, 3, 32, 32)
    assert ask(loaded, images, 'what') == ask(model, images, 'what')
    record = json.loads((tmp_path/'n'/'training_record.json').read_text())
    assert record['settings']['questions'] == list(QUESTIONS)

def test_with_kept_adapters_the_task_tokens_alone_are_trained():
    "Naming beside a restoration's own adapters: one pair of adapters for both."
    kept = LM4LV.from_pretrained('default')
    before = {name: p.clone() for name, p in kept.adapters.state_dict().items()}
    config = NamingConfig(init='default', fit=FitConfig(steps=2, batch=2, lr=1e-2, warmup=1))
    model, _ = train_naming(config, progress=False)
    assert all(torch.equal(p.float(), before[name].float()) for name, p in model.adapters.state_dict().items())
    start, _ = train_naming(NamingConfig(init='default', fit=FitConfig(steps=1, batch=2, lr=1e-12, warmup=1)), progress=False)
    tokens = lambda m: torch.cat([p.flatten() for p in m.tasks.parameters()])
    assert (tokens(model) - tokens(start)).abs().max() > 1e-4

def test_the_shipped_weights_name_and_mend_a_noisy_photograph(tmp_path):
    noisy = damage(Photos('builtin', size=96, crops=1, resize='whole')[1], ('denoise', 'very'), seed=1).clamp(0, 1)
    to_image(noisy).save(tmp_path/'noisy.png')
    def answer(sentence, out):
        command = [sys.executable, '-m', 'lm4lv.cli', 'answer', 'noisy.png', sentence, '--out', out]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()
    assert parse(answer('What is wrong with <image>?', 'a')[0]) == ('denoise', 'very')
    said, path = answer('<image> Mend it.', 'b')
    assert tools_of(said) == ['denoise'] and said.endswith('<image>')
    from PIL import Image
    with Image.open(path) as written: assert written.size == (96, 96)
