"What the official repository's users bring: its data format with its quirks, its template, vision modules and settings of their own."
import json
import pytest
import torch
from PIL import Image
from lm4lv.core.loop import FitConfig, NonFiniteLoss
from lm4lv.images.photos import PhotoError
from lm4lv.model.adapters import Adapters
from lm4lv.model.conversations import ConversationError, check_item, compile_item, end_text, restoration
from lm4lv.model.generation import generate, restore
from lm4lv.model.next_element import LM4LV, tiny_model
from lm4lv.model.other_adapters import make_adapters
from lm4lv.training.datasets import ItemPhotos, PicturePaths, clean_picture, locate
from lm4lv.training.trainer import NextElementLoss, TrainConfig, train

def official_denoising(folder, count=4):
    "As the official example_denoising.json: from/value, absolute paths, a list of pictures, no task."
    items = []
    for i in range(count):
        names = [str((folder/'data'/f'{kind}{i}.png').resolve()) for kind in ('lq', 'hq')]
        items.append({'image': names, 'task_type': 'conversation', 'conversations': [
            {'from': 'human', 'value': '<image> <task>'}, {'from': 'gpt', 'value': '<image>'}]})
    return items

def official_caption(folder):
    "As the official captioning example: one picture as a string, an answer in text."
    return [{'image': str((folder/'data'/'hq0.png').resolve()), 'conversations': [
        {'from': 'human', 'value': 'What is in this picture? <image>'}, {'from': 'gpt', 'value': 'A cat on a mat.'}]}]

@pytest.fixture(scope='module')
def data(base, tmp_path_factory):
    "The two official files and their pictures."
    folder = tmp_path_factory.mktemp('ünicode')
    (folder/'data').mkdir()
    for i in range(4):
        picture = Image.effect_noise((40, 40), 60).convert('RGB')
        picture.save(folder/'data'/f'hq{i}.png')
        picture.point(lambda v: v // 2).save(folder/'data'/f'lq{i}.png')
    (folder/'denoising.json').write_text(json.dumps(official_denoising(folder)))
    (folder/'caption.json').write_text(json.dumps(official_caption(folder)))
    return folder

def settings(base, **more):
    fit = dict(dict(steps=3, batch=2, warmup=1, lr=1e-3, log_every=1), **more.pop('fit', {}))
    return TrainConfig(**dict(dict(llm=str(base/'llm'), vision=str(base/'mae'), task_length=3, warm_start=0, llm_dtype='float32', resize='whole'), **more),
                       fit=FitConfig(**fit))

@pytest.mark.parametrize('name', ['denoising', 'caption'])
def test_official_files_train_resume_and_generate(base, data, tmp_path, name):
    config = lambda steps: settings(base, items=str(data/f'{name}.json'), fit=dict(steps=steps, out=str(tmp_path/'run'), save_every=1))
    train(config(2), progress=False)
    model, log = train(config(4), tmp_path/'model', progress=False)
    assert [entry['step'] for entry in log] == [1, 2, 3, 4] and all(entry['loss'] > 0 for entry in log)
    again = LM4LV.from_pretrained(tmp_path/'model')
    item = ItemPhotos(data/f'{name}.json', size=16)[0]['item']
    open_item = dict(item, turns=item['turns'][:-1] + [('gpt', '')], images=item['images'][:1])
    answer, = generate(again, [open_item], torch.rand(1, 3, 16, 16), max_words=3, force_image=name == 'denoising')
    assert len(answer.pictures) == (name == 'denoising')

def test_an_item_without_a_task_belongs_to_the_only_one_and_else_is_named(tiny, tokenizer):
    item = check_item(official_denoising_item(), 'file.json: item 7')
    alone = tiny_model(tokenizer=tokenizer, tasks=('denoise',))
    assert alone.compile([item]).tasks == ['denoise']
    with pytest.raises(ConversationError, match=r'file.json: item 7: task: expected one of denoise, flip'): tiny.compile([item])

def official_denoising_item(): return dict(image=['a', 'b'], conversations=[{'from': 'human', 'value': '<image> <task>'}, {'from': 'gpt', 'value': '<image>'}])

def test_the_clean_picture_of_an_item_is_the_one_that_is_answered(data):
    assert [path.name for path in (PicturePaths(data/'denoising.json')[i] for i in range(4))] == [f'hq{i}.png' for i in range(4)]
    assert PicturePaths(data/'caption.json')[0].name == 'hq0.png'
    assert clean_picture(check_item(dict(official_denoising_item(), task='flip'))) == 0

def test_a_root_relocates_absolute_paths(tmp_path):
    (tmp_path/'new'/'data').mkdir(parents=True); (tmp_path/'new'/'data'/'a.png').touch()
    assert locate('/somewhere/else/data/a.png', tmp_path/'new') == tmp_path/'new'/'data'/'a.png'
    assert locate('data/a.png', tmp_path/'new') == tmp_path/'new'/'data'/'a.png'
    assert str(locate('/somewhere/b.png', tmp_path)) == '/somewhere/b.png' # named as it was, where it is not there

def test_every_answer_of_the_official_template_learns_its_end(tokenizer):
    item = check_item(dict(conversations=[{'from': 'human', 'value': 'One?'}, {'from': 'gpt', 'value': 'Two.'},
                                          {'from': 'human', 'value': 'Three?'}, {'from': 'gpt', 'value': 'Four.'}]))
    segments = compile_item(item, tokenizer, 'official')
    learned = ''.join(tokenizer.decode(list(s.ids)) for s in segments if s.supervised)
    whole = ''.join(tokenizer.decode(list(s.ids)) for s in segments).replace(tokenizer.bos_token or '\0', '')
    assert learned == 'Two.\n###Four.\n###'
    assert whole == '### Human: One?\n### Assistant: Two.\n### Human: Three?\n### Assistant: Four.\n###'

def test_a_batch_without_pictures_trains_and_one_without_answers_is_named(tiny):
    talk = check_item(dict(conversations=[{'from': 'human', 'value': 'One?'}, {'from': 'gpt', 'value': 'Two.'}]))
    loss, numbers = NextElementLoss(text_every=8)(tiny, dict(items=[talk], images=torch.zeros(0, 3, 16, 16)))
    assert loss > 0 and numbers['text'] > 0
    silent = check_item(dict(task_type='simple', conversations=[{'from': 'none', 'value': 'Nothing to learn.'}]))
    with pytest.raises(ConversationError, match='nothing to learn'): tiny(tiny.compile([silent]), torch.zeros(0, 3, 16, 16))

def test_a_prefix_begins_every_answer_and_is_not_learned(tokenizer, tmp_path):
    model = tiny_model(tokenizer=tokenizer, gpt_prefix='Sure. ').eval()
    segments = compile_item(restoration('denoise'), tokenizer, gpt_prefix='Sure. ')
    prefix = next(s for s in segments if tokenizer.decode(list(s.ids)) == 'Sure. ')
    assert not prefix.supervised
    open_batch = model.compile([restoration('denoise', answer=False)], generate=True)
    assert tokenizer.decode(open_batch.ids[0][-len(prefix.ids):]) == 'Sure. '
    model.save_pretrained(tmp_path)
    assert LM4LV.from_pretrained(tmp_path, model.llm, model.vision).gpt_prefix == 'Sure. '

def test_a_changed_run_is_refused_and_what_may_change_goes_on(base, tmp_path):
    run = lambda **more: train(settings(base, images=str(base/'photos'), **more), progress=False)
    fit = dict(out=str(tmp_path/'run'), save_every=1)
    run(fit=fit)
    _, log = run(fit=dict(fit, steps=5, log_every=2, keep=3))
    assert log[-1]['step'] == 5
    for change, named in ((dict(fit=dict(fit, lr=5e-4)), 'lr=0.001 there, 0.0005 here'), (dict(fit=fit, input_noise=.5), 'input_noise'),
                          (dict(fit=dict(fit, seed=1)), 'seed'), (dict(fit=fit, images='builtin'), 'images')):
        with pytest.raises(ValueError, match=named) as error: train(settings(base, **dict(dict(images=str(base/'photos')), **change)), progress=False)
        assert '--fresh' in str(error.value) and '--save' in str(error.value)

def test_the_command_refuses_a_changed_run_and_begins_anew_when_told(lm4lv, base, tmp_path):
    command = ['train', '--images', base/'photos', 'tasks=denoise', 'steps=2', 'batch=2', 'warm_start=0', 'task_length=3', 'llm_dtype=float32',
               f'llm={base/"llm"}', f'vision={base/"mae"}', '--save', tmp_path/'run']
    assert lm4lv(*command).returncode == 0
    record = (tmp_path/'run'/'training_record.json').read_text()
    changed = lm4lv(*command, 'lr=1e-4')
    assert changed.returncode == 2 and 'lr=0.002 there, 0.0001 here' in changed.stderr and (tmp_path/'run'/'training_record.json').read_text() == record
    fresh = lm4lv(*command, 'lr=1e-4', '--fresh')
    assert fresh.returncode == 0 and json.loads((tmp_path/'run'/'training_record.json').read_text())['settings']['fit']['lr'] == 1e-4

class Halves:
    "A vision module that is no torch module: the mean of each half."
    image_size, num_tokens, feature_dim = 16, 2, 3
    def encode(self, images): return torch.stack([images[..., :8].mean((-1, -2)), images[..., 8:].mean((-1, -2))], 1)
    def decode(self, features): return features.transpose(1, 2)[:, :, None, :].repeat_interleave(8, -1).expand(-1, -1, 16, -1)

def test_a_plain_class_with_the_protocol_is_a_vision_module(tiny):
    model = LM4LV(tiny.llm, Halves(), ['denoise'], task_length=3).eval()
    assert restore(model, torch.rand(2, 3, 16, 16), 'denoise')[0].shape == (3, 16, 16)
    assert set(model.trained_state()) == {'adapters.adapter.weight', 'adapters.adapter.bias', 'adapters.deadapter.weight', 'adapters.deadapter.bias', 'tasks.bank.denoise'}

def test_wrong_pictures_are_named(tiny):
    with pytest.raises(ValueError, match='divide by 255'): restore(tiny, torch.full((1, 3, 16, 16), 200.), 'denoise')
    with pytest.raises(ValueError, match='uint8'): restore(tiny, torch.zeros(1, 3, 16, 16, dtype=torch.uint8), 'denoise')
    with pytest.raises(ValueError, match='3 pictures for conversations with 1'): generate(tiny, [restoration('denoise', answer=False)], torch.rand(3, 3, 16, 16))

def test_a_diverged_training_is_no_success(base, tmp_path):
    with pytest.raises(NonFiniteLoss, match='lower lr'):
        train(settings(base, images=str(base/'photos'), fit=dict(steps=40, lr=1e6, clip=1e9)), tmp_path/'model', progress=False)
    assert not (tmp_path/'model').exists()

def test_an_upload_without_a_network_is_one_clear_line(tiny, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    with pytest.raises(OSError, match='some/where: not uploaded'): tiny.push_to_hub('some/where')

OFFICIAL = [{'from': 'system', 'value': 'Be brief.'}, {'from': 'human', 'value': 'One?'}, {'from': 'gpt', 'value': 'Two.'},
            {'from': 'human', 'value': 'Three?'}, {'from': 'gpt', 'value': 'Four.'}]

LAYOUTS = {'official': 'Be brief.\n### Human: One?\n### Assistant: Two.\n### Human: Three?\n### Assistant: Four.\n###',
           'v1': 'Be brief.###Human: One?###Assistant: Two.###Human: Three?###Assistant: Four.###',
           'vicuna_v1_1': 'Be brief. USER: One? ASSISTANT: Two.</s>USER: Three? ASSISTANT: Four.</s>',
           'bair_v1': 'Be brief. USER: One? GPT: Two.</s>USER: Three? GPT: Four.</s>',
           'llama2': '<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nOne? [/INST] Two. </s><s>[INST] Three? [/INST] Four. </s>',
           'mpt': '<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\nOne?<|im_end|><|im_start|>assistant\nTwo.<|im_end|>'
                  '<|im_start|>user\nThree?<|im_end|><|im_start|>assistant\nFour.<|im_end|>',
           'plain': 'Be brief.\nOne?\nTwo.\nThree?\nFour.\n'}

@pytest.mark.parametrize('template', LAYOUTS)
def test_the_official_list_of_templates_by_name(tokenizer, template):
    segments = compile_item(check_item(dict(conversations=OFFICIAL)), tokenizer, template)
    whole = ''.join(tokenizer.decode(list(s.ids)) for s in segments)
    assert whole in (LAYOUTS[template], f'{tokenizer.bos_token}{LAYOUTS[template]}')
    learned = ''.join(tokenizer.decode(list(s.ids)) for s in segments if s.supervised)
    assert learned.startswith('Two.') and 'Four.' in learned and 'One?' not in learned and 'Be brief.' not in learned
    assert learned.endswith(end_text(template))

def test_a_system_message_of_the_model_and_of_an_item(tokenizer, tmp_path):
    model = tiny_model(tokenizer=tokenizer, system='Mend pictures.', template='vicuna_v1_1').eval()
    written = lambda *turns: tokenizer.decode(model.compile([check_item(dict(conversations=list(turns)))]).ids[0])
    assert 'Mend pictures. USER: One?' in written(*OFFICIAL[1:3])
    assert 'Mend' not in written(*OFFICIAL[:3]) and 'Be brief. USER: One?' in written(*OFFICIAL[:3])
    model.save_pretrained(tmp_path)
    assert LM4LV.from_pretrained(tmp_path, model.llm, model.vision).system == 'Mend pictures.'
    with pytest.raises(ConversationError, match=r'conversations\[1\].from: expected a system message in the first turn only'):
        check_item(dict(conversations=[OFFICIAL[1], OFFICIAL[0]]))
    chat = compile_item(check_item(dict(conversations=OFFICIAL[:3])), tokenizer)
    assert 'Be brief.' in ''.join(tokenizer.decode(list(s.ids)) for s in chat if not s.supervised)

@pytest.mark.parametrize('adapter', ['identity', 'truncated', 'low-rank:4', 'tied', f'{__name__}:Doubling'])
def test_other_adapters_train_are_stored_and_load_by_name(base, tmp_path, adapter):
    model, log = train(settings(base, images=str(base/'photos'), adapter=adapter), tmp_path/'model', progress=False)
    assert log[-1]['loss'] > 0
    again = LM4LV.from_pretrained(tmp_path/'model')
    assert again.adapter_name == adapter and type(again.adapters).__name__ == type(model.adapters).__name__
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(restore(again, x, 'denoise')[0], restore(model, x, 'denoise')[0])

class Doubling(Adapters):
    "Somebody's own adapters."
    def to_llm(self, features): return 2 * self.adapter(features)

def test_adapters_that_are_none_are_named():
    for name, said in (('linaer', 'expected one of linear'), ('no.such:Thing', 'cannot be imported'), ('torch.nn:Linear', 'inherit from'), ('json:loads', 'no torch module')):
        with pytest.raises(ValueError, match=said): make_adapters(name, 8, 16)
