"lm4lv answer and lm4lv score: from the official repository's kind of files to pictures, words and numbers."
import json
import pytest
import torch
from PIL import Image
from lm4lv.app.answering import answer_items, choose_model, commonest, looks_at, open_item, question
from lm4lv.evaluation.scoring import pair_files, score_folders
from lm4lv.images.metrics import psnr
from lm4lv.images.photos import PhotoError, open_photo, to_tensor
from lm4lv.model.conversations import ConversationError, check_item
from lm4lv.model.generation import Answer
from lm4lv.model.next_element import tiny_model

@pytest.fixture(scope='module')
def official(tmp_path_factory):
    "A test file in the official format, with its pictures in a folder with an unusual name."
    folder = tmp_path_factory.mktemp('prüfung')
    for i in range(3): Image.effect_noise((40, 30), 60).convert('RGB').save(folder/f'ü{i}.png')
    items = [{'task_type': 'conversation', 'image': [str(folder/f'ü{i}.png')], 'task': 'denoise', 'conversations': [
        {'from': 'human', 'value': '<image> <task>'}, {'from': 'gpt', 'value': ''}]} for i in range(3)]
    (folder/'test.json').write_text(json.dumps(items))
    return folder

def answered(out): return json.loads((out/'answers.json').read_text())

def test_a_test_file_is_answered_in_pictures_and_its_answers_are_questions_again(lm4lv, checkpoint, official, tmp_path):
    done = lm4lv('answer', official/'test.json', '--checkpoint', checkpoint, '--force-image', '--out', tmp_path/'a', '--batch', 2)
    assert done.returncode == 0, done.stderr
    records = answered(tmp_path/'a')
    assert [record['conversations'][-1]['value'] for record in records] == ['<image>'] * 3
    assert [Image.open(record['image'][-1]).size for record in records] == [(16, 16)] * 3
    assert sorted(p.name for p in (tmp_path/'a'/'images').iterdir()) == [f'ü{i}.png' for i in range(3)] # as the official script names them
    again = lm4lv('answer', tmp_path/'a'/'answers.json', '--checkpoint', checkpoint, '--force-image', '--out', tmp_path/'b')
    assert again.returncode == 0 and len(answered(tmp_path/'b')) == 3
    pixels = [[open(r['image'][-1], 'rb').read() for r in answered(tmp_path/name)] for name in 'ab']
    assert pixels[0] == pixels[1] # the answer was left out, and is the same

def test_one_picture_and_one_sentence(lm4lv, checkpoint, photo, tmp_path):
    done = lm4lv('answer', photo, '<image> <task:flip>', '--checkpoint', checkpoint, '--force-image', '--out', tmp_path/'a')
    text, path = done.stdout.splitlines()
    assert done.returncode == 0 and text == '<image>' and Image.open(path).size == (16, 16)
    words = lm4lv('answer', photo, 'What is this?', '--checkpoint', checkpoint, '--max-words', 5, '--prefix', 'A picture of', '--out', tmp_path/'b')
    assert words.returncode == 0 and words.stdout.startswith('A picture of ')
    assert answered(tmp_path/'b')[0]['conversations'][0]['value'] == '<image> What is this?'

def test_what_cannot_be_answered_is_named_and_the_others_are(lm4lv, checkpoint, official, tmp_path):
    items = json.loads((official/'test.json').read_text())
    items[0]['image'], items[1]['task'] = ['no-such.png'], 'sing'
    (tmp_path/'items.json').write_text(json.dumps(items))
    done = lm4lv('answer', tmp_path/'items.json', '--checkpoint', checkpoint, '--force-image', '--out', tmp_path/'a')
    assert done.returncode == 1 and 'no-such.png' in done.stderr and "item 1: task: expected some of denoise, flip, not 'sing'" in done.stderr
    assert '1 of 3 conversations came through' in done.stderr and len(answered(tmp_path/'a')) == 1

@pytest.mark.parametrize('arguments, said', [
    (['no-such.json'], 'no such file'), (['{photo}'], 'expected a sentence'), (['{items}', 'and a sentence'], 'expected a JSON file alone'),
    (['{photo}', '<image> <task>'], 'expected one of denoise, flip'), (['{photo}', '<image> <image>'], '2 pictures')])
def test_wrong_questions_are_one_clear_line(lm4lv, checkpoint, photo, official, tmp_path, arguments, said):
    arguments = [a.format(photo=photo, items=official/'test.json') for a in arguments]
    done = lm4lv('answer', *arguments, '--checkpoint', checkpoint, '--out', tmp_path/'a')
    lines = [line for line in done.stderr.splitlines() if 'loading' not in line]
    assert done.returncode == 2 and len(lines) == 1 and said in lines[0], done.stderr
    assert not (tmp_path/'a'/'answers.json').exists()

def test_answers_are_not_replaced_unasked(lm4lv, checkpoint, photo, tmp_path):
    command = ['answer', photo, '<image> <task:flip>', '--checkpoint', checkpoint, '--force-image', '--out', tmp_path/'a']
    assert lm4lv(*command).returncode == 0
    again = lm4lv(*command)
    assert again.returncode == 2 and '--overwrite' in again.stderr
    assert lm4lv(*command, '--overwrite').returncode == 0

def test_an_open_item_leaves_out_the_answer_and_its_pictures():
    item = check_item(dict(task='denoise', image=['a', 'b', 'c'], conversations=[
        {'from': 'human', 'value': '<image>'}, {'from': 'gpt', 'value': 'One <image> and two <image>'}]))
    assert open_item(item)['images'] == ['a'] and open_item(open_item(item)) == open_item(item)
    assert question('a.png', 'Say.')['turns'] == [('human', '<image> Say.'), ('gpt', '')]

def test_the_model_that_has_the_tasks_answers(tokenizer):
    one, two = (tiny_model(tokenizer=tokenizer, tasks=tasks).eval() for tasks in (('denoise',), ('flip', 'rotate')))
    models = dict(denoise=one, flip=two, rotate=two)
    assert choose_model(models, question('a', '<task:rotate> and <task:flip>')) is two
    assert choose_model(models, question('a', 'What?')) is one
    for sentence, said in (('<task:flip> <task:denoise>', 'no model has all of denoise, flip'), ('<task>', 'expected one of denoise, flip, rotate')):
        with pytest.raises(ConversationError, match=said): choose_model(models, question('a', sentence))

@pytest.fixture
def folders(tmp_path):
    torch.manual_seed(0)
    for kind in ('truth', 'made'):
        (tmp_path/kind/'inner').mkdir(parents=True)
        for name in ('ä.png', 'inner/b.png'): Image.effect_noise((40, 32), 60).convert('RGB').save(tmp_path/kind/name)
    return tmp_path

def test_scores_are_those_of_the_metrics(folders):
    scores = score_folders(folders/'truth', folders/'made', border=4, net=None)
    assert sorted(scores.pictures) == ['inner/b.png', 'ä.png'] and not scores.failed and not scores.missing
    a, b = (to_tensor(open_photo(folders/kind/'ä.png'))[None] for kind in ('truth', 'made'))
    assert scores.pictures['ä.png']['psnr'] == pytest.approx(psnr(b, a, 4).item())
    same = score_folders(folders/'truth', folders/'truth', net=None)
    assert same.means()['psnr'][0] == 100 and same.means()['ssim'][0] == pytest.approx(1)

def test_pairs_of_other_formats_are_found_and_doubtful_ones_named(folders):
    (folders/'made'/'ä.png').rename(folders/'made'/'ä.webp')
    pairs, failed, missing = pair_files(folders/'truth', folders/'made')
    assert [name for name, _, _ in pairs] == ['inner/b.png', 'ä.webp'] and not failed and not missing
    Image.new('RGB', (40, 32)).save(folders/'truth'/'ä.jpg')
    assert 'fit its name' in pair_files(folders/'truth', folders/'made')[1]['ä.webp']

def test_the_command_scores_names_what_it_cannot_and_writes_json(lm4lv, folders):
    done = lm4lv('score', folders/'truth', folders/'made', '--lpips', 'none', '--json', '-')
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report['n'] == 2 and report['psnr'] < 20 and 'psnr_ci' in report
    Image.new('RGB', (20, 20)).save(folders/'made'/'ä.png')
    (folders/'made'/'inner'/'b.png').write_bytes(b'no picture')
    Image.new('RGB', (40, 32)).save(folders/'truth'/'c.png')
    Image.new('RGB', (40, 32)).save(folders/'made'/'d.png')
    done = lm4lv('score', folders/'truth', folders/'made', '--lpips', 'none')
    assert done.returncode == 2 and all(text in done.stderr for text in ('20 x 20 pixels', 'b.png: cannot be read', 'c.png', 'd.png: '))
    (folders/'made'/'c.png').write_bytes((folders/'truth'/'c.png').read_bytes())
    done = lm4lv('score', folders/'truth', folders/'made', '--lpips', 'none')
    assert done.returncode == 1 and 'PSNR 100.00' in done.stdout

def test_wrong_folders_and_settings_are_named(folders):
    (folders/'empty').mkdir()
    with pytest.raises(PhotoError, match='no pictures'): score_folders(folders/'truth', folders/'empty')
    with pytest.raises(ValueError, match='border -1'): score_folders(folders/'truth', folders/'made', border=-1)
    with pytest.raises(ValueError, match='expected alex or vgg'): score_folders(folders/'truth', folders/'made', net='resnet')
    small = score_folders(folders/'truth', folders/'made', border=12, net=None)
    assert 'SSIM needs 11 pixels' in small.failed['ä.png'] and not small.pictures

def test_degrade_restore_score_is_a_loop(lm4lv, checkpoint, folders):
    noisy, restored = folders/'noisy', folders/'restored'
    assert lm4lv('degrade', folders/'truth', '--task', 'denoise', '--out', noisy).returncode == 0
    assert lm4lv('restore', noisy, '--task', 'denoise', '--checkpoint', checkpoint, '--out', restored).returncode == 0
    scores = [json.loads(lm4lv('score', folders/'truth', made, '--lpips', 'none', '--json', '-').stdout)['psnr'] for made in (noisy, restored)]
    assert scores[0] > scores[1] # a random model makes it worse, and the numbers say so
    asked = lm4lv('answer', noisy/'items.json', '--checkpoint', checkpoint, '--force-image', '--out', folders/'answers')
    assert asked.returncode == 0 and len(answered(folders/'answers')) == 2

def test_a_photograph_is_looked_at_as_a_whole_or_through_crops_from_corner_to_corner():
    photo = Image.effect_noise((50, 40), 80).convert('RGB')
    assert [x.shape for x in looks_at([photo], 16)] == [(1, 3, 16, 16)]
    looks, image = looks_at([photo], 16, 2), to_tensor(photo)
    assert len(looks) == 4 and torch.equal(looks[0][0], image[:, :16, :16]) and torch.equal(looks[-1][0], image[:, -16:, -16:])
    assert [x.shape for x in looks_at([photo, photo], 16, 2)] == [(2, 3, 16, 16)] # crops are for a single photograph
    assert [x.shape for x in looks_at([photo.resize((12, 12))], 16, 2)] == [(1, 3, 16, 16)]
    assert [x.shape for x in looks_at([], 16, 2)] == [(0, 3, 16, 16)]

def test_the_commonest_answer_stands():
    answers = [Answer(text) for text in ('rainy', 'noisy', 'noisy', 'rainy', 'clean')]
    assert commonest(answers) is answers[0] and commonest(answers[1:]) is answers[1]

def test_a_command_in_an_answer_is_carried_out_only_where_tools_are_given(official, tmp_path):
    model = tiny_model(tasks=['denoise'], gpt_prefix='Denoise it.').eval()
    asked = [question(str(official/'ü0.png'), 'Mend <image>.')]
    calls = []
    def tool(task, photo):
        calls.append((task, tuple(photo.shape)))
        return 1 - photo
    # the prefix is not part of what the model writes, so nothing is commanded by it
    plain = answer_items(model, asked, tmp_path/'plain', max_words=4, tools=tool)
    assert not calls and len(plain.records[0]['image']) == 1
    from lm4lv.app import answering
    answer = Answer('It is noisy. Denoise it.')
    answering._use(tool, answer, to_tensor(open_photo(official/'ü0.png')))
    assert calls == [('denoise', (3, 30, 40))] and answer.text == 'It is noisy. Denoise it. <image>' and len(answer.pictures) == 1
