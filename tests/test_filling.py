"Hidden words of a picture: what is shown to whom, what is counted, and a short training of LoRA."
import json
import pytest
import torch
from conftest import ROOT
from lm4lv.ablations.filling import SHARE, HiddenWords, Pairs, _beside, beside_it, conversation, fill, hide, measure_filling, train_filling
from lm4lv.core.loop import FitConfig
from lm4lv.images.photos import CROP_SCALE, Photos
from lm4lv.llm.frozen import load_llm
from lm4lv.model.next_element import LM4LV
from lm4lv.vision.v2l import V2LVision

@pytest.fixture(scope='module')
def vision(): return V2LVision.from_pretrained()

@pytest.fixture(scope='module')
def model(vision): return LM4LV(load_llm(), vision, ['words'], vision_name='v2l:default')

@pytest.fixture(scope='module')
def ids(vision): return vision.read(Photos('builtin', size=32, crops=2, scale=CROP_SCALE, random=True)[:2]).flatten(1)

def test_as_many_words_are_hidden_as_asked_at_random_places():
    hidden = hide(50, 64, torch.Generator().manual_seed(0))
    assert (hidden.sum(1) == round(SHARE * 64)).all() and len(hidden.unique(dim=0)) == 50
    assert (hidden.float().mean(0) > 0).all() # every place at some time

def test_the_question_hides_and_the_answer_tells(model, vision, ids):
    texts, gone = [vision.words.texts[i] for i in ids[0]], [k % 3 == 0 for k in range(64)]
    (_, asked), (_, told) = conversation(texts, gone)['turns']
    shown = asked.split(': ')[1].split()
    assert [a == '_' for a in shown] == gone and [a for a, g in zip(shown, gone) if not g] == [t for t, g in zip(texts, gone) if not g]
    assert told.split() == texts
    batch = model.compile([conversation(texts, gone), conversation(texts, gone[::-1])])
    assert batch.mask.all() # every word and every blank is one token: all conversations have one length
    assert batch.text_to[:64].tolist() == [vision.words.ids[i] for i in ids[0]]

def test_filling_in_looks_at_no_hidden_word_and_changes_no_other(model, ids):
    hidden = hide(2, 64, torch.Generator().manual_seed(3))
    filled = fill(model, ids, hidden)
    assert torch.equal(filled[~hidden], ids[~hidden])
    assert torch.equal(fill(model, torch.where(hidden, 7, ids), hidden), filled)
    assert torch.equal(fill(model, ids, hidden, batch_size=1), filled)
    assert torch.equal(fill(model, ids, torch.zeros_like(hidden)), ids)

@pytest.mark.parametrize('step', [(0, -1), (-1, 0), (0, 1), (1, 0)])
def test_neighbours_are_those_of_a_loop(step):
    grid = torch.randint(0, 9, (2, 4, 5), generator=torch.Generator().manual_seed(0))
    moved = _beside(grid, step)
    for b in range(2):
        for y in range(4):
            for x in range(5):
                there = 0 <= y + step[0] < 4 and 0 <= x + step[1] < 5
                assert moved[b, y, x] == (grid[b, y + step[0], x + step[1]] if there else -1)

def test_counts_of_pairs_find_a_pattern():
    stripes = torch.arange(6).repeat(20, 6, 1) # after n always n + 1
    pairs, hidden = Pairs(stripes, 6), torch.rand(20, 6, 6, generator=torch.Generator().manual_seed(1)) < .3
    known = torch.where(hidden, -1, stripes)
    spoken_for = torch.stack([_beside(known, step) >= 0 for step in ((0, -1), (-1, 0), (0, 1), (1, 0))]).any(0)
    assert (hidden & spoken_for).sum() > 100 and torch.equal(pairs(stripes, hidden)[spoken_for], stripes[spoken_for])
    assert (beside_it(stripes, hidden) != stripes).any()
    everything = torch.ones_like(hidden)
    assert torch.equal(pairs(stripes, everything), torch.zeros_like(stripes)) # nobody speaks: the most frequent word, of equals the first

def test_samples_follow_from_their_index(vision):
    data = HiddenWords(vision, Photos('builtin', split='train', size=32, scale=CROP_SCALE), seed=4)
    assert data[1]['item'] == data[1]['item'] != data[2]['item'] and data[1]['images'].shape == (0, 3, 32, 32)

def test_lora_alone_is_trained(vision):
    model, log = train_filling(vision, 'builtin', FitConfig(steps=3, batch=2, lr=2e-3, warmup=1, log_every=1), rank=2, progress=False)
    assert len(log) == 3 and log[-1]['loss'] < log[0]['loss'] + 2
    moved = {name for name, p in model.named_parameters() if 'lora_B' in name and p.abs().sum() > 0}
    assert moved and not any(p.requires_grad for p in model.parameters())
    assert model.llm.fingerprint() == load_llm().fingerprint() # beside LoRA, nothing changed

def test_a_codebook_of_another_vocabulary_is_refused(vision, monkeypatch):
    from copy import copy
    other, other.words = copy(vision), copy(vision.words)
    other.words.ids = [i + 1 for i in vision.words.ids]
    with pytest.raises(ValueError, match='codebook'): train_filling(other, 'builtin', FitConfig(steps=1), progress=False)

def test_committed_results_hold_all_ways_and_every_share():
    result = json.loads((ROOT/'nbs'/'results'/'filling.json').read_text())
    assert set(result['rows']) >= {'beside it', 'pairs', 'language model as it is', 'language model with LoRA'}
    assert all(len(row['right']) == len(row['mse']) == result['settings']['pictures'] >= 64 for row in result['rows'].values())

def test_a_file_of_another_run_is_refused(tmp_path, vision):
    (tmp_path/'r.json').write_text(json.dumps(dict(settings=dict(samples=1), rows={}, photographs=[])))
    with pytest.raises(ValueError, match='other settings'): measure_filling(tmp_path/'r.json', 'builtin', 'builtin', pictures=2, vision=vision)
