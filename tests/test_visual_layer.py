"Visual tokens read after a middle layer, text after the last: the same as running everything and picking."
import pytest
import torch
from lm4lv.core.loop import FitConfig, check_config, learning_rate
from lm4lv.images.degradations import make_pairs
from lm4lv.images.photos import Photos
from lm4lv.model.conversations import check_item, restoration
from lm4lv.model.generation import generate, restore, restore_uncached
from lm4lv.model.next_element import LM4LV, tiny_model
from lm4lv.training.trainer import NextElementLoss, TrainConfig, visual_layer, warm_start

CLOSE = dict(atol=1e-4, rtol=1e-4)
KINDS = ('llama', 'gpt2')

@pytest.fixture(scope='module', params=KINDS)
def model(request, tokenizer): return tiny_model(tokenizer=tokenizer, kind=request.param, visual_layer=1).eval()

@pytest.fixture(scope='module')
def images(): return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))

@torch.no_grad()
def test_outputs_are_those_of_transformers_hidden_states(model, images):
    batch, pictures = model.pair_batch(make_pairs(images, 'denoise'))
    features, base = model.vision.encode(pictures), model.llm.model.base_model
    out = base(inputs_embeds=model.embed(batch, features), output_hidden_states=True)
    visual, text = model.outputs(batch, features)
    torch.testing.assert_close(visual, model.llm.final_norm(out.hidden_states[1]).flatten(0, 1)[batch.visual_from], **CLOSE)
    torch.testing.assert_close(text, out.last_hidden_state.flatten(0, 1)[batch.text_from], **CLOSE)
    torch.testing.assert_close(model.outputs(batch, features, text=False)[0], visual, **CLOSE)

def test_without_text_the_loss_is_the_visual_one_and_upper_layers_are_not_run(tokenizer, images, monkeypatch):
    model = tiny_model(tokenizer=tokenizer, visual_layer=1)
    batch, pictures = model.pair_batch(make_pairs(images, 'denoise'))
    both, ran, layer = model(batch, pictures), [], model.llm.layers.layer
    monkeypatch.setattr(model.llm.layers, 'layer', lambda i, *more: ran.append(i) or layer(i, *more))
    alone = model(batch, pictures, text_weight=0.0)
    torch.testing.assert_close(alone.total, both.visual)
    assert set(ran) == {0} and alone.text == 0 and both.text > 0

@torch.no_grad()
def test_a_restored_picture_does_not_depend_on_the_cache(model, images):
    cached = torch.stack([a.features[0] for a in generate(model, [restoration('denoise', answer=False)] * 4, images, force_image=True)])
    torch.testing.assert_close(cached, restore_uncached(model, images, 'denoise'), **CLOSE)

@torch.no_grad()
def test_text_after_a_picture_sees_the_picture_in_all_layers(model, images, monkeypatch):
    "The upper layers catch up: what is written after a picture is what the whole sequence, run at once, says."
    said = []
    logits = model.llm.logits
    monkeypatch.setattr(model.llm, 'logits', lambda hidden: said.append(logits(hidden)) or said[-1])
    answer, = generate(model, [restoration('denoise', answer=False)], images[:1], force_image=True, max_pictures=2, max_words=3)
    assert len(answer.features) >= 1 and said
    item = restoration('denoise')
    batch = model.compile([item])
    vectors = model.embed(batch, torch.stack([model.vision.encode(images[:1])[0], answer.features[0]]))
    end = batch.visual.max().item() + 1 # after the last visual token
    whole = logits(model.llm.hidden(vectors[:, :end])[:, -1])
    torch.testing.assert_close(said[0], whole, **CLOSE)

@torch.no_grad()
def test_rows_that_write_text_and_rows_that_draw_do_not_disturb_each_other(model, images):
    words = check_item(dict(conversations=[{'from': 'human', 'value': 'What is this, in a word or two?'}, {'from': 'gpt', 'value': ''}]))
    drawing = check_item(dict(task='flip', image=['a'], conversations=[{'from': 'human', 'value': 'Look: <image> <task>'}, {'from': 'gpt', 'value': '<Img>'}]))
    alone = [generate(model, [item], images[:n], max_words=6)[0] for item, n in ((words, 0), (drawing, 1))]
    together = generate(model, [words, drawing], images[:1], max_words=6)
    assert [a.text for a in together] == [a.text for a in alone]
    for a, b in zip(together, alone):
        for x, y in zip(a.features, b.features): torch.testing.assert_close(x, y, **CLOSE)

def test_it_is_stored_and_comes_back(tokenizer, images, tmp_path):
    model = tiny_model(tokenizer=tokenizer, visual_layer=1).eval()
    model.save_pretrained(tmp_path)
    again = LM4LV.from_pretrained(tmp_path, model.llm, model.vision)
    assert again.visual_layer == 1
    torch.testing.assert_close(torch.stack(restore(model, images, 'flip')), torch.stack(restore(again, images, 'flip')), **CLOSE)

def test_the_least_squares_start_is_made_for_the_layer_that_is_read(tokenizer, images):
    pairs, losses = make_pairs(images, 'denoise'), []
    for layer in (1, 2):
        model = tiny_model(tokenizer=tokenizer, visual_layer=layer).eval()
        warm_start(model, pairs)
        with torch.no_grad(): losses.append(model(*model.pair_batch(pairs)).visual.item())
        assert losses[-1] < .2
    assert losses[0] != losses[1]

@pytest.mark.parametrize('depth, layers, wanted', [(2 / 3, 30, 20), (1, 30, 30), (2 / 3, 2, 1), (.01, 4, 1), (2 / 3, 32, 21)])
def test_a_share_of_the_layers(depth, layers, wanted): assert visual_layer(TrainConfig(visual_depth=depth), layers) == wanted

@pytest.mark.parametrize('depth', [0, -1, 1.1])
def test_a_share_out_of_range_is_named(depth):
    with pytest.raises(ValueError, match='visual_depth'): visual_layer(TrainConfig(visual_depth=depth), 30)

def test_a_layer_out_of_range_is_named(tokenizer):
    with pytest.raises(ValueError, match='visual_layer 3: expected 1 to 2'): tiny_model(tokenizer=tokenizer, visual_layer=3)

def test_text_is_learned_in_every_so_many_steps(tiny, images):
    loss, pairs = NextElementLoss(text_every=3), make_pairs(images, 'denoise')
    batch = dict(input=pairs.input, target=pairs.target, params=pairs.params)
    seen = []
    for loss.step in range(7): seen.append('text' in loss(tiny, batch)[1])
    assert seen == [True, False, False, True, False, False, True]

def test_schedules():
    rate = lambda schedule, step: learning_rate(step, FitConfig(steps=110, warmup=10, lr=1., schedule=schedule))
    assert [rate('linear', s) for s in (10, 60)] == [1., .5] and abs(rate('cosine', 60) - .5) < 1e-9
    assert rate('constant', 109) == 1 and rate('linear', 4) == rate('cosine', 4) == .5
    with pytest.raises(ValueError, match='schedule'): check_config(FitConfig(schedule='steps'))

def test_whole_pictures_are_squeezed_into_a_square():
    photos = Photos('builtin', split='train', size=24, resize='whole')
    from lm4lv.images.photos import open_photo
    assert photos[0].shape == (3, 24, 24) and torch.equal(photos[0], photos[0 + len(photos)])
    assert open_photo(photos.paths[0]).width != open_photo(photos.paths[0]).height
    with pytest.raises(ValueError, match='resize'): Photos(resize='stretch')
    with pytest.raises(ValueError, match='scale'): Photos(scale=(0, 1))
