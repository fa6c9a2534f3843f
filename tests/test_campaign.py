"A small version of tests/campaign.py: nothing but clean lines, nothing lost, nothing silently wrong."
import json, sys
import pytest
from conftest import ROOT
import campaign

@pytest.fixture(scope='module')
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp('campaign')
    campaign.make_kit(folder)
    return folder

def test_strange_pictures(base):
    part = campaign.pictures(base, 40, seed=1)
    assert not part.faults and part.counts['restore: results'] > 10 and part.counts['restore: named'] > 10 and part.counts['evaluate --count 4: measured'] == 4

def test_bad_settings(base):
    part = campaign.settings(base, 15, seed=1)
    assert not part.faults and part.counts['refused'] > 5

def test_spoiled_checkpoints(base):
    part = campaign.checkpoints(base, 16, seed=1)
    assert not part.faults and part.counts['refused'] > 8

@pytest.mark.skipif(sys.platform == 'win32', reason='kill -9')
def test_kills(base):
    part = campaign.kills(base, 2)
    assert not part.faults and part.counts['killed while it ran'] >= 1

def test_what_the_whole_campaign_counted():
    report = json.loads((ROOT/'nbs'/'results'/'campaign.json').read_text())
    assert report['faults'] == sum(len(part['faults']) for part in report['parts'].values()) and report['parts']['pictures']['pictures'] >= 300

def test_a_fault_would_be_seen():
    from fresh import CompletedProcess
    assert campaign.complaints(CompletedProcess([], 0, '', '')) == []
    assert campaign.complaints(CompletedProcess([], 1, '', 'Traceback (most recent call last):\nKeyError: 3'), (0, 1))[0].startswith('traceback: KeyError')
    assert campaign.complaints(CompletedProcess([], -9, '', '')) == ['exit code -9']
    assert campaign.refused(CompletedProcess([], 2, '', 'lm4lv: error: no')) == [] and campaign.refused(CompletedProcess([], 0, '', ''))
