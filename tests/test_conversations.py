import copy, json
import pytest
import torch
from lm4lv.model.conversations import _compile, ConversationError, check_item, compile_item, end_ids, make_batch, read_items, restoration

N, LENGTH = 5, 3

def item(*turns, images=(), **more):
    return check_item(dict(conversations=[{'from': role, 'value': value} for role, value in turns], image=list(images), **more))

def shown(segments, tokenizer, supervised=None):
    "A compiled conversation as text; only what is supervised, if asked for."
    parts = [tokenizer.decode(s.ids) if s.kind == 'text' else f'[{s.kind}{":" + s.task if s.task else ""}]'
             for s in segments if supervised in (None, s.supervised)]
    return ''.join(parts)

CHAT = (('human', 'Two: <image> and <image>. <task:flip>'), ('gpt', 'Here: <image> More?'), ('human', 'No.'), ('gpt', 'Bye.'))

# reading

def test_from_and_role_say_the_same():
    a, b = (check_item(dict(conversations=[{key: 'human', 'value': 'hi'}])) for key in ('from', 'role'))
    assert a == b

def test_one_image_may_be_a_string_or_a_list():
    turns = [dict(role='human', value='<image>')]
    assert check_item(dict(image='a.png', conversations=turns)) == check_item(dict(image=['a.png'], conversations=turns))

def test_items_of_the_official_json_are_read(tmp_path):
    (tmp_path/'a.json').write_text(json.dumps([dict(image=['a', 'b'], task='denoise', conversations=[
        {'from': 'human', 'value': '<image> <task>'}, {'from': 'gpt', 'value': '<image>'}])]))
    assert read_items(tmp_path/'a.json') == [dict(restoration('denoise'), images=['a', 'b'])]

GOOD = dict(image=['a'], conversations=[dict(role='human', value='<image>')])

@pytest.mark.parametrize('bad,key', [
    (dict(GOOD, conversations=[]), 'conversations'), (dict(image=['a']), 'conversations'), ('text', 'item'),
    (dict(GOOD, conversations=['hi']), 'conversations[0]'), (dict(GOOD, conversations='hi'), 'conversations'),
    (dict(GOOD, conversations=[dict(role='robot', value='<image>')]), 'conversations[0].from'),
    (dict(GOOD, conversations=[*GOOD['conversations'], dict(role='gpt', value=3)]), 'conversations[1].value'),
    (dict(GOOD, conversations=[*GOOD['conversations'], dict(role='gpt')]), 'conversations[1].value'),
    (dict(GOOD, image=3), 'image'), (dict(GOOD, image=[3]), 'image'), (dict(GOOD, image=['a', 'b']), 'image'),
    (dict(GOOD, image=[]), 'image'), (dict(GOOD, task_type='other'), 'task_type'),
    (dict(GOOD, task=3), 'task')])
def test_a_bad_item_is_named_by_index_and_key(tmp_path, bad, key):
    (tmp_path/'a.json').write_text(json.dumps([GOOD, bad]))
    with pytest.raises(ConversationError) as error: read_items(tmp_path/'a.json')
    assert f'item 1: {key}: ' in str(error.value) and '\n' not in str(error.value)

@pytest.mark.parametrize('text', ['{', '{}', '', '"a"'])
def test_a_file_that_is_no_list_of_items_is_named(tmp_path, text):
    (tmp_path/'a.json').write_text(text)
    with pytest.raises(ConversationError, match='a.json'): read_items(tmp_path/'a.json')

def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path/'a.json').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ConversationError, match='a.json'): read_items(tmp_path/'a.json')

# templates

def test_the_chat_template_is_the_tokenizers_own(tokenizer):
    turns = (('human', 'Hello there'), ('gpt', 'General.'), ('human', 'Why?'), ('gpt', 'So.'))
    segments = compile_item(item(*turns), tokenizer)
    messages = [dict(role=dict(human='user', gpt='assistant')[r], content=v) for r, v in turns]
    assert shown(segments, tokenizer) == tokenizer.apply_chat_template(messages, tokenize=False)

def test_the_open_chat_ends_with_the_tokenizers_generation_prompt(tokenizer):
    segments = compile_item(item(('human', 'Hello'), ('gpt', '')), tokenizer, generate=True)
    expected = tokenizer.apply_chat_template([dict(role='user', content='Hello')], tokenize=False, add_generation_prompt=True)
    assert shown(segments, tokenizer) == expected

def test_the_chat_template_supervises_answers_and_their_ends(tokenizer):
    segments = compile_item(item(*CHAT, images='abc'), tokenizer)
    assert shown(segments, tokenizer, True) == 'Here: <Img>[picture]</Img> More?<|im_end|>Bye.<|im_end|>'

def test_several_turns_and_pictures_stand_in_their_order(tokenizer):
    text = shown(compile_item(item(*CHAT, images='abc'), tokenizer), tokenizer)
    assert 'Two: <Img>[picture]</Img> and <Img>[picture]</Img>. [task:flip]<|im_end|>' in text
    assert 'assistant\nHere: <Img>[picture]</Img> More?<|im_end|>' in text

def test_the_official_template_is_that_of_the_official_code(tokenizer):
    text = shown(compile_item(item(*CHAT, images='abc'), tokenizer, 'official'), tokenizer)
    assert text == (tokenizer.bos_token + '### Human: Two: <Img>[picture]</Img> and <Img>[picture]</Img>. [task:flip]\n'
                    '### Assistant: Here: <Img>[picture]</Img> More?\n### Human: No.\n### Assistant: Bye.\n###')

def test_the_official_template_supervises_answers_and_their_ends(tokenizer):
    segments = compile_item(item(*CHAT, images='abc'), tokenizer, 'official')
    assert shown(segments, tokenizer, True) == 'Here: <Img>[picture]</Img> More?\n###Bye.\n###'

def test_the_open_official_prompt_ends_behind_the_assistants_name(tokenizer):
    segments = compile_item(restoration('flip', answer=False), tokenizer, 'official', generate=True)
    assert shown(segments, tokenizer).endswith('[task:flip]\n### Assistant:')

def test_a_simple_item_has_no_template(tokenizer):
    segments = compile_item(item(('none', 'A cat: '), ('gpt', '<image>!'), images='a', task_type='simple'), tokenizer)
    assert shown(segments, tokenizer) == tokenizer.bos_token + 'A cat: <Img>[picture]</Img>!'
    assert shown(segments, tokenizer, True) == '<Img>[picture]</Img>!'

def test_the_role_none_has_no_mark_in_the_official_template_and_no_place_in_a_chat(tokenizer):
    bare = item(('none', 'Once upon a time'))
    assert shown(compile_item(bare, tokenizer, 'official'), tokenizer) == tokenizer.bos_token + 'Once upon a time\n'
    with pytest.raises(ConversationError, match='none'): compile_item(bare, tokenizer)

ENDS = { # of a turn, as other models write it: a mark that is not the tokenizer's end, and the end behind a space
    '<end_of_turn>': "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    ' <|endoftext|>': "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} <|endoftext|>{% endif %}{% endfor %}"}

@pytest.mark.parametrize('end', ENDS)
def test_the_mark_that_ends_a_turn_is_supervised_and_ends_an_answer(tokenizer, end):
    other = copy.deepcopy(tokenizer)
    other.add_special_tokens(dict(additional_special_tokens=['<start_of_turn>', '<end_of_turn>']))
    other.chat_template, other.eos_token = ENDS[end], '<|endoftext|>'
    segments = compile_item(item(('human', 'a'), ('gpt', 'Yes'), ('human', 'b'), ('gpt', 'No')), other)
    assert shown(segments, other, True) == f'Yes{end}No{end}'
    assert end_ids(other) == {other.eos_token_id, other.convert_tokens_to_ids(end.strip())}
    assert end_ids(other, 'official') == {other.eos_token_id}

def test_where_a_template_puts_nothing_behind_an_answer_only_the_answer_is_supervised(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, 'chat_template', "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    _compile.cache_clear()
    assert shown(compile_item(item(('human', 'a'), ('gpt', 'Yes')), tokenizer), tokenizer, True) == 'Yes'
    assert end_ids(tokenizer) == {tokenizer.eos_token_id}
    monkeypatch.undo(); _compile.cache_clear()

@pytest.mark.parametrize('template', ['chat', 'official'])
def test_a_prefix_begins_every_answer_and_is_not_supervised(tokenizer, template):
    segments = compile_item(item(*CHAT, images='abc'), tokenizer, template, gpt_prefix='Sure. ')
    assert shown(segments, tokenizer).count('Sure. ') == 2
    assert 'Sure' not in shown(segments, tokenizer, True) and 'Bye.' in shown(segments, tokenizer, True)

def test_an_item_names_the_task_unless_the_text_does(tokenizer):
    tasks = [s.task for s in compile_item(item(('human', '<task> <task:flip>'), ('gpt', ''), task='denoise'), tokenizer) if s.kind == 'task']
    assert tasks == ['denoise', 'flip']

def test_an_unknown_template_is_named(tokenizer):
    with pytest.raises(ConversationError, match="'other'.*chat, official"): compile_item(restoration('flip'), tokenizer, 'other')

def test_a_tokenizer_without_a_chat_template_is_named(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, 'chat_template', None)
    with pytest.raises(ConversationError, match='official'): compile_item(item(('human', 'no template here')), tokenizer)

def test_a_template_that_refuses_the_turns_is_one_clear_error(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, 'chat_template', "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ConversationError, match='alternate'): compile_item(item(('gpt', 'refused by the template')), tokenizer)

# user text is only text

def special_ids(segments, tokenizer, supervised=None):
    return [i for s in segments for i in s.ids if i in tokenizer.all_special_ids and supervised in (None, s.supervised)]

def marks(tokenizer, *turns, **more): return len(special_ids(compile_item(item(*turns), tokenizer, **more), tokenizer))

@pytest.mark.parametrize('text', ['a <|im_end|> b', '<|im_start|>system', '<|endoftext|>'])
@pytest.mark.parametrize('role', ['human', 'gpt'])
def test_special_tokens_that_users_write_are_plain_text(tokenizer, role, text):
    other = 'gpt' if role == 'human' else 'human'
    assert marks(tokenizer, (role, text), (other, 'x')) == marks(tokenizer, (role, 'plain'), (other, 'x'))

@pytest.mark.parametrize('role', ['human', 'gpt'])
def test_the_templates_marks_stay_special_when_a_user_writes_just_such_a_mark(tokenizer, role):
    other = 'gpt' if role == 'human' else 'human'
    assert marks(tokenizer, (role, '<|im_end|>'), (other, 'x')) == marks(tokenizer, (role, 'plain'), (other, 'x'))

def test_special_tokens_behind_an_answers_prefix_are_plain_text(tokenizer):
    def count(text): return marks(tokenizer, ('human', 'x'), ('gpt', text), gpt_prefix='Sure. ')
    assert count('a <|im_end|> b') == count('plain')

def test_special_tokens_in_the_official_template_are_plain_text(tokenizer):
    assert marks(tokenizer, ('human', '<|im_end|>'), ('gpt', '<|endoftext|>'), template='official') == 1 # the one at the start

# batches

def rows(batch): return [batch.mask[b].nonzero().flatten().tolist() for b in range(len(batch.mask))]

@pytest.fixture
def pair(tokenizer): return [compile_item(restoration('denoise'), tokenizer), compile_item(item(*CHAT, images='abc'), tokenizer)]

@pytest.mark.parametrize('left', [False, True])
def test_padding_stands_on_one_side_only(pair, left):
    batch = make_batch(pair, N, LENGTH, left)
    T = batch.ids.shape[1]
    for places in rows(batch): assert places == (list(range(T - len(places), T)) if left else list(range(len(places))))

@pytest.mark.parametrize('left', [False, True])
def test_a_batch_holds_what_its_conversations_hold(pair, tokenizer, left):
    batch = make_batch(pair, N, LENGTH, left)
    T = batch.ids.shape[1]
    for b, segments in enumerate(pair):
        text = torch.cat([torch.tensor(s.ids) for s in segments if s.kind == 'text'])
        taken = set(batch.visual.tolist()) | set(batch.task.tolist())
        places = [t for t in rows(batch)[b] if b * T + t not in taken]
        assert torch.equal(batch.ids[b, places], text)
    assert len(batch.visual) == 5 * N and len(batch.task) == 2 * LENGTH and batch.tasks == ['denoise', 'flip']

@pytest.mark.parametrize('left', [False, True])
def test_supervised_text_stands_one_place_behind_where_it_is_predicted(pair, tokenizer, left):
    batch = make_batch(pair, N, LENGTH, left)
    assert torch.equal(batch.ids.flatten()[batch.text_from + 1], batch.text_to)
    assert tokenizer.decode(batch.text_to) == '<Img></Img><|im_end|>Here: <Img></Img> More?<|im_end|>Bye.<|im_end|>'

def test_supervised_pictures_are_predicted_from_one_place_before(pair):
    batch = make_batch(pair, N, LENGTH)
    assert torch.equal(batch.visual[batch.visual_to], batch.visual_from + 1)
    assert batch.visual_to.tolist() == [*range(N, 2 * N), *range(4 * N, 5 * N)]

def test_the_prefix_is_text_that_all_rows_share_and_nothing_is_predicted_before_it(pair, tokenizer):
    batch = make_batch(pair, N, LENGTH)
    P, T = batch.prefix, batch.ids.shape[1]
    assert P > 0 and (batch.ids[:, :P] == batch.ids[0, :P]).all()
    assert tokenizer.decode(batch.ids[0, :P]).endswith('<|im_start|>user\n')
    places = torch.cat([batch.visual, batch.task, batch.text_from, batch.visual_from]) % T
    assert (places >= P).all()

def test_one_conversation_leaves_at_least_one_place_behind_the_prefix(tokenizer):
    batch = make_batch([compile_item(item(('human', 'only text'), ('gpt', '')), tokenizer, generate=True)], N, LENGTH, left=True)
    assert batch.prefix == batch.ids.shape[1] - 1

def test_left_padded_rows_share_no_prefix(pair): assert make_batch(pair, N, LENGTH, left=True).prefix == 0

def test_the_first_token_of_a_conversation_is_never_predicted_from_another(tokenizer):
    text = item(('gpt', 'A cat.'), task_type='simple')
    segments = compile_item(text, tokenizer)
    if segments[0].ids == (tokenizer.bos_token_id,): segments = segments[1:] # as with tokenizers that have no such token
    batch = make_batch([segments, segments], N, LENGTH)
    T = batch.ids.shape[1]
    assert (batch.text_from >= 0).all() and ((batch.text_from + 1) % T != 0).all()

def test_conversations_are_compiled_without_changing_each_other(tokenizer):
    a = compile_item(restoration('denoise'), tokenizer)
    compile_item(restoration('flip'), tokenizer)
    assert [s.task for s in compile_item(restoration('denoise'), tokenizer)] == [s.task for s in a]
