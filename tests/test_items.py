"JSON data sets that stay on the disk."
import json
import numpy as np
import pytest
import torch
from PIL import Image
from lm4lv.images.photos import PhotoError, Photos
from lm4lv.model.conversations import ConversationError, check_item
from lm4lv.training.datasets import ItemFile, ItemPhotos, PicturePaths, collate_items, item_places, scan_items

TURNS = [{'from': 'human', 'value': 'Qué ves? 日本 <image> "x" [1] {2} \\'}, {'from': 'gpt', 'value': 'A cat.'}]

@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch): monkeypatch.setenv('LM4LV_CACHE', str(tmp_path/'cache'))

def items(n): return [dict(image=f'{i}.png', conversations=[dict(turn) for turn in TURNS]) for i in range(n)]

@pytest.fixture
def written(tmp_path):
    def write(name, data=None, text=None, pictures=()):
        for i in pictures: Image.effect_noise((40, 30), 60).convert('RGB').save(tmp_path/f'{i}.png')
        (tmp_path/name).write_text(json.dumps(data, ensure_ascii=False) if text is None else text, encoding='utf-8')
        return tmp_path/name
    return write

@pytest.mark.parametrize('piece', [1, 13, 100, 1 << 22])
@pytest.mark.parametrize('form', ['list', 'indented', 'ascii', 'lines', 'marked'])
def test_all_items_are_found_however_the_file_is_laid_out(written, piece, form):
    data = items(5)
    text = dict(list=json.dumps(data, ensure_ascii=False), indented=' \n' + json.dumps(data, indent=2, ensure_ascii=False) + '\n', ascii=json.dumps(data),
                lines='\n'.join(json.dumps(d, ensure_ascii=False) for d in data) + '\n', marked='\ufeff' + json.dumps(data))[form]
    path = written('a.json', text=text)
    assert len(list(scan_items(path, piece))) == 5
    file = ItemFile(path)
    assert len(file) == 5 and [file[i] for i in range(5)] == [check_item(d) for d in data]

def test_places_are_kept_and_made_anew_for_a_changed_file(written, monkeypatch):
    path = written('a.json', items(3))
    first = item_places(path)
    import lm4lv.training.datasets as module
    monkeypatch.setattr(module, 'scan_items', lambda path: pytest.fail('read again'))
    assert np.array_equal(item_places(path), first)
    monkeypatch.undo()
    assert len(item_places(written('a.json', items(7)))) == 8

@pytest.mark.parametrize('text,words', [('[{"image": 1}]', ['item 0', 'conversations']), ('[{}, ', ['item 0', 'conversations']), ('{', ['item 0', 'JSON']),
                                        ('[]', ['no items']), ('', ['no items']), ('hello', ['item 0', 'JSON'])])
def test_a_wrong_file_is_one_clear_error(written, text, words):
    path = written('a.json', text=text)
    with pytest.raises(ConversationError) as error: ItemFile(path)
    assert str(path) in str(error.value) and '\n' not in str(error.value) and all(w in str(error.value) for w in words)

def test_a_file_cut_off_is_an_error_that_names_the_item(written):
    text = json.dumps(items(4))
    with pytest.raises(ConversationError, match='item 3'): ItemFile(written('a.json', text=text[:-20]))

def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConversationError, match='none.json'): ItemFile(tmp_path/'none.json')

def test_a_bad_item_is_named_by_index_and_key(written):
    data = items(3)
    data[2]['conversations'][0] = {'from': 'robot', 'value': 'x'}
    with pytest.raises(ConversationError, match=r'item 2: conversations\[0\].from'): ItemFile(written('a.json', data))

def test_pictures_of_an_item_are_cut_alike(written):
    pair = dict(image=['0.png', '0.png'], task='denoise', conversations=[dict(role='human', value='<image> <task>'), dict(role='gpt', value='<image>')])
    data = ItemPhotos(written('a.json', [pair] * 3, pictures=[0]), size=16)
    for i in range(3): assert torch.equal(*data[i]['images'])
    assert not torch.equal(data[0]['images'], data[1]['images'])
    batch = collate_items([data[0], data[2]])
    assert batch['images'].shape == (4, 3, 16, 16) and [i['task'] for i in batch['items']] == ['denoise'] * 2

def test_missing_pictures_are_listed(written):
    path = written('a.json', items(3), pictures=[1])
    with pytest.raises(PhotoError) as error: ItemPhotos(path)
    assert '2 of 3' in str(error.value) and '0.png' in str(error.value) and '1.png' not in str(error.value) and 'missing=skip' in str(error.value)

def test_missing_pictures_can_be_skipped(written):
    data = ItemPhotos(written('a.json', items(3), pictures=[1]), size=16, missing='skip')
    assert [data[i]['item']['images'] for i in range(3)] == [['1.png']] * 3 and set(data.bad) == {'0.png', '2.png'}

def test_no_picture_at_all_is_one_clear_error(written):
    data = ItemPhotos(written('a.json', items(3)), missing='skip')
    with pytest.raises(PhotoError, match='no item'): data[0]

def test_a_wrong_choice_is_named(written):
    with pytest.raises(ValueError, match="'ignore'"): ItemPhotos(written('a.json', items(1)), missing='ignore')

def test_items_without_pictures_are_conversations_too(written):
    data = ItemPhotos(written('a.json', [dict(conversations=[{'from': 'human', 'value': 'Hello'}, {'from': 'gpt', 'value': 'Hi'}])]), size=16)
    assert data[0]['images'].shape == (0, 3, 16, 16)

def test_the_pictures_of_a_file_are_photographs(written):
    photos = Photos(PicturePaths(written('a.json', items(3), pictures=[0, 1, 2])), split='train', size=16)
    assert len(photos) == 3 and photos[2].shape == (3, 16, 16)

def test_an_item_without_a_picture_is_no_photograph(written):
    paths = PicturePaths(written('a.json', [dict(conversations=[{'from': 'human', 'value': 'Hello'}])]))
    with pytest.raises(ConversationError, match='item 0: image'): paths[0]

def test_memory_does_not_grow_with_the_words(written):
    long = written('a.json', [dict(conversations=[{'from': 'human', 'value': 'x' * 10000}]) for _ in range(50)])
    file = ItemFile(long)
    assert long.stat().st_size > 500_000 and file.places.nbytes == 51 * 8
