"Captions: photographs by class, what is asked and answered, and the four pairs of networks."
import json
from shutil import copy
import pytest
import torch
from conftest import ROOT
from lm4lv.ablations.captions import KINDS, PAIRS, PREFIX, Captions, caption, captioned, captioner, conversation, measure_captions, tokens_of
from lm4lv.ablations.classification import kind_of
from lm4lv.ablations.naming import conversation as naming_conversation, item_likelihoods, likelihoods
from lm4lv.images.photos import builtin_paths
from lm4lv.vision.picture_words import class_names

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "Two built-in photographs under the names of four classes of each kind, and one that is none."
    made = tmp_path_factory.mktemp('classes')
    for kind in KINDS:
        numbers = [number for number, name in class_names().items() if kind_of(name) == kind][:4]
        for k, number in enumerate(numbers): copy(builtin_paths('test')[k % 2], made/f'{number}_x{builtin_paths("test")[k % 2].suffix}')
    copy(builtin_paths('test')[0], made/f'bsds_1{builtin_paths("test")[0].suffix}')
    return made

def test_classes_for_training_and_testing_are_disjoint(folder):
    train, test = captioned(str(folder), held_out=.25)
    assert len(train) == 15 and len(test) == 5 and {kind for _, kind in test} == set(KINDS)
    assert not {p.name[:9] for p, _ in train} & {p.name[:9] for p, _ in test}
    assert captioned(str(folder), held_out=.25) == (train, test) != captioned(str(folder), held_out=.25, seed=1)

def test_photographs_without_names_are_one_clear_line():
    with pytest.raises(ValueError, match='expected photographs of every kind'): captioned('builtin')

def test_a_caption_follows_the_prefix():
    assert [PREFIX + caption(kind) for kind in ('dog', 'insect')] == ['It is a dog.', 'It is an insect.']
    assert conversation()['turns'][0] == conversation('dog')['turns'][0]

def test_all_kinds_come_equally_often_whatever_their_number(folder):
    train, _ = captioned(str(folder))
    data = Captions([pair for pair in train if pair[1] != 'dog'] + [pair for pair in train if pair[1] == 'dog'][:1], 32)
    seen = [data[i]['truth'] for i in range(150)]
    assert all(15 <= seen.count(kind) <= 50 for kind in KINDS)
    assert torch.equal(data[7]['images'], data[7]['images'])

@pytest.mark.parametrize('name', PAIRS)
def test_one_layer_and_the_task_tokens_are_trained_between_frozen_networks(name):
    model = captioner(*PAIRS[name])
    trained = {key for key, p in model.named_parameters() if p.requires_grad}
    assert trained == {'adapters.adapter.weight', 'adapters.adapter.bias', 'tasks.bank.caption'}
    pictures = torch.rand(2, 3, PAIRS[name][1], PAIRS[name][1])
    assert tokens_of(model, pictures).shape == (2, model.vision.num_tokens * model.vision.feature_dim)

def test_likelihoods_of_items_are_those_of_questions_and_answers():
    from lm4lv.model.next_element import tiny_model
    model, images = tiny_model(tasks=('name',)), torch.rand(2, 3, 16, 16)
    answers = [' noisy.', ' blurred.', ' very clean.']
    expected = likelihoods(model, images, 'what', answers)
    assert torch.equal(item_likelihoods(model, images, [naming_conversation('what', a) for a in answers]), expected)

def test_a_short_measurement_has_every_row_and_goes_on(folder, tmp_path, monkeypatch):
    from lm4lv.ablations import captions
    monkeypatch.setattr(captions, 'PAIRS', {'MAE': PAIRS['MAE']})
    said = []
    report = measure_captions(tmp_path/'r.json', str(folder), samples=16, say=said.append)
    row = report['rows']['MAE']
    assert len(row['guesses']) == report['settings']['test'] and 0 <= row['right'] <= 1 and len(row['probe']['guesses']) == len(row['guesses'])
    assert measure_captions(tmp_path/'r.json', str(folder), samples=16, say=said.append) == report and said == ['MAE']
    with pytest.raises(ValueError, match='other settings'): measure_captions(tmp_path/'r.json', str(folder), samples=24)

def test_committed_results_have_every_pair():
    result = json.loads((ROOT/'nbs'/'results'/'captions.json').read_text())
    assert set(result['rows']) == set(PAIRS) and sum(result['settings']['kinds'].values()) == result['settings']['test']
