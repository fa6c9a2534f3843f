"What is shared: the folder that goes to the hub, its card, and what comes back from there."
import json
import pytest
import torch
from lm4lv.model import storing
from lm4lv.model.next_element import LM4LV
from lm4lv.model.storing import CheckpointError, card_text, checkpoint_folder, measured, public
from lm4lv.model.task_models import TaskModels

class Hub:
    "Stands for `HfApi`: keeps what is uploaded."
    def __init__(self, folder): self.folder, self.asked = folder, {}
    def __call__(self, token=None): return self
    def create_repo(self, repo_id, **asked):
        self.asked |= asked
        return type('Url', (), dict(repo_id=repo_id))
    def upload_folder(self, folder_path, **asked):
        import shutil
        shutil.copytree(folder_path, self.folder)
        self.asked |= asked
        return 'https://hub/commit'

@pytest.fixture
def hub(tmp_path, monkeypatch):
    made = Hub(tmp_path/'hub')
    monkeypatch.setattr('huggingface_hub.hub_mixin.HfApi', made)
    return made

def files(folder): return sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())

def test_what_is_uploaded_can_be_loaded_and_says_what_it_is(hub, checkpoint, tmp_path):
    model = LM4LV.from_pretrained(checkpoint)
    model.save_pretrained(tmp_path/'mine')
    record = dict(samples=1234, seconds=5.6, settings=dict(images='/home/somebody/photos', fit=dict(seed=7)), validation=dict(
        denoise=dict(psnr=24.618, degraded=22.07, mae_r=22.43, ceiling=41.02, photographs=40)))
    (tmp_path/'mine'/'training_record.json').write_text(json.dumps(record))
    assert model.push_to_hub('owner/name', private=True, branch='tried') == 'https://hub/commit'
    assert hub.asked['private'] and hub.asked['revision'] == 'tried'
    assert {'README.md', 'adapters.safetensors', 'lm4lv.json', 'training_record.json', 'vision/config.json'} <= set(files(hub.folder))
    assert not [name for name in files(hub.folder) if name.endswith(('.bin', '.pt', '.pkl'))] and 'config.json' not in files(hub.folder)
    again = LM4LV.from_pretrained(hub.folder, llm=model.llm)
    assert all(torch.equal(a, b) for a, b in zip(model.trained_state().values(), again.trained_state().values()))
    card = (hub.folder/'README.md').read_text()
    for said in ('license: apache-2.0', 'library_name: lm4lv', '- Samples: 1,234', '- Photographs: photos', '- Seed: 7',
                 '| denoise | 22.07 | 22.43 | 24.62 | 41.02 | 40 photographs |', "from_pretrained('owner/name')", '## Limits', '2405.15734'): assert said in card, said
    for name in files(hub.folder):
        if name.endswith(('.json', '.md')): assert str(tmp_path) not in (hub.folder/name).read_text() and 'somebody' not in (hub.folder/name).read_text(), name

def test_without_a_record_the_card_says_so(hub, tiny):
    tiny.push_to_hub('owner/name')
    card = (hub.folder/'README.md').read_text()
    assert 'No training record' in card and 'Nothing was measured' in card and files(hub.folder) == ['README.md', 'adapters.safetensors', 'lm4lv.json']

def test_a_report_of_evaluate_makes_the_table(hub, tiny):
    rows = {key: dict(psnr=value) for key, value in dict(degraded=1, classical=2, mae_r=3, lm4lv=4, ceiling=5).items()}
    rows = dict(rows, n=72, photographs=24)
    tiny.push_to_hub('owner/name', results=dict(tasks=dict(flip=rows, other=rows)))
    assert '| other |' not in (hub.folder/'README.md').read_text()
    assert '| flip | 1.00 | 2.00 | 3.00 | 4.00 | 5.00 | 72 crops of 24 photographs |' in (hub.folder/'README.md').read_text()

def test_the_shipped_records_make_tables():
    for name in ('', 'bank', 'repeat'):
        record = json.loads((storing.WEIGHTS/'lm4lv'/name/'training_record.json').read_text())
        tables = measured(record)
        assert tables and all({'degraded', 'mae_r', 'lm4lv', 'ceiling'} <= row.keys() for row in tables.values()), name

@pytest.mark.parametrize('private,shown', [
    ('/home/me/photos', 'photos'), ('C:\\Users\\me\\photos', 'photos'), ('~/photos', 'photos'), ('../photos/train', 'train'), ('builtin', 'builtin'),
    ('train --images /data/a/b --save ./runs/x lr=1e-3', 'train --images b --save x lr=1e-3'), ('images=/a/b', 'images=b'),
    ('1,220 photographs (300 of BSDS)', '1,220 photographs (300 of BSDS)'), ('crops and/or tiles', 'crops and/or tiles'), (3, 3), (None, None)])
def test_paths_of_this_machine_stay_here(private, shown): assert public(dict(a=[private])) == dict(a=[shown])

def test_saving_writes_two_files_and_removes_none(tiny, tmp_path):
    (tmp_path/'config.json').write_text('mine')
    tiny.save_pretrained(tmp_path)
    assert files(tmp_path) == ['adapters.safetensors', 'config.json', 'lm4lv.json'] and (tmp_path/'config.json').read_text() == 'mine'

def test_a_checkpoint_comes_from_the_hub(checkpoint, monkeypatch):
    asked = {}
    def fetch(name, **more):
        asked.update(more, name=name)
        return str(checkpoint)
    monkeypatch.setattr(storing, 'snapshot_download', fetch)
    model = LM4LV.from_pretrained('owner/name', revision='v1')
    assert asked['name'] == 'owner/name' and asked['revision'] == 'v1' and model.tasks.names == ['denoise', 'flip']
    assert '*.safetensors' in asked['allow_patterns'] and not any('bin' in p for p in asked['allow_patterns'])
    assert list(TaskModels('owner/name')) == ['denoise', 'flip']

def test_without_a_network_it_is_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    with pytest.raises(CheckpointError, match='nobody/nothing: no LM4LV checkpoint: .*hub') as caught: LM4LV.from_pretrained('nobody/nothing')
    assert '\n' not in str(caught.value)
    monkeypatch.chdir(tmp_path)
    (tmp_path/'runs').mkdir()
    monkeypatch.setattr(storing, 'snapshot_download', None) # a folder that could be here is not asked for elsewhere
    assert str(checkpoint_folder('runs/denoise')) == 'runs/denoise'

def test_a_card_counts_the_runs_that_weights_went_on_from_and_shows_their_crops():
    row = dict(psnr=26.19, degraded=24.49, mae_r=21.21, ceiling=47.52, crops=80, photographs=40)
    first = dict(samples=1600, seconds=500., command='lm4lv train steps=200', validation={'small crops': dict(derain=dict(row, psnr=25.))})
    record = dict(samples=4000, seconds=1500., command='lm4lv train steps=500', validation={'small crops': dict(derain=row)}, earlier=[first])
    assert measured(record)['derain'] == dict(degraded=24.49, mae_r=21.21, ceiling=47.52, lm4lv=26.19, n=80, photographs=40)
    said = storing._training(record)
    assert 'Samples: 5,600' in said and 'Seconds: 2,000' in said and 'steps=500' in said
