"Every chapter leads to the index, to the one before and to the one after."
import json, re
import pytest
from navigation import START, NBS, chapters, is_main, line, neighbours, number, with_line, wrong

def test_every_chapter_has_its_line(): assert not [str(p.relative_to(NBS)) for p in wrong()], 'run: python tests/navigation.py'

def test_the_order_is_that_of_the_index():
    index = json.loads((NBS/'index.ipynb').read_text(encoding='utf-8'))
    table = next(''.join(o['data']['text/markdown']) for c in index['cells'] if 'def module(stem)' in ''.join(c['source']) for o in c['outputs'])
    listed = re.findall(r'^\| \[[^\]]*\]\((\S+\.ipynb)\)', table, re.M)
    here = [p.relative_to(NBS).as_posix() for p in chapters()]
    assert [p for p in here if p in listed] == listed

def test_following_the_links_leads_through_all():
    listed = chapters()
    main = [p for p in listed if is_main(p)]
    for order in (main, [p for p in listed if not is_main(p)]):
        for path in order:
            before, after = neighbours(path, listed)
            assert (before is None) == (path == listed[0]) and (after is None) == (path == listed[-1])
    assert [neighbours(p, listed)[1] for p in main[:-1]] == main[1:] and [neighbours(p, listed)[0] for p in main[1:]] == main[:-1]
    assert {target for p in listed for target in linked(p)} >= set(listed)

def linked(path): return [(path.parent/address).resolve() for address in re.findall(r'\]\(([^)]+)\)', line(path, chapters()))]

@pytest.mark.parametrize('path', chapters(), ids=number)
def test_every_link_leads_somewhere(path): assert all(target.exists() for target in linked(path)) and len(linked(path)) >= 2

def test_the_line_takes_the_place_of_an_earlier_one():
    assert with_line('a\n\n' + START + ' · old\n\nb', 'new') == 'a\n\nnew\n\nb'
    assert with_line('a', START) == f'a\n\n{START}' and with_line('', START) == START
