"Words of whole pictures: ImageNet's class names, filtered by pictures, and few-shot classification by a language model that reads them."
import json
import pytest
import torch
from conftest import ROOT
from lm4lv.ablations.classification import CONFIGURATIONS, KINDS, Episode, choose, episodes, kind_of, measure_classification, most_shared, prompt, renamed
from lm4lv.images.photos import Photos, builtin_paths
from lm4lv.images.perceptual import lite_network
from lm4lv.llm.frozen import load_llm
from lm4lv.vision.picture_words import Clip, PictureWords, class_names, class_scores, combined, filtered_words, own_name

def test_there_are_a_thousand_names_in_the_classifiers_order():
    names = list(class_names().values())
    assert len(names) == len(set(names)) == 1000 and sorted(class_names()) == list(class_names()) # ImageNet's order is that of the numbers
    assert [names[i] for i in (0, 281, 285, 967, 999)] == ['tench', 'tabby', 'Egyptian cat', 'espresso', 'toilet tissue']

def test_scores_are_those_of_the_networks_own_forward_pass():
    pictures = Photos('builtin', split='test', size=224)[:2]
    network = lite_network().network
    with torch.no_grad(): expected = network((pictures * 255 - 127) / 128).log_softmax(-1)
    assert torch.allclose(class_scores(pictures), expected, atol=1e-3)

def test_a_cup_of_coffee_is_read_as_one_whatever_the_codebook():
    cup = Photos('builtin', split='test', size=224)[1:2]
    for texts in (list(class_names().values()), ['tench', 'espresso', 'consomme']):
        words = PictureWords(texts)
        assert words.text(words.read(cup, 1)) == [['espresso']]

def test_the_filter_keeps_what_some_picture_is_like_and_no_long_names():
    pictures = Photos('builtin', split='test', size=224)[:3]
    kept = filtered_words([pictures[:2], pictures[2:]], top=4)
    one_by_one = {i for row in class_scores(pictures).topk(4).indices.tolist() for i in row}
    names = list(class_names().values())
    assert {names.index(text) for text in kept.texts} == one_by_one # none of these has a long name
    assert filtered_words([pictures], top=4, at_once=7).texts == kept.texts
    assert all(len(text.split()) <= 1 for text in filtered_words([pictures], longest=1).texts)

def test_bad_input_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="'xyzzy'.*class_names"): PictureWords(['xyzzy']).read(torch.rand(1, 3, 32, 32), 1)
    with pytest.raises(ValueError, match='k=3: expected 1 to 2'): PictureWords(['tench', 'tabby']).read(torch.rand(1, 3, 32, 32), 3)
    with pytest.raises(ValueError, match='number of a class'): own_name('builtin', PictureWords(['tench']))

@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    "A tiny random CLIP with a real byte-level tokenizer, in a folder."
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer
    folder = tmp_path_factory.mktemp('clip')
    letters = [chr(c) for c in range(97, 123)] + [' ']
    vocabulary = {token: i for i, token in enumerate([*letters, *(f'{letter}</w>' for letter in letters), '<|startoftext|>', '<|endoftext|>'])}
    (folder/'vocab.json').write_text(json.dumps(vocabulary)); (folder/'merges.txt').write_text('#version: 0.2\n')
    torch.manual_seed(0)
    small = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    config = CLIPConfig(text_config=dict(small, vocab_size=len(vocabulary), max_position_embeddings=40, eos_token_id=len(vocabulary) - 1, bos_token_id=len(vocabulary) - 2),
                        vision_config=dict(small, image_size=32, patch_size=16), projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    tokenizer = CLIPTokenizer(str(folder/'vocab.json'), str(folder/'merges.txt'))
    CLIPProcessor(CLIPImageProcessor(size=dict(shortest_edge=32), crop_size=dict(height=32, width=32)), tokenizer).save_pretrained(folder)
    return folder

def test_clip_judges_any_text(clip):
    judge, pictures = Clip(str(clip)), Photos('builtin', size=32)[:4]
    texts = combined(['red', 'car', 'dog'], 2)
    similarities = judge(pictures, texts)
    assert similarities.shape == (4, 9) and similarities.abs().max() <= 1.0001
    assert torch.allclose(judge(pictures[1:2], texts[2:4]), similarities[1:2, 2:4], atol=1e-5)
    words = filtered_words([pictures], top=2, texts=texts, judge=judge, at_once=4)
    best = {texts[i] for row in similarities.topk(2).indices.tolist() for i in row}
    assert set(words.texts) == best and words.text(words.read(pictures, 1))[0][0] in best

def test_no_clip_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match='no CLIP at .*hub name'): Clip(str(tmp_path/'nothing'))

def test_own_names_are_counted(tmp_path):
    from shutil import copy
    for number, source in (('n07920052', builtin_paths('test')[1]), ('n01440764', builtin_paths('test')[0])): copy(source, tmp_path/f'{number}_x{source.suffix}')
    assert own_name(str(tmp_path), PictureWords(list(class_names().values())))['1'] == .5 # the espresso is one, the astronaut no tench

def test_kinds_hold_the_animals_they_name():
    expected = dict(robin='bird', junco='bird', flamingo='bird', Chihuahua='dog', dhole=None, iguana='reptile', sidewinder='reptile', bee='insect',
                    lacewing='insect', stingray='fish', gar='fish', hammerhead='fish', tarantula=None, tabby=None, espresso=None)
    names = {'iguana': 'common iguana'}
    for name, kind in expected.items():
        name = next(n for n in class_names().values() if n in (name, names.get(name)))
        assert kind_of(name) == kind, name

WORDS = [[f'{kind} {i}', f'{kind} {i + 1}'] for kind in KINDS for i in range(6)]
TRUTH = [kind for kind in KINDS for _ in range(6)]

@pytest.mark.parametrize('ways, shots', CONFIGURATIONS)
def test_episodes_are_fair(ways, shots):
    made = episodes(WORDS, TRUTH, ways, shots, 200)
    assert [prompt(e) for e in made] == [prompt(e) for e in episodes(WORDS, TRUTH, ways, shots, 200)]
    for e in made:
        shown = [kind for _, kind in e.examples]
        assert sorted(set(shown)) == sorted(e.kinds) and len(shown) == ways * shots and e.truth in e.kinds
        assert e.query not in [words for words, _ in e.examples] # never among its own examples
    places = [[kind for _, kind in e.examples].index(e.truth) for e in made]
    assert len(set(places)) > 1 # where the right kind stands tells nothing

def test_a_kind_with_too_few_pictures_is_named():
    with pytest.raises(ValueError, match='fish: expected more than 3'): episodes(WORDS[:-4], TRUTH[:-4], 2, 3, 1)

def test_equal_words_are_found_and_stay_equal_when_renamed():
    episode = Episode(['dog', 'bird'], [(['a', 'b'], 'bird'), (['c'], 'dog')], ['b', 'd'], 'bird', 0)
    assert most_shared([episode]) == ['bird']
    names = dict(a='c', b='d', c='a', d='b')
    other, = renamed([episode], names)
    assert other.query == ['d', 'b'] and most_shared([other]) == ['bird'] and other.truth == 'bird'
    assert most_shared([episode], lambda words: []) == ['bird'] # of equals the first

def test_a_language_model_reads_names_that_it_knows():
    llm = load_llm()
    plain = [Episode(['dog', 'fish'], [(['collie', 'beagle'], 'dog'), (['gar', 'tench'], 'fish')], query, truth, 0)
             for query, truth in ((['tiger shark', 'great white shark'], 'fish'), (['golden retriever', 'cocker spaniel'], 'dog'))]
    assert choose(llm, plain)[0] == ['fish', 'dog']

def test_results_are_kept_row_by_row(tmp_path, monkeypatch):
    from lm4lv.ablations import classification
    monkeypatch.setattr(classification, 'described', lambda *_: ([['robin']] * 4 + [['collie']] * 4 + [['agama']] * 4 + [['bee']] * 4 + [['gar']] * 4, [k for k in KINDS for _ in range(4)]))
    words, said = PictureWords(['robin', 'collie', 'agama', 'bee', 'gar']), []
    monkeypatch.setattr(classification, 'CONFIGURATIONS', ((2, 1),))
    first = measure_classification(tmp_path/'r.json', 'photos', words, count=3, say=said.append)
    assert first['rows']["classifier's first word"]['2-way 1-shot']['right'] == 1 and len(said) == 7
    assert measure_classification(tmp_path/'r.json', 'photos', words, count=3, say=said.append) == first and len(said) == 7
    with pytest.raises(ValueError, match='other settings'): measure_classification(tmp_path/'r.json', 'photos', words, count=4)

def test_committed_results_are_of_the_published_form():
    result = json.loads((ROOT/'nbs'/'results'/'classification.json').read_text())
    assert set(result['rows']) >= {'language model', 'renamed words', 'random weights', 'most shared words', 'no examples'}
    for name, row in result['rows'].items():
        assert set(row) == {f'{n}-way {k}-shot' for n, k in CONFIGURATIONS}, name
        for value in row.values(): assert value['right'] == pytest.approx(sum(value['answers']) / result['settings']['episodes'])
