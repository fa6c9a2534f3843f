"In-context restoration: what stands in a prompt, what may be written, the controls, and a measurement that can be stopped."
import json
from collections import Counter
import pytest, torch
from families import write_llm
from lm4lv.ablations.in_context import (CONTROLS, PROMPTS, SHARES, TASKS, Prompts, Trial, continue_words, copy_nearest, corrupted, _wanted,
                                        count_ngrams, gathered, hidden_words, language_writer, measure, restore_words, vote)
from lm4lv.llm.frozen import load_llm
from lm4lv.vision.v2l import V2LNetwork, V2LVision, Words, candidates

@pytest.fixture(scope='module')
def little(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp('little')
    write_llm('llama', tokenizer, folder)
    return load_llm(folder)

@pytest.fixture(scope='module')
def vision(little):
    texts = candidates(little.tokenizer.get_vocab(), 64)
    torch.manual_seed(0)
    words = Words(list(texts), list(texts.values()), little.name, torch.randn(64, 12))
    return V2LVision(V2LNetwork(64, 12, 4, (6, 8)).finish(words.embeddings), words, 32).eval().requires_grad_(False)

@pytest.fixture(scope='module')
def trial(vision):
    rng = torch.Generator().manual_seed(0)
    return Trial(vision, torch.rand(3, 3, 32, 32, generator=rng), torch.rand(10, 3, 32, 32, generator=rng))

def test_corrupted_copies_have_exactly_their_shares_of_other_words():
    ids = torch.randint(0, 50, (4, 64), generator=torch.Generator().manual_seed(1))
    copies = corrupted(ids, 50, torch.Generator().manual_seed(0))
    wrong = (copies != ids[:, None]).sum(-1)
    assert wrong.tolist() == [[round(share * 64) for share in SHARES]] * 4
    assert copies.min() >= 0 and copies.max() < 50
    assert SHARES[0] == .23 and SHARES[-1] == pytest.approx(.5) and len(SHARES) == 10
    assert (copies[0, 0] != copies[0, 1]).any() and not torch.equal(copies, corrupted(ids, 50, torch.Generator().manual_seed(1)))

def test_hidden_words():
    hole = hidden_words('inpaint').tolist()
    assert hole == [18, 19, 20, 21, 26, 27, 28, 29, 34, 35, 36, 37, 42, 43, 44, 45]
    assert hidden_words('outpaint').tolist() == list(range(32, 64)) and len(hidden_words('rotate', 16)) == 256
    with pytest.raises(ValueError, match='expected one of inpaint, outpaint'): hidden_words('dehaze')

@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('prompt', PROMPTS)
@pytest.mark.parametrize('at', [18, 36, 58])
def test_only_the_published_prompt_holds_the_answer(trial, task, prompt, at):
    inputs, outputs, query = trial.ask(task, prompt, at, torch.Generator().manual_seed(0))
    length = 8 if TASKS[task] is None else 10
    assert (inputs.shape[-1], outputs.shape[-1], query.shape) == (length, 2, (3, length))
    if prompt == 'other pictures': assert torch.equal(outputs, trial.other_clean[None, :, at:at + 2])
    else: assert ((outputs == trial.clean[:, None, at:at + 2]).double().mean() > .4)
    if TASKS[task] is None: assert torch.equal(query, trial.clean[:, at - 8:at])
    else: assert torch.equal(query, trial.words(TASKS[task](trial.pictures))[:, at - 8:at + 2])

def test_a_prompt_reads_as_published_and_every_word_is_one_token(trial, little):
    prompts = Prompts(trial.vision.words, little)
    inputs, outputs, query = trial.ask('inpaint', 'published', 18, torch.Generator().manual_seed(0))
    examples, question = prompts(inputs, outputs, query)
    texts = trial.vision.words.texts
    write = lambda ids: ' '.join(texts[i] for i in ids)
    lines = little.tokenizer.decode(torch.cat([examples, question], 1)[1]).split('\n')
    assert lines[0] == 'Learn a new language and predict the 2 words that follow, as in the examples.'
    assert lines[3] == f'Input: {write(inputs[1, 2])}, output: {write(outputs[1, 2])}'
    assert lines[11] == f'Input: {write(query[1])}, output:' and len(lines) == 12
    shared, _ = prompts(inputs[:1], outputs[:1], query)
    assert torch.equal(shared, examples[:1])

def test_the_cached_prefix_and_greedy_words_are_those_of_a_slow_plain_loop(trial, little):
    prompts = Prompts(trial.vision.words, little)
    examples, question = prompts(*trial.ask('deblur', 'other pictures', 20, torch.Generator().manual_seed(0)))
    assert len(examples) == 1 and len(question) == 3
    written = continue_words(little, examples, question, prompts.ids)
    for row, asked in zip(written, question):
        text = torch.cat([examples[0], asked])
        for place in row:
            scores = little.model(text[None]).logits[0, -1]
            best = max(range(64), key=lambda k: scores[prompts.ids[k]].item())
            assert place == best
            text = torch.cat([text, prompts.ids[best:best + 1]])

def test_another_order_of_the_codebook_is_undone(trial, little):
    "With the identity it changes nothing; a method that copies is as good in any order."
    prompts, ask = Prompts(trial.vision.words, little), trial.ask('inpaint', 'published', 18, torch.Generator().manual_seed(0))
    plain = language_writer(prompts, little)(*ask)
    assert torch.equal(language_writer(prompts, little, torch.arange(64))(*ask), plain)
    order, seen = torch.randperm(64, generator=torch.Generator().manual_seed(2)), []
    class Spy:
        ids = prompts.ids
        def __call__(self, *parts): seen.append(parts); return prompts(*parts)
    written = language_writer(Spy(), little, order)(*ask)
    assert torch.equal(seen[0][2], order[ask[2]])
    raw = continue_words(little, *prompts(*(order[x] for x in ask)), prompts.ids)
    assert torch.equal(order[written], raw)

def test_bad_prompts_are_one_clear_line(trial, little, vision):
    prompts = Prompts(vision.words, little)
    examples, question = prompts(*trial.ask('inpaint', 'published', 18, torch.Generator()))
    most = little.model.config.max_position_embeddings
    long = examples.repeat(1, most // examples.shape[1] + 1)
    with pytest.raises(ValueError, match=rf'a prompt of \d+ tokens, .* reads {most}: show fewer examples'):
        continue_words(little, long, question, prompts.ids)
    foreign = Words(vision.words.texts, [i + 1 for i in vision.words.ids], 'another model')
    with pytest.raises(ValueError, match='codebook of another model.*in the vocabulary of'): Prompts(foreign, little)
    with pytest.raises(ValueError, match=r'takes \(B, 3, 32, 32\)'): Trial(vision, torch.rand(1, 3, 40, 40), torch.rand(10, 3, 40, 40))

def slow_vote(rows): # the first of the most frequent
    counts = Counter(rows)
    return next(word for word in rows if counts[word] == max(counts.values()))

def test_controls_against_plain_versions():
    rng = torch.Generator().manual_seed(3)
    inputs, outputs = torch.randint(0, 6, (5, 10, 8), generator=rng), torch.randint(0, 6, (5, 10, 2), generator=rng)
    query = torch.randint(0, 6, (5, 8), generator=rng)
    voted, copied, counted, last = (method(inputs, outputs, query) for method in CONTROLS.values())
    assert torch.equal(last, query[:, 6:])
    for b in range(5):
        assert voted[b].tolist() == [slow_vote(outputs[b, :, k].tolist()) for k in range(2)]
        same = [(inputs[b, e] == query[b]).sum().item() for e in range(10)]
        assert copied[b].tolist() == outputs[b, same.index(max(same))].tolist()
    assert counted.shape == (5, 2)
    inputs = torch.tensor([[[1, 2, 3, 4], [1, 2, 9, 9], [8, 8, 3, 4]]])
    outputs = torch.tensor([[[5, 6], [7, 6], [7, 0]]])
    assert count_ngrams(inputs, outputs, torch.tensor([[1, 2, 3, 4]])).tolist() == [[5, 6]]
    assert count_ngrams(inputs, outputs, torch.tensor([[0, 0, 9, 9]])).tolist() == [[7, 6]] # backs off to two words
    assert count_ngrams(inputs, outputs, torch.tensor([[0, 0, 3, 4]]), 3).tolist() == [[5, 6]]

def test_errors_are_of_the_asked_words_alone(trial):
    right = trial.errors(18, trial.clean[:, 18:20])
    drawn = trial.vision.draw(trial.clean.view(-1, 8, 8)).clamp(0, 1)
    pixels = (drawn - trial.pictures).square()[:, :, 8:12, 8:16].mean((1, 2, 3)) # words 18 and 19: third row, third and fourth
    assert torch.allclose(right, pixels, atol=1e-6)

def test_writing_all_hidden_words(trial, little):
    assert torch.equal(restore_words(trial, 'inpaint', 'published', vote), trial.clean)
    assert restore_words(trial, 'repeat', 'published', lambda a, b, query: query[:, :2]).shape == (3, 64)
    written = restore_words(trial, 'inpaint', 'other pictures', language_writer(Prompts(trial.vision.words, little), little))
    kept = [i for i in range(64) if i not in hidden_words('inpaint').tolist()]
    assert torch.equal(written[:, kept], trial.clean[:, kept]) and (written != trial.clean).any()

def test_no_method_sees_a_hidden_word_of_the_question(trial):
    known, seen = trial.clean.clone(), []
    def spy(inputs, outputs, query):
        seen.append(query)
        return torch.full((len(query), 2), 63)
    restore_words(trial, 'outpaint', 'other pictures', spy)
    assert torch.equal(seen[0], known[:, 24:32]) and (seen[-1] == 63).all()

def test_a_measurement_goes_on_where_it_was_stopped(tmp_path, vision, little):
    options = dict(pictures=4, seeds=1, at_once=2, vision=vision, llm=little)
    first = measure(tmp_path/'a.json', seconds=0, **options)
    assert [key for key, row in first['rows'].items() if 'language model' in row['methods']] == ['0/0/inpaint/published']
    assert all(set(CONTROLS) <= set(row['methods']) for row in first['rows'].values())
    whole = measure(tmp_path/'a.json', **options)
    assert whole == json.loads((tmp_path/'a.json').read_text())
    assert len(whole['rows']) == 2 * len(TASKS) * len(PROMPTS)
    now, before = (result['rows']['0/0/inpaint/published'] for result in (whole, first))
    assert {name: now['methods'][name] for name in before['methods']} == before['methods'] and now['at'] == before['at']
    values, photographs = gathered(whole, 'inpaint', 'published', 'majority vote')
    assert values.tolist() == [1.] * 4 and photographs.tolist() == whole['photographs'] and len(set(whole['photographs'])) == 4
    assert set(whole['rows']['0/2/inpaint/other pictures']['methods']) == {*CONTROLS, 'language model', 'shuffled words', 'random weights'}
    assert 'random weights' in whole['rows']['0/2/deblur/published']['methods'] # with the first seed; with others where it matters most
    assert not _wanted('random weights', 'deblur', 1) and _wanted('random weights', 'inpaint', 1) and _wanted('language model', 'deblur', 1)
    with pytest.raises(ValueError, match='other settings'): measure(tmp_path/'a.json', **dict(options, pictures=6))

def test_crops_of_one_photograph_are_one_group_and_decisive_tasks_come_first(tmp_path, base, vision, little):
    result = measure(tmp_path/'a.json', images=str(base/'photos'), others=str(base/'photos'), pictures=6, seeds=1, at_once=3, seconds=0, vision=vision, llm=little)
    assert result['photographs'] == [0, 0, 1, 2, 2, 3] # two crops of each of four photographs, of which six are taken
    assert gathered(result, 'inpaint', 'published', '5-gram count')[1].tolist() == result['photographs']
    assert gathered(result, 'inpaint', 'published', 'language model')[1].tolist() == [0, 0, 1]
    asked = []
    for _ in range(5):
        later = measure(tmp_path/'a.json', images=str(base/'photos'), others=str(base/'photos'), pictures=6, seeds=1, at_once=3, seconds=0, vision=vision, llm=little)
        asked = [key for key, row in later['rows'].items() if 'language model' in row['methods']]
    assert {key.split('/')[2] for key in asked} == {'inpaint', 'deblur'} and len(asked) == 6
