"""For the checked exercise of each chapter: an answer, and plausible wrong ones with words of the hint that they must get."""

ANSWERS = {
    '00_photos': ('''
import hashlib
def side_of(name): return 'test' if hashlib.sha256(name.encode()).digest()[0] < 51 else 'train'
''', [('def side_of(name): return "test" if hash(name) % 5 == 0 else "train"', 'hashlib does not'),
      ('import random\ndef side_of(name): return random.choices(["train", "test"], [4, 1])[0]', 'nothing but the name')]),
    '01_degradations': ('''
def salt(image, share, rng):
    return image.masked_fill(torch.rand(image.shape[1:], generator=rng) < share, 1.)
''', [('def salt(image, share, rng): return image.masked_fill(torch.rand(image.shape, generator=rng) < share, 1.)', 'one number for a pixel'),
      ('def salt(image, share, rng): return image.masked_fill_(torch.rand(image.shape[1:], generator=rng) < share, 1.)', 'work on a copy')]),
    '02_metrics': ('''
def forgiving_psnr(a, b):
    return torch.stack([psnr(a, b), psnr(a[..., 1:], b[..., :-1]), psnr(a[..., :-1], b[..., 1:])]).amax(0)
''', [('def forgiving_psnr(a, b): return torch.stack([psnr(a, b.roll(s, -1)) for s in (-1, 0, 1)]).amax(0)', 'goes around the edge'),
      ('def forgiving_psnr(a, b): return max([psnr(a, b), psnr(a[..., 1:], b[..., :-1]), psnr(a[..., :-1], b[..., 1:])], key=lambda x: x.mean())', 'a best shift of its own')]),
    '02a_loop': ('''
import math
def rate(step, steps, warmup, peak):
    if step < warmup: return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
''', [('import math\ndef rate(step, steps, warmup, peak):\n    if step < warmup: return peak * step / warmup\n    return peak', 'throws it away'),
      ('import math\ndef rate(step, steps, warmup, peak):\n    if step < warmup: return peak * (step + 1) / warmup\n    return peak * (1 + math.cos(math.pi * (step - warmup) / steps)) / 2', 'not over all')]),
    '03_mae': ('''
def mask_picture(mask, side):
    n = round(mask.shape[1] ** 0.5)
    return mask.view(-1, n, n).repeat_interleave(side, 1).repeat_interleave(side, 2)
''', [('def mask_picture(mask, side): return mask.view(-1, 2, 2).repeat(1, side, side)', 'the mask is tiled'),
      ('def mask_picture(mask, side): return mask.view(-1, 2, 2).transpose(1, 2).repeat_interleave(side, 1).repeat_interleave(side, 2)', 'rows and columns')]),
    '03a_mae_training': ('''
def pca_error(patches, k):
    centred = patches - patches.mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False)[2][:k]
    return (centred - centred @ directions.T @ directions).pow(2).mean()
''', [('def pca_error(patches, k):\n    d = torch.linalg.svd(patches, full_matrices=False)[2][:k]\n    return (patches - patches @ d.T @ d).pow(2).mean()', 'the first component points at the mean'),
      ('def pca_error(patches, k):\n    c = patches - patches.mean(0)\n    d = torch.linalg.svd(c, full_matrices=False)[2][:k]\n    return (patches - c @ d.T @ d).pow(2).mean()', 'has the mean been put back')]),
    '03b_layers': ('''
def causal_mean(x):
    return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
''', [('def causal_mean(x): return x.mean(1, keepdim=True).expand_as(x)', 'the future must stay hidden'),
      ('def causal_mean(x): return x.cumsum(1)', 'by how many it has seen')]),
    '04_llm': ('''
def perplexity(logits, ids):
    return torch.nn.functional.cross_entropy(logits[:-1], ids[1:]).exp()
''', [('def perplexity(logits, ids): return torch.nn.functional.cross_entropy(logits, ids).exp()', 'the word at t + 1'),
      ('def perplexity(logits, ids): return torch.nn.functional.cross_entropy(logits[:-1], ids[1:])', 'a perplexity of 8')]),
    '05_adapters': ('''
def undo(weight, bias):
    back = torch.linalg.pinv(weight)
    return back, -back @ bias
''', [('def undo(weight, bias): return weight.T, -weight.T @ bias', 'Look for pinv'),
      ('def undo(weight, bias):\n    back = torch.linalg.pinv(weight)\n    return back, torch.zeros(len(back))', 'undone before')]),
    '06_conversations': ('''
def prompt_of(row):
    return row[:next((t for t, token in enumerate(row) if token[2]), len(row))]
''', [('def prompt_of(row): return [token for token in row if not token[2]]', 'do not drop them'),
      ('def prompt_of(row): return row[:next(t for t, token in enumerate(row) if token[2])]', 'StopIteration')]),
    '06a_items': ('''
def line_places(data):
    places, place = [], 0
    for line in data.splitlines(keepends=True):
        if line.strip(): places.append(place)
        place += len(line)
    return places
''', [('def line_places(data):\n    places, place = [], 0\n    for line in data.decode().splitlines(keepends=True):\n        if line.strip(): places.append(place)\n        place += len(line)\n    return places', 'count characters'),
      ('def line_places(data):\n    places, place = [], 0\n    for line in data.splitlines(keepends=True):\n        places.append(place)\n        place += len(line)\n    return places', 'are no items')]),
    '07_next_element': ('''
def mix(true, guess, share, rng):
    return torch.where(torch.rand(*true.shape[:2], 1, generator=rng) < share, guess, true)
''', [('def mix(true, guess, share, rng): return torch.where(torch.rand(true.shape, generator=rng) < share, guess, true)', 'torn apart'),
      ('def mix(true, guess, share, rng): return (1 - share) * true + share * guess', 'were averaged'),
      ('def mix(true, guess, share, rng): return torch.where(torch.rand(1, true.shape[1], 1, generator=rng) < share, guess, true)', 'draw for each picture')]),
    '08_generation': ('''
def chances(logits, temperature, top):
    best = logits.topk(top).indices
    kept = torch.full_like(logits, float('-inf')).index_copy(0, best, logits[best])
    return (kept / temperature).softmax(-1)
''', [('def chances(logits, temperature, top):\n    p = (logits / temperature).softmax(-1)\n    return p * (p >= p.topk(top).values[-1])', 'no longer sum to one'),
      ('def chances(logits, temperature, top):\n    best = logits.topk(top).indices\n    return (torch.full_like(logits, float("-inf")).index_copy(0, best, logits[best]) * temperature).softmax(-1)', 'do not multiply')]),
    '08a_speed': ('''
from statistics import median
def speedup(slow, fast): return median(s / f for s, f in zip(slow, fast))
''', [('def speedup(slow, fast): return sum(slow) / sum(fast)', 'Take the median'),
      ('from statistics import median\ndef speedup(slow, fast): return median(slow) / median(fast)', 'in each round first')]),
    '09_training': ('''
def whole_loss(losses, sizes): return sum(l * n for l, n in zip(losses, sizes)) / sum(sizes)
''', [('def whole_loss(losses, sizes): return sum(losses) / len(losses)', 'weigh each part')]),
    '10_evaluation': ('''
def exchanged(n, rng):
    order = torch.randperm(n, generator=rng)
    found = torch.empty(n, dtype=torch.long)
    found[order] = order.roll(1)
    return found
''', [('def exchanged(n, rng): return torch.randperm(n, generator=rng)', 'stay where they are'),
      ('def exchanged(n, rng): return (torch.arange(n) + 1).clamp_max(n - 1)', 'exactly once')]),
    '15_full_scale': ('''
def bytes_needed(trained, frozen, frozen_bytes=2): return 16 * trained + frozen_bytes * frozen
''', [('def bytes_needed(trained, frozen, frozen_bytes=2): return 16 * (trained + frozen)', 'neither gradients nor moments'),
      ('def bytes_needed(trained, frozen, frozen_bytes=2): return 12 * trained + frozen_bytes * frozen', 'two moments')]),
    '20_cli': ('''
def setting(text):
    key, equals, value = text.partition('=')
    if not key or not equals: raise ValueError(f'setting {text!r}: expected key=value')
    return key, value
''', [('def setting(text):\n    key, value = text.split("=")\n    return key, value', 'split at the first one'),
      ('def setting(text):\n    key, equals, value = text.partition("=")\n    if not key or not equals: raise ValueError("expected key=value")\n    return key, value', 'name the text'),
      ('def setting(text):\n    key, _, value = text.partition("=")\n    return key, value', 'was accepted')]),
}
