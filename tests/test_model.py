import json
import pytest
import torch
from lm4lv.images.degradations import make_pairs
from lm4lv.vision.mae import new_mae
from lm4lv.model.conversations import OPEN, check_item, restoration
from lm4lv.model.generation import generate, growing, restore, restore_uncached
from lm4lv.evaluation.failures import answer_errors
from lm4lv.model.next_element import LM4LV, tiny_model
from lm4lv.model.storing import CheckpointError
from lm4lv.training.trainer import warm_start

KINDS = ('llama', 'gpt2', 'gemma', 'qwen2')
CLOSE = dict(atol=1e-4, rtol=1e-4)

@pytest.fixture(scope='module', params=KINDS)
def model(request, tokenizer): return tiny_model(tokenizer=tokenizer, kind=request.param).eval()

@pytest.fixture
def images(): return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))

SHORT = restoration('denoise', answer=False)
LONG = check_item(dict(task='flip', image=['a', 'b'], conversations=[
    {'from': 'human', 'value': 'Look at <image> and then at <image> once more. <task>'}, {'from': 'gpt', 'value': ''}]))
WORDS = check_item(dict(conversations=[{'from': 'human', 'value': 'What do you see?'}, {'from': 'gpt', 'value': ''}]))

def drawn(model, items, images): return [a.features[0] for a in generate(model, items, images, force_image=True)]

# generation

def test_cached_generation_equals_the_plain_algorithm(model, images):
    torch.testing.assert_close(torch.stack(drawn(model, [SHORT] * 4, images)), restore_uncached(model, images, 'denoise'), **CLOSE)

def test_with_a_skip_connection_as_well(tokenizer, images):
    model = tiny_model(tokenizer=tokenizer, adapter='skip').eval()
    test_cached_generation_equals_the_plain_algorithm(model, images)

def test_a_batch_of_unequal_prompts_equals_each_alone(model, images):
    together = drawn(model, [SHORT, LONG, WORDS], images[:3])
    alone = [drawn(model, [SHORT], images[:1]), drawn(model, [LONG], images[1:3]), drawn(model, [WORDS], images[:0])]
    for one, (other,) in zip(together, alone): torch.testing.assert_close(one, other, **CLOSE)

def test_a_batch_writes_the_words_that_each_row_alone_writes(model, images):
    together = generate(model, [SHORT, WORDS], images[:1], max_words=8)
    alone = [generate(model, [SHORT], images[:1], max_words=8)[0], generate(model, [WORDS], images[:0], max_words=8)[0]]
    assert [a.text for a in together] == [a.text for a in alone]

def test_restore_returns_one_clipped_picture_for_each_and_does_not_depend_on_the_part(tiny, images):
    whole, parts = restore(tiny, images, 'flip'), restore(tiny, images, 'flip', batch_size=3)
    assert len(whole) == 4 and all(p.shape == (3, 16, 16) and 0 <= p.min() and p.max() <= 1 for p in whole)
    torch.testing.assert_close(torch.stack(whole), torch.stack(parts), **CLOSE)

def test_restore_names_the_tasks_that_the_model_has(tiny, images):
    with pytest.raises(ValueError, match="'derain'.*denoise, flip"): restore(tiny, images, 'derain')

def test_a_growing_picture_begins_grey_and_ends_as_the_restored_one(tiny, images):
    first, last = growing(tiny, images[:1], 'denoise', [0, tiny.vision.num_tokens])
    assert (first == 0.5).all()
    torch.testing.assert_close(last, restore(tiny, images[:1], 'denoise')[0], **CLOSE)

class Script:
    "Makes a model write given words in each row; fails where it asks for words of the wrong rows."
    def __init__(self, model, monkeypatch, *rows):
        tokenizer, self.N = model.llm.tokenizer, model.vision.num_tokens
        self.calls, self.todo, self.size = [], [], len(tokenizer)
        for row in rows:
            todo = []
            for part in row:
                if part == 'picture': todo += ['visual'] * self.N
                elif part == 'end': todo.append(tokenizer.eos_token_id)
                else: todo += tokenizer(part, add_special_tokens=False).input_ids
            self.todo.append(todo)
        monkeypatch.setattr(model.llm, 'logits', self.logits)
    def logits(self, hidden):
        rows = [todo for todo in self.todo if todo and todo[0] != 'visual']
        assert len(rows) == len(hidden)
        scores = torch.zeros(len(rows), self.size)
        for score, todo in zip(scores, rows): score[todo[0]] = 1
        return scores
    def on_token(self, row, kind, value):
        self.calls.append((row, kind, value))
        expected = self.todo[row].pop(0)
        assert (kind == 'visual') == (expected == 'visual') and (kind == 'visual' or value == expected)

def test_an_unprompted_img_draws_one_picture_and_returns_to_text(tiny, images, monkeypatch):
    script = Script(tiny, monkeypatch, ['Here: ', OPEN, 'picture', '</Img>', ' Done.', 'end'])
    answer, = generate(tiny, [SHORT], images[:1], max_words=40, on_token=script.on_token)
    assert answer.text == 'Here: <image> Done.' and answer.finished
    assert len(answer.pictures) == 1 and answer.features[0].shape == (tiny.vision.num_tokens, tiny.vision.feature_dim)
    assert script.todo == [[]]

def test_an_unprompted_picture_equals_a_forced_one(tiny, images, monkeypatch):
    forced = drawn(tiny, [SHORT], images[:1])[0]
    script = Script(tiny, monkeypatch, [OPEN, 'picture', '</Img>', 'end'])
    answer, = generate(tiny, [SHORT], images[:1], on_token=script.on_token)
    torch.testing.assert_close(answer.features[0], forced, **CLOSE)

def test_one_row_writes_text_while_another_draws(tiny, images, monkeypatch):
    script = Script(tiny, monkeypatch, [OPEN, 'picture', '</Img>', 'end'], ['I see one thing after another, and more of it.', 'end'])
    one, other = generate(tiny, [SHORT, WORDS], images[:1], max_words=40, on_token=script.on_token)
    assert (one.text, len(one.pictures)) == ('<image>', 1)
    assert (other.text, len(other.pictures)) == ('I see one thing after another, and more of it.', 0)
    kinds = {(row, kind) for row, kind, _ in script.calls}
    assert kinds == {(0, 'word'), (0, 'visual'), (1, 'word')}
    steps = [[kind for row, kind, _ in script.calls if row == r] for r in (0, 1)]
    assert any(a == 'visual' and b == 'word' for a, b in zip(*steps))

def test_two_pictures_in_one_answer_equal_the_plain_algorithm(tiny, images, monkeypatch):
    script = Script(tiny, monkeypatch, [OPEN, 'picture', '</Img>', ' and ', OPEN, 'picture', '</Img>', 'end'])
    answer, = generate(tiny, [SHORT], images[:1], max_words=60, max_pictures=2, on_token=script.on_token)
    assert answer.text == '<image> and <image>' and len(answer.pictures) == 2
    batch = tiny.compile([SHORT], generate=True)
    vectors = tiny.embed(batch, tiny.vision.encode(images[:1]))
    for _, kind, value in script.calls[:-1]:
        if kind == 'visual': torch.testing.assert_close(value, tiny.adapters.to_vision(tiny.llm.hidden(vectors)[0, -1]), **CLOSE)
        step = tiny.adapters.to_llm(value) if kind == 'visual' else tiny.llm.embed(torch.tensor(value))
        vectors = torch.cat([vectors, step.detach()[None, None]], 1)

def test_an_answer_ends_behind_max_pictures(tiny, images, monkeypatch):
    again = [OPEN, 'picture', '</Img>']
    script = Script(tiny, monkeypatch, again * 3 + ['end'])
    answer, = generate(tiny, [SHORT], images[:1], max_words=60, max_pictures=1, on_token=script.on_token)
    assert len(answer.pictures) == 1

def test_an_answer_without_an_end_stops_at_max_words(tiny, images, monkeypatch):
    script = Script(tiny, monkeypatch, ['word ' * 50])
    answer, = generate(tiny, [SHORT], images[:1], max_words=5, on_token=script.on_token)
    assert len(script.calls) == 5 and not answer.finished and not answer.pictures

def test_the_official_template_ends_at_its_own_mark(tokenizer, images, monkeypatch):
    model = tiny_model(tokenizer=tokenizer, template='official').eval()
    script = Script(model, monkeypatch, [OPEN, 'picture', '</Img>', '\n', '###', ' Human: more'])
    answer, = generate(model, [SHORT], images[:1], max_words=40, on_token=script.on_token)
    assert (answer.text, answer.finished, len(answer.pictures)) == ('<image>', True, 1)

def test_streaming_tells_every_element_in_order(tiny, images):
    calls = []
    generate(tiny, [SHORT] * 2, images[:2], force_image=True, on_token=lambda *call: calls.append(call[:2]))
    assert calls == [(row, 'visual') for _ in range(tiny.vision.num_tokens) for row in (0, 1)]

def test_sampling_follows_the_seed(tiny):
    def say(seed): return generate(tiny, [WORDS], torch.zeros(0, 3, 16, 16), temperature=1.0, seed=seed)[0].text
    assert say(1) == say(1) != say(2)

# training

def test_the_loss_of_a_batch_is_made_of_the_losses_of_its_conversations(model, images):
    chat = check_item(dict(image=['a'], conversations=[{'from': 'human', 'value': 'What is this? <image>'},
                                                       {'from': 'gpt', 'value': 'A cat, I would say, on a mat.'}]))
    items = [restoration('denoise'), chat]
    def parts(items, images):
        batch = model.compile(items)
        loss = model(batch, images)
        return loss.text * len(batch.text_to), loss.visual * len(batch.visual_to), len(batch.text_to), len(batch.visual_to)
    with torch.no_grad():
        whole, singles = parts(items, images[:3]), [parts(items[:1], images[:2]), parts(items[1:], images[2:3])]
    for a, b in zip(whole, map(sum, zip(*singles))): torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), **CLOSE)

@torch.no_grad()
def test_the_visual_loss_is_zero_for_features_that_are_written_exactly(tiny, images):
    batch = tiny.compile([restoration('denoise')])
    loss = tiny(batch, images[:2])
    hidden = tiny.llm.hidden(tiny.embed(batch, tiny.vision.encode(images[:2])))
    guess = tiny.adapters.to_vision(hidden.flatten(0, 1)[batch.visual_from])
    target = tiny.vision.encode(images[1:2])[0]
    torch.testing.assert_close(loss.visual, (guess - target).pow(2).mean(), **CLOSE)

def test_the_gradient_of_log_error_is_that_of_the_mean_logarithm(tiny, images):
    pairs = make_pairs(images, 'denoise', list(range(4)))
    pairs.input[:2], pairs.target[:2] = .5, .5 # easy ones, and hard ones
    batch, both = tiny.pair_batch(pairs)
    tiny.adapters.deadapter.zero_grad()
    tiny(batch, both, text_weight=0, log_error=True).visual.backward()
    ours = tiny.adapters.deadapter.weight.grad.clone()
    features, N = tiny.encode(both), tiny.vision.num_tokens
    out = tiny.outputs(batch, features, text=False)[0].detach()
    errors = (tiny.adapters.deadapter(out) - features.flatten(0, 1)[batch.visual_to]).square().view(4, -1).mean(1)
    tiny.adapters.deadapter.zero_grad()
    (errors + 1e-3).log().mean().backward()
    theirs = tiny.adapters.deadapter.weight.grad
    torch.testing.assert_close(ours / ours.norm(), theirs / theirs.norm(), **CLOSE)
    torch.testing.assert_close(tiny(batch, both, text_weight=0, log_error=True).visual, (errors / (errors + 1e-3)).mean() / (1 / (errors + 1e-3)).mean(), **CLOSE)

def test_gradients_reach_adapters_and_task_tokens_only(model, images):
    model.zero_grad()
    batch, pictures = model.pair_batch(make_pairs(images[:2], 'denoise'))
    model(batch, pictures).total.backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached == {f'adapters.{m}.{p}' for m in ('adapter', 'deadapter') for p in ('weight', 'bias')} | {'tasks.bank.denoise'}
    model.zero_grad()

def test_training_under_bf16_autocast_runs(tiny, images):
    batch, pictures = tiny.pair_batch(make_pairs(images[:2], 'denoise'))
    exact = tiny(batch, pictures).total
    with torch.autocast('cpu', torch.bfloat16): loss = tiny(batch, pictures).total
    assert abs(loss - exact) < 0.1 * exact

@torch.no_grad()
def test_a_bf16_language_model_restores_nearly_the_same(tokenizer, images):
    exact, rough = (tiny_model(tokenizer=tokenizer).eval() for _ in range(2))
    rough.llm.model.to(torch.bfloat16)
    a, b = (torch.stack(restore(m, images, 'denoise')) for m in (exact, rough))
    assert (a - b).abs().mean() < 0.05

def test_an_unknown_task_in_a_conversation_is_named(tiny, images):
    with pytest.raises(ValueError, match="'derain'.*denoise, flip"):
        tiny(tiny.compile([restoration('derain')]), images[:2])

def test_a_warm_start_lowers_the_visual_loss(tiny, images):
    pairs = make_pairs(images, 'denoise')
    with torch.no_grad():
        before = tiny(*tiny.pair_batch(pairs)).visual
        warm_start(tiny, pairs)
        assert tiny(*tiny.pair_batch(pairs)).visual < before

def test_token_errors_average_to_the_visual_loss(tiny, images):
    pairs = make_pairs(images, 'denoise')
    with torch.no_grad(): loss = tiny(*tiny.pair_batch(pairs)).visual.item()
    errors = answer_errors(tiny, pairs).mean(0).tolist()
    assert len(errors) == tiny.vision.num_tokens and abs(sum(errors) / len(errors) - loss) < 1e-4

# checkpoints

@pytest.fixture
def saved(tiny, tmp_path):
    tiny.save_pretrained(tmp_path/'model')
    return tmp_path/'model'

def load(folder, tiny): return LM4LV.from_pretrained(folder, tiny.llm, tiny.vision)

def test_a_checkpoint_restores_bit_for_bit(tiny, saved, images):
    again = load(saved, tiny)
    assert all(torch.equal(a, b) for a, b in zip(tiny.trained_state().values(), again.trained_state().values()))
    assert torch.equal(torch.stack(restore(tiny, images, 'flip')), torch.stack(restore(again, images, 'flip')))

def test_a_checkpoint_holds_trained_tensors_only_and_no_stray_files(saved):
    from safetensors import safe_open
    assert sorted(p.name for p in saved.iterdir()) == ['adapters.safetensors', 'lm4lv.json']
    with safe_open(saved/'adapters.safetensors', 'pt') as file:
        assert all(key.startswith(('adapters.', 'tasks.')) for key in file.keys())

def test_a_checkpoint_in_half_precision_loads(tiny, tmp_path):
    tiny.save_pretrained(tmp_path, torch.float16)
    assert all((a - b).abs().max() < 1e-2 for a, b in zip(tiny.trained_state().values(), load(tmp_path, tiny).trained_state().values()))

def expect(folder, tiny, *words):
    with pytest.raises(CheckpointError) as error: load(folder, tiny)
    assert '\n' not in str(error.value) and all(word in str(error.value) for word in (str(folder), *words)), str(error.value)

def change(folder, **values):
    config = json.loads((folder/'lm4lv.json').read_text())
    config.update(values)
    (folder/'lm4lv.json').write_text(json.dumps({k: v for k, v in config.items() if v is not None}))

def test_a_missing_folder_is_named(tiny, tmp_path): expect(tmp_path/'nowhere', tiny, 'lm4lv.json')

def test_missing_weights_are_named(tiny, saved):
    (saved/'adapters.safetensors').unlink()
    expect(saved, tiny, 'adapters.safetensors')

def test_truncated_weights_are_named(tiny, saved):
    path = saved/'adapters.safetensors'
    path.write_bytes(path.read_bytes()[:-100])
    expect(saved, tiny, 'adapters.safetensors')

def test_broken_json_is_named(tiny, saved):
    (saved/'lm4lv.json').write_text('{"llm": ')
    expect(saved, tiny, 'lm4lv.json')

def test_json_that_is_no_object_is_named(tiny, saved):
    (saved/'lm4lv.json').write_text('[]')
    expect(saved, tiny, 'lm4lv.json')

@pytest.mark.parametrize('key', ['llm', 'llm_fingerprint', 'vision', 'tasks', 'task_length', 'template'])
def test_a_missing_key_is_named(tiny, saved, key):
    change(saved, **{key: None})
    expect(saved, tiny, repr(key))

def test_another_language_model_is_refused(tiny, saved, tokenizer):
    other = tiny_model(seed=1, tokenizer=tokenizer)
    with pytest.raises(CheckpointError, match='another language model'): LM4LV.from_pretrained(saved, other.llm, tiny.vision)

def test_another_vision_module_is_refused(tiny, saved, tokenizer):
    other = tiny_model(seed=1, tokenizer=tokenizer)
    with pytest.raises(CheckpointError, match='another vision module'): LM4LV.from_pretrained(saved, tiny.llm, other.vision)

def test_the_same_vision_module_with_another_feature_scaling_is_refused(tiny, saved):
    tiny.vision.feature_std = tiny.vision.feature_std * 2
    with pytest.raises(CheckpointError, match='another vision module'): load(saved, tiny)

def test_a_tensor_of_another_shape_is_named(tiny, saved):
    change(saved, task_length=4)
    expect(saved, tiny, 'tasks.bank.denoise', '(3, 64)', '(4, 64)')

def test_a_task_without_a_tensor_is_named(tiny, saved):
    change(saved, tasks=['denoise', 'flip', 'derain'])
    expect(saved, tiny, 'tasks.bank.derain')

def test_a_vision_module_of_another_width_is_refused_before_its_weights_are_used(tiny, saved):
    mae = new_mae(16, 8, 32, 1, 2, 16, 1).eval()
    with pytest.raises(CheckpointError, match='another vision module'): LM4LV.from_pretrained(saved, tiny.llm, mae)
