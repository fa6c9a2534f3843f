"""For the checked exercise of each chapter: an answer, and plausible wrong ones with words of the hint that they must get."""

ANSWERS = {
    '01_photographs': ('''
import hashlib
def side_of(name): return 'test' if hashlib.sha256(name.encode()).digest()[0] < 51 else 'train'
''', [('def side_of(name): return "test" if hash(name) % 5 == 0 else "train"', 'hashlib does not'),
      ('import random\ndef side_of(name): return random.choices(["train", "test"], [4, 1])[0]', 'nothing but the name')]),
    '02_degradations': ('''
def salt(image, share, rng):
    return image.masked_fill(torch.rand(image.shape[1:], generator=rng) < share, 1.)
''', [('def salt(image, share, rng): return image.masked_fill(torch.rand(image.shape, generator=rng) < share, 1.)', 'one number for a pixel'),
      ('def salt(image, share, rng): return image.masked_fill_(torch.rand(image.shape[1:], generator=rng) < share, 1.)', 'work on a copy')]),
    '00a_io': ('''
def newest(names):
    whole = [name for name in names if name.startswith('step-')]
    return max(whole, key=lambda name: int(name[5:])) if whole else None
''', [('def newest(names): return max([n for n in names if n.startswith("step-")], default=None)', 'as text'),
      ('def newest(names): return max([n for n in names if "step-" in n], key=lambda n: int(n.split("-")[1]), default=None)', 'never renamed'),
      ('def newest(names): return max([n for n in names if n.startswith("step-")], key=lambda n: int(n[5:]))', 'ValueError')]),
    '03_metrics': ('''
def forgiving_psnr(a, b):
    return torch.stack([psnr(a, b), psnr(a[..., 1:], b[..., :-1]), psnr(a[..., :-1], b[..., 1:])]).amax(0)
''', [('def forgiving_psnr(a, b): return torch.stack([psnr(a, b.roll(s, -1)) for s in (-1, 0, 1)]).amax(0)', 'goes around the edge'),
      ('def forgiving_psnr(a, b): return max([psnr(a, b), psnr(a[..., 1:], b[..., :-1]), psnr(a[..., :-1], b[..., 1:])], key=lambda x: x.mean())', 'a best shift of its own')]),
    '00b_loop': ('''
import math
def rate(step, steps, warmup, peak):
    if step < warmup: return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
''', [('import math\ndef rate(step, steps, warmup, peak):\n    if step < warmup: return peak * step / warmup\n    return peak', 'throws it away'),
      ('import math\ndef rate(step, steps, warmup, peak):\n    if step < warmup: return peak * (step + 1) / warmup\n    return peak * (1 + math.cos(math.pi * (step - warmup) / steps)) / 2', 'not over all')]),
    '04_mae': ('''
def mask_picture(mask, side):
    n = round(mask.shape[1] ** 0.5)
    return mask.view(-1, n, n).repeat_interleave(side, 1).repeat_interleave(side, 2)
''', [('def mask_picture(mask, side): return mask.view(-1, 2, 2).repeat(1, side, side)', 'the mask is tiled'),
      ('def mask_picture(mask, side): return mask.view(-1, 2, 2).transpose(1, 2).repeat_interleave(side, 1).repeat_interleave(side, 2)', 'rows and columns')]),
    '04a_mae_training': ('''
def pca_error(patches, k):
    centred = patches - patches.mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False)[2][:k]
    return (centred - centred @ directions.T @ directions).pow(2).mean()
''', [('def pca_error(patches, k):\n    d = torch.linalg.svd(patches, full_matrices=False)[2][:k]\n    return (patches - patches @ d.T @ d).pow(2).mean()', 'the first component points at the mean'),
      ('def pca_error(patches, k):\n    c = patches - patches.mean(0)\n    d = torch.linalg.svd(c, full_matrices=False)[2][:k]\n    return (patches - c @ d.T @ d).pow(2).mean()', 'has the mean been put back')]),
    '05a_llama_decoder': ('''
def causal_mean(x):
    return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
''', [('def causal_mean(x): return x.mean(1, keepdim=True).expand_as(x)', 'the future must stay hidden'),
      ('def causal_mean(x): return x.cumsum(1)', 'by how many it has seen')]),
    '05b_lora': ('''
def merged(weight, down, up, scale):
    return weight + scale * up @ down
''', [('def merged(weight, down, up, scale): return weight + up @ down', 'the scale is missing'),
      ('def merged(weight, down, up, scale): return weight.add_(scale * up @ down)', 'the frozen matrix itself'),
      ('def merged(weight, down, up, scale): return weight + scale * (up @ down).flip(0)', 'what the two ways give together')]),
    '05_language_model': ('''
def perplexity(logits, ids):
    return torch.nn.functional.cross_entropy(logits[:-1], ids[1:]).exp()
''', [('def perplexity(logits, ids): return torch.nn.functional.cross_entropy(logits, ids).exp()', 'the token at t + 1'),
      ('def perplexity(logits, ids): return torch.nn.functional.cross_entropy(logits[:-1], ids[1:])', 'a perplexity of 8')]),
    '06_adapters': ('''
def undo(weight, bias):
    back = torch.linalg.pinv(weight)
    return back, -back @ bias
''', [('def undo(weight, bias): return weight.T, -weight.T @ bias', 'Look for pinv'),
      ('def undo(weight, bias):\n    back = torch.linalg.pinv(weight)\n    return back, torch.zeros(len(back))', 'undone before')]),
    '07_conversations': ('''
def prompt_of(row):
    return row[:next((t for t, token in enumerate(row) if token[2]), len(row))]
''', [('def prompt_of(row): return [token for token in row if not token[2]]', 'do not drop them'),
      ('def prompt_of(row): return row[:next(t for t, token in enumerate(row) if token[2])]', 'StopIteration')]),
    '10a_large_datasets': ('''
def line_places(data):
    places, place = [], 0
    for line in data.splitlines(keepends=True):
        if line.strip(): places.append(place)
        place += len(line)
    return places
''', [('def line_places(data):\n    places, place = [], 0\n    for line in data.decode().splitlines(keepends=True):\n        if line.strip(): places.append(place)\n        place += len(line)\n    return places', 'count characters'),
      ('def line_places(data):\n    places, place = [], 0\n    for line in data.splitlines(keepends=True):\n        places.append(place)\n        place += len(line)\n    return places', 'are no items')]),
    '08_next_element': ('''
def mix(true, guess, share, rng):
    return torch.where(torch.rand(*true.shape[:2], 1, generator=rng) < share, guess, true)
''', [('def mix(true, guess, share, rng): return torch.where(torch.rand(true.shape, generator=rng) < share, guess, true)', 'torn apart'),
      ('def mix(true, guess, share, rng): return (1 - share) * true + share * guess', 'were averaged'),
      ('def mix(true, guess, share, rng): return torch.where(torch.rand(1, true.shape[1], 1, generator=rng) < share, guess, true)', 'draw for each picture')]),
    '09_generation': ('''
def chances(logits, temperature, top):
    best = logits.topk(top).indices
    kept = torch.full_like(logits, float('-inf')).index_copy(0, best, logits[best])
    return (kept / temperature).softmax(-1)
''', [('def chances(logits, temperature, top):\n    p = (logits / temperature).softmax(-1)\n    return p * (p >= p.topk(top).values[-1])', 'no longer sum to one'),
      ('def chances(logits, temperature, top):\n    best = logits.topk(top).indices\n    return (torch.full_like(logits, float("-inf")).index_copy(0, best, logits[best]) * temperature).softmax(-1)', 'do not multiply')]),
    '15c_speed': ('''
from statistics import median
def speedup(slow, fast): return median(s / f for s, f in zip(slow, fast))
''', [('def speedup(slow, fast): return sum(slow) / sum(fast)', 'Take the median'),
      ('from statistics import median\ndef speedup(slow, fast): return median(slow) / median(fast)', 'in each round first')]),
    '10_training': ('''
def whole_loss(losses, sizes): return sum(l * n for l, n in zip(losses, sizes)) / sum(sizes)
''', [('def whole_loss(losses, sizes): return sum(losses) / len(losses)', 'weigh each part')]),
    '11_evaluation': ('''
def exchanged(n, rng):
    order = torch.randperm(n, generator=rng)
    found = torch.empty(n, dtype=torch.long)
    found[order] = order.roll(1)
    return found
''', [('def exchanged(n, rng): return torch.randperm(n, generator=rng)', 'stay where they are'),
      ('def exchanged(n, rng): return (torch.arange(n) + 1).clamp_max(n - 1)', 'exactly once')]),
    '11b_learning_curves': ('''
def share(samples, tasks, task): return samples * tasks.count(task) / len(tasks)
''', [('def share(samples, tasks, task): return samples / len(tasks)', 'drawn twice as often'),
      ('def share(samples, tasks, task): return samples / tasks.count(task) if task in tasks else 0', 'two tasks halve')]),
    '10b_presets': ('''
def bytes_needed(trained, frozen, frozen_bytes=2): return 16 * trained + frozen_bytes * frozen
''', [('def bytes_needed(trained, frozen, frozen_bytes=2): return 16 * (trained + frozen)', 'neither gradients nor moments'),
      ('def bytes_needed(trained, frozen, frozen_bytes=2): return 12 * trained + frozen_bytes * frozen', 'two moments')]),
    '15d_command_line': ('''
def setting(text):
    key, equals, value = text.partition('=')
    if not key or not equals: raise ValueError(f'setting {text!r}: expected key=value')
    return key, value
''', [('def setting(text):\n    key, value = text.split("=")\n    return key, value', 'split at the first one'),
      ('def setting(text):\n    key, equals, value = text.partition("=")\n    if not key or not equals: raise ValueError("expected key=value")\n    return key, value', 'name the text'),
      ('def setting(text):\n    key, _, value = text.partition("=")\n    return key, value', 'was accepted')]),
    '03a_classical': ('''
def median3(images):
    around = torch.nn.functional.pad(images, (1, 1, 1, 1), mode='replicate')
    return around.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4).median(-1).values
''', [('def median3(images): return torch.nn.functional.avg_pool2d(torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)', 'a median drops it'),
      ('def median3(images): return torch.nn.functional.pad(images, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1).flatten(4).median(-1).values', 'zeros outside')]),
    '03b_perceptual': ('''
def frechet_of_one(mean_a, std_a, mean_b, std_b): return (mean_a - mean_b) ** 2 + (std_a - std_b) ** 2
''', [('def frechet_of_one(mean_a, std_a, mean_b, std_b): return (mean_a - mean_b) ** 2 + std_a ** 2 + std_b ** 2', 'what do the spreads add'),
      ('def frechet_of_one(mean_a, std_a, mean_b, std_b): return abs(mean_a - mean_b) + abs(std_a - std_b)', 'squared difference'),
      ('def frechet_of_one(mean_a, std_a, mean_b, std_b): return (mean_a - mean_b) ** 2 + abs(std_a ** 2 - std_b ** 2)', 'not variances')]),
    '09a_task_models': ('''
def server(task, top, inner): return task if task in inner else 'top' if task in top else None
''', [("def server(task, top, inner): return 'top' if task in top else task if task in inner else None", 'goes before the top'),
      ("def server(task, top, inner): return task if task in inner else 'top'", 'not a guess')]),
    '11a_failures': ('''
def best_positions(error):
    from scipy.optimize import linear_sum_assignment
    return linear_sum_assignment(error)[1]
''', [('def best_positions(error): return error.argmin(1)', 'two patches were put in one position'),
      ('def best_positions(error): return error.argmin(0)', 'a patch for each position'),
      ('def best_positions(error):\n    taken = []\n    for row in error.tolist(): taken.append(min((j for j in range(len(row)) if j not in taken), key=row.__getitem__))\n    return taken', 'best over all')]),
    '12b_task_tokens': ('''
def obeyed(own, tokens): return (tokens > own)[~torch.eye(len(own), dtype=torch.bool)].float().mean()
''', [('def obeyed(own, tokens): return (tokens > own).float().mean()', 'on the diagonal'),
      ('def obeyed(own, tokens): return (tokens < own)[~torch.eye(len(own), dtype=torch.bool)].float().mean()', 'larger PSNR is closer')]),
    '15a_tiles': ('''
def beginnings(length, tile, overlap):
    return [*range(0, length - tile, tile - overlap), length - tile]
''', [('def beginnings(length, tile, overlap): return list(range(0, length, tile - overlap))', 'beyond the picture'),
      ('def beginnings(length, tile, overlap): return list(range(0, length - tile + 1, tile - overlap))', 'is not covered'),
      ('def beginnings(length, tile, overlap): return [*range(0, length - tile + 1, tile - overlap), length - tile]', 'stands there twice')]),
    '15b_image_files': ('''
def upright(size, orientation): return size[::-1] if orientation >= 5 else size
''', [('def upright(size, orientation): return size[::-1] if orientation in (6, 8) else size', 'orientation 5 is shown as 4x6'),
      ('def upright(size, orientation): return size', 'orientation 5')]),
    '13e_vision_trials': ('''
def numbers_to_write(picture, patch, width): return ((picture // patch) ** 2 + 1) * width
''', [('def numbers_to_write(picture, patch, width): return (picture // patch) ** 2 * width', 'class token'),
      ('def numbers_to_write(picture, patch, width): return (picture // patch + 1) * width', 'rows and columns')]),
    '12_adapter_weights': ('''
def weighted_share(product, deviations):
    squares = (product * deviations).square()
    return squares.diagonal().sum() / squares.sum()
''', [('def weighted_share(product, deviations): return (product * deviations[:, None]).square().diagonal().sum() / (product * deviations[:, None]).square().sum()', 'rows were weighted'),
      ('def weighted_share(product, deviations): return (product * deviations).abs().diagonal().sum() / (product * deviations).abs().sum()', 'weights first, then squares')]),
    '13a_fair_comparisons': ('''
def paired(a, b):
    from scipy.stats import t
    d = torch.tensor(a).double() - torch.tensor(b).double()
    return d.mean().item(), (t.ppf(.975, len(d) - 1) * d.std() / len(d) ** .5).item()
''', [('def paired(a, b):\n    d = torch.tensor(a) - torch.tensor(b)\n    return d.mean().item(), (1.96 * d.std() / len(d) ** .5).item()', 'two degrees of freedom'),
      ('def paired(a, b):\n    a, b = torch.tensor(a), torch.tensor(b)\n    return (a - b).mean().item(), (4.303 * ((a.var() + b.var()) / len(a)) ** .5).item()', 'take the differences first')]),
    '13_ablations': ('''
def shuffle(weight, rng): return weight.flatten()[torch.randperm(weight.numel(), generator=rng)].view_as(weight)
''', [('def shuffle(weight, rng): return weight[torch.randperm(len(weight), generator=rng)]', 'of low rank'),
      ('def shuffle(weight, rng): return weight.mean() + weight.std() * torch.randn(weight.shape, generator=rng)', 'not the same entries'),
      ('def shuffle(weight, rng): return weight.flatten()[torch.randperm(weight.numel())].view_as(weight)', 'the same generator')]),
    '13b_heads': ('''
def asked_for(values, chances, loss):
    if loss == 'squared': return (values * chances).sum()
    order = values.argsort()
    return values[order][(chances[order].cumsum(0) >= .5).nonzero()[0, 0]]
''', [("def asked_for(values, chances, loss): return (values * chances).sum() if loss == 'squared' else values[chances.argmax()]", 'not the likeliest'),
      ("def asked_for(values, chances, loss): return values.mean() if loss == 'squared' else values.median()", 'chances as weights')]),
    '13c_experts': ('''
def numbers_of_mlp(width, inside): return 2 * width * inside + inside + width
''', [('def numbers_of_mlp(width, inside): return 2 * width * inside', 'each layer has a bias'),
      ('def numbers_of_mlp(width, inside): return 2 * (width * inside + inside)', 'the second bias')]),
    '04b_vq_and_beit': ('''
def nearest_code(latents, codes): return (codes.square().sum(1) - 2 * latents @ codes.T).argmin(1)
''', [('def nearest_code(latents, codes): return (latents @ codes.T).argmax(1)', 'a long code wins'),
      ('def nearest_code(latents, codes): return (latents[:, None] - codes).abs().amax(-1).argmin(1)', 'Euclidean')]),
    '04d_v2l_tokenizer': ('''
def perplexity(ids):
    share = torch.bincount(ids).double() / len(ids)
    share = share[share > 0]
    return (-(share * share.log()).sum()).exp()
''', [('def perplexity(ids): share = torch.bincount(ids) / len(ids); return (-(share * share.log()).sum()).exp()', '0 log 0'),
      ('def perplexity(ids): return len(ids.unique())', 'entropy in nats')]),
    '13g_in_context': ('''
def majority(outputs):
    from collections import Counter
    return torch.tensor([[Counter(place).most_common(1)[0][0] for place in zip(*rows)] for rows in outputs.tolist()])
''', [('def majority(outputs): return outputs.mode(1).values', 'takes the smallest number'),
      ('def majority(outputs): return outputs[:, 0]', 'most frequent word of each place'),
      ('def majority(outputs): return outputs.flatten(1).mode(1).values', '(B, m)')]),
    '09b_guided_attention': ('''
import torch
def guide_loss(shares, columns, groups):
    logs = shares[:, torch.arange(len(columns)), columns].log().mean(1)
    return -logs.view(groups, -1).amax(1).mean()
''', [('import torch\ndef guide_loss(shares, columns, groups): return -shares[:, torch.arange(len(columns)), columns].log().mean()', 'one head of each group'),
      ('import torch\ndef guide_loss(shares, columns, groups): return -shares[:, torch.arange(len(columns)), columns].log().mean(1).max()', 'leaves the other groups'),
      ('import torch\ndef guide_loss(shares, columns, groups): return -shares[:, torch.arange(len(columns)), columns].mean(1).log().view(groups, -1).amax(1).mean()', 'not the logarithm of the mean')]),
    '09c_linear_copy': ('''
import torch
def white_basis(x):
    variances, directions = torch.linalg.eigh(torch.cov(x.T))
    return x.mean(0), directions / variances.sqrt()
''', [('import torch\ndef white_basis(x): return x.mean(0), torch.diag(1 / x.std(0))', 'still vary together'),
      ('import torch\ndef white_basis(x): return torch.zeros(4), torch.eye(4)', 'not taken off'),
      ('import torch\ndef white_basis(x):\n    variances, directions = torch.linalg.eigh(torch.cov(x.T))\n    return x.mean(0), directions / variances', 'square root')]),
    '13n_guided': ('''
def extra_help(guided, plain, guided_random, plain_random):
    return ((guided - plain) - (guided_random - plain_random)).mean()
''', [('def extra_help(guided, plain, guided_random, plain_random): return (guided - guided_random).mean()', 'not level before'),
      ('def extra_help(guided, plain, guided_random, plain_random): return (guided - plain).mean()', 'take that off')]),
    '13i_rotation': ('''
def shuffle_patches(images, order):
    patches = to_patches(images).movedim(4, 3)
    return from_patches(patches.flatten(2, 3)[:, :, order].unflatten(2, patches.shape[2:4]).movedim(3, 4))
''', [('def shuffle_patches(images, order):\n    p = to_patches(images).movedim(4, 3)\n'
       '    return from_patches(p.flatten(2, 3)[:, :, order.argsort()].unflatten(2, p.shape[2:4]).movedim(3, 4))', 'the other way'),
      ('def shuffle_patches(images, order):\n    p = to_patches(images)\n    return from_patches(p[:, :, order % 4])', 'leave a picture')]),
    '04e_decoders': ('''
def gather_tokens(features, side):
    squares = features.unflatten(3, (side, -1)).unflatten(2, (side, -1))
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
''', [('def gather_tokens(f, side): return f.reshape(len(f), side * side, -1)', 'cuts the map into strips'),
      ('def gather_tokens(f, side): return f.flatten(2).transpose(1, 2)', 'expected 4 tokens')]),
    '04f_picture_words': ('''
def kept_columns(similarities, top): return similarities.topk(top, 1).indices.unique().tolist()
''', [('def kept_columns(s, top): return s.topk(top, 1).indices.flatten().tolist()', 'only the column'),
      ('def kept_columns(s, top): return s.max(0).values.topk(top).indices.sort().values.tolist()', 'the two largest of each row')]),
    '13j_filling': ('''
def right_share(filled, ids, hidden): return ((filled == ids) & hidden).sum(1) / hidden.sum(1)
''', [('def right_share(filled, ids, hidden): return (filled == ids).float().mean(1)', 'count the hidden ones alone'),
      ('def right_share(filled, ids, hidden): return (filled == ids)[hidden].float().mean()', 'one share for each picture')]),
    '13k_classification': ('''
def kind_by_sum(kinds, examples, query):
    shared = {kind: sum(len(set(words) & set(query)) for words, own in examples if own == kind) for kind in kinds}
    return max(kinds, key=shared.get)
''', [('def kind_by_sum(kinds, examples, query): return max(examples, key=lambda e: len(set(e[0]) & set(query)))[1]', 'over all examples of a kind'),
      ('def kind_by_sum(kinds, examples, query): return max(reversed(kinds), key=lambda k: sum(len(set(w) & set(query)) for w, own in examples if own == k))', 'the kind that comes first')]),
    '13l_pointing': ('''
def surely_brightest(means, margin):
    top = means.topk(2)
    return torch.where(top.values[:, 0] - top.values[:, 1] >= margin, top.indices[:, 0], -1)
''', [('def surely_brightest(means, margin): return means.argmax(1)', 'else -1'),
      ('def surely_brightest(means, margin): return torch.where(means.max(1).values >= margin, means.argmax(1), -1)', 'else -1')]),
    '13m_captions': ('''
def mean_over_kinds(truths, guesses):
    right = lambda kind: [g == kind for t, g in zip(truths, guesses) if t == kind]
    shares = [sum(right(kind)) / len(right(kind)) for kind in sorted(set(truths))]
    return sum(shares) / len(shares)
''', [('def mean_over_kinds(truths, guesses): return sum(t == g for t, g in zip(truths, guesses)) / len(truths)', '0.5, not 0.8'),
      ('def mean_over_kinds(truths, guesses): return sum(guesses.count(k) == truths.count(k) for k in set(truths)) / len(set(truths))', '0.5, not 0.8')]),
    '13h_naming': ('''
def share_of_kinds(confusion):
    right = sum(n for truth, guess, n in confusion if truth.split()[-1] == guess.split()[-1])
    return right / sum(n for _, _, n in confusion)
''', [('def share_of_kinds(c): return sum(n for t, g, n in c if t == g) / sum(n for _, _, n in c)', 'strength does not matter'),
      ('def share_of_kinds(c): return sum(t.split()[-1] == g.split()[-1] for t, g, n in c) / len(c)', 'counts as often')]),
    '06a_other_adapters': ('''
def hidden_layer_adapters(feature_dim, hidden_size):
    made = Adapters(feature_dim, hidden_size)
    made.adapter = nn.Sequential(nn.Linear(feature_dim, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))
    return made
''', [('def hidden_layer_adapters(feature_dim, hidden_size): return Adapters(feature_dim, hidden_size)', 'still affine'),
      ('def hidden_layer_adapters(d, h):\n    made = Adapters(d, h)\n    made.adapter = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, h))\n'
       '    made.deadapter = nn.Sequential(nn.Linear(h, d))\n    return made', 'stay an affine map')]),
    '08a_storing': ('''
def different(a, b): return [part for part in ('llm', 'vision') if a[f'{part}_fingerprint'] != b[f'{part}_fingerprint']]
''', [("def different(a, b): return [part for part in ('llm', 'vision') if a[part] != b[part]]", 'compare fingerprints'),
      ("def different(a, b): return ['llm'] * (a['llm_fingerprint'] != b['llm_fingerprint'])", 'went unnoticed')]),
    '11c_scoring': ('''
def pooled_psnr(errors): return -10 * errors.mean().log10()
''', [('def pooled_psnr(errors): return (-10 * errors.log10()).mean()', 'average the errors first'),
      ('def pooled_psnr(errors): return -20 * errors.mean().log10()', 'expected 22.97')]),
    '15g_answers': ('''
def drawn_share(records): return sum('<image>' in r['conversations'][-1]['value'] for r in records) / len(records)
''', [('def drawn_share(records): return sum("<image>" in str(r) for r in records) / len(records)', 'look at the last turn'),
      ('def drawn_share(records): return sum(r["conversations"][-1]["value"] == "<image>" for r in records) / len(records)', 'two of four')]),
    '14_verdicts': ('''
def verdict(mean, half, samples, seeds):
    from lm4lv.ablations.verdicts import MINIMUM
    if samples < MINIMUM['samples'] or seeds < MINIMUM['seeds'] or abs(mean) <= half: return 'cannot tell'
    return 'holds' if mean > 0 else 'does not hold'
''', [("def verdict(mean, half, samples, seeds): return 'cannot tell' if abs(mean) <= half else 'holds' if mean > 0 else 'does not hold'", 'too few samples'),
      ("def verdict(mean, half, samples, seeds): return 'holds' if mean > 0 else 'does not hold'", 'whatever its middle')]),
}
